package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/cluster/driver"
	"github.com/navvy-run/navvy/cluster/unit"
)

// queuePart is a queue of the cluster's server, with its service.
type queuePart struct{ spec *navvy.Spec }

func (p *queuePart) put(ctx context.Context, s *site, r *driver.Resource) error {
	if err := s.dropSide(); err != nil { // it was a broker's
		return err
	}
	delete(s.record.Data, "side")
	return s.withServer(ctx, func(c *client.Client) error {
		change := client.QueueChange{Work: p.spec, Create: true}
		_, err := c.SetQueue(ctx, r.Name, change)
		if errors.Is(err, navvy.ErrExists) {
			change.Create = false
			_, err = c.SetQueue(ctx, r.Name, change)
		}
		if err != nil {
			return err
		}
		if _, err = c.ResumeQueue(ctx, r.Name); errors.Is(err, navvy.ErrNotFound) {
			err = nil // it was removed by hand just now; the next plan tells
		}
		return err
	})
}

// The sides of a broker.
const (
	requestSide  = "requests"
	responseSide = "responses"
)

// brokerPart is a queue of a broker's. It bears no mark, may be that of several clusters, and
// is made if it is missing, and never removed.
type brokerPart struct {
	url, connection string
	variable        string // where the connection string goes
	shown           string // the URL without what may be secret
	side            string
}

// urlFile is where the URL of a side is, for this user alone.
func (s *site) urlFile(side string) string { return s.path(secretsDir, side+".url") }

func connectionFile(path string) string { return path + ".connection" }

func (p *brokerPart) put(ctx context.Context, s *site, _ *driver.Resource) error {
	// Before all else: what had this side until now may be removed even if this fails.
	s.record.Data["side"] = p.side
	if err := s.writeMade(s.record); err != nil {
		return err
	}
	if err := s.d.o.OpenQueue(ctx, p.url, p.connection, false); err != nil {
		return fmt.Errorf("%s: %w", p.shown, err)
	}
	path := s.urlFile(p.side)
	if err := makeDir(s.path(secretsDir)); err != nil {
		return err
	}
	if err := unit.WriteFile(connectionFile(path), []byte(p.connection)); err != nil {
		return err
	}
	return unit.WriteFile(path, []byte(p.url+"\n"))
}

// dropSide removes what is kept of a broker's queue, unless another one has its side by now:
// workers read it there.
func (s *site) dropSide() error {
	side := s.record.Data["side"]
	if side == "" {
		return nil
	}
	list, err := s.all()
	if err != nil {
		return err
	}
	if slices.ContainsFunc(list, func(m *made) bool { return m.ID != s.record.ID && m.Data["side"] == side }) {
		return nil
	}
	path := s.urlFile(side)
	for _, name := range []string{connectionFile(path), path} {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// errServerAway is why the record of what was removed is kept: the server could not be asked, and
// may go, too, or come back with it. Then it is removed once more.
var errServerAway = errors.New("the server is away")

// withoutServer is the error of removing what a server has that does not answer.
func (s *site) withoutServer(err error) error {
	if !errors.Is(err, navvy.ErrUnavailable) {
		return err
	}
	if _, err := os.Stat(s.path(serverDir)); errors.Is(err, fs.ErrNotExist) {
		return nil // it went with the server
	}
	return errServerAway
}

// removeQueue removes a queue of the server's with its settings; of a broker's only what is
// kept of it here: others may use it, and there may be messages in it.
func (s *site) removeQueue(ctx context.Context) error {
	if s.record.Data["side"] != "" {
		return s.dropSide()
	}
	name := s.record.ID.Name
	err := s.withServer(ctx, func(c *client.Client) error {
		err := c.RemoveQueue(ctx, name)
		if !errors.Is(err, navvy.ErrConflict) {
			return err
		}
		// It holds requests back, which may be lost: who removes it was asked.
		for job, err := range c.Jobs(ctx) {
			if err != nil {
				return err
			}
			if job.Queue == name && !job.Status.State().Final() {
				if _, err := c.Stop(ctx, job.ID, "its queue was removed with its cluster"); err != nil && !errors.Is(err, navvy.ErrNotFound) {
					return err
				}
			}
		}
		return c.RemoveQueue(ctx, name)
	})
	if errors.Is(err, navvy.ErrNotFound) {
		return nil
	}
	return s.withoutServer(err)
}
