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
	"github.com/navvy-run/navvy/cluster/work"
)

// queuePart is a queue of the cluster's server, with its service.
type queuePart struct{ spec *navvy.Spec }

func (p *queuePart) put(ctx context.Context, s *site, r *driver.Resource) error {
	if err := s.dropSide(); err != nil { // it was a broker's
		return err
	}
	delete(s.record.Data, "side")
	return s.withServer(ctx, func(c *client.Client) error {
		return work.PutQueue(ctx, c, r.Name, p.spec)
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
	work.Broker
	side string
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
	if err := s.d.o.OpenQueue(ctx, p.URL, p.Connection, false); err != nil {
		return fmt.Errorf("%s: %w", p.Shown, err)
	}
	path := s.urlFile(p.side)
	if err := makeDir(s.path(secretsDir)); err != nil {
		return err
	}
	if err := unit.WriteFile(connectionFile(path), []byte(p.Connection)); err != nil {
		return err
	}
	return unit.WriteFile(path, []byte(p.URL+"\n"))
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
	return fmt.Errorf("%w: %w", errServerAway, err)
}

// removeQueue removes a queue of the server's with its settings; of a broker's only what is
// kept of it here: others may use it, and there may be messages in it.
func (s *site) removeQueue(ctx context.Context) error {
	if s.record.Data["side"] != "" {
		return s.dropSide()
	}
	return s.withoutServer(s.withServer(ctx, func(c *client.Client) error {
		return work.RemoveQueue(ctx, c, s.record.ID.Name)
	}))
}
