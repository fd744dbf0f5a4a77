package ssh

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/cluster/driver"
	"github.com/navvy-run/navvy/cluster/local"
	"github.com/navvy-run/navvy/cluster/ssh/link"
)

// hostPart is a host with navvy's program on it.
type hostPart struct {
	place *place
	sum   string
}

// Names on a host, in the cluster's directory.
const (
	programName = "navvy"
	unitsName   = "units"
)

// Keys of what is kept of resources.
const (
	dataPlace = "place" // of a host
	dataSum   = "sum"
	dataOurs  = "ours" // something may be on the host
	dataHost  = "host" // of a worker
	dataUnit  = "unit"
	dataToken = "token"
	dataPort  = "port"
	dataFiles = "files"
	dataWas   = "was" // the files that it works in until it is another unit
)

// keepPlace keeps the way to a host, so that it is found when it is in the file no more.
func keepPlace(data map[string]string, p *place) {
	text, _ := json.Marshal(p) // texts and numbers alone
	data[dataPlace] = string(text)
}

// keptPlace is the way to a host that was kept, with the agent of whoever goes there now: that
// of before may have ended with a login.
func (h *hosts) keptPlace(data map[string]string) (*place, error) {
	p := new(place)
	if err := json.Unmarshal([]byte(data[dataPlace]), p); err != nil || p.Text == "" {
		return nil, fmt.Errorf("the way to it was not kept: %w", navvy.ErrCorrupt)
	}
	p.Link.Agent = cmp.Or(h.o.Agent, p.Link.Agent)
	return p, nil
}

func (p *hostPart) put(ctx context.Context, h *hosts, s *local.Site, _ *driver.Resource) error {
	keepPlace(s.Data(), p.place)
	s.Data()[dataSum] = p.sum
	if err := s.Save(); err != nil {
		return err
	}
	n, err := h.look(ctx, s, p.place, p.sum)
	if err != nil {
		return err
	}
	if err := n.fits(p.place); err != nil {
		return err
	}
	s.Data()[dataOurs] = "yes"
	if err := s.Save(); err != nil {
		return err
	}
	if err := h.claim(ctx, s, p.place, n); err != nil {
		return err
	}
	if n.sum == p.sum {
		return nil
	}
	return h.copyProgram(ctx, p.place, n.dir, p.sum)
}

// claim makes the cluster's directory on a host.
func (h *hosts) claim(ctx context.Context, s *local.Site, p *place, n *seen) error {
	const foreign = 9
	out, err := h.run(ctx, p, claimScript, []string{s.Name(), p.safe(), markText(s)}, nil)
	var exit *link.ExitError
	if errors.As(err, &exit) && exit.Status == foreign {
		return fmt.Errorf("host %s: %s is there (%s): name the cluster otherwise, or remove that: %w", p.Text, n.dir, strings.TrimSpace(string(out)), navvy.ErrExists)
	}
	return err
}

// copyProgram copies navvy's own program to a host, and looks whether it runs there.
func (h *hosts) copyProgram(ctx context.Context, p *place, dir, sum string) error {
	f, err := os.Open(h.o.Program)
	if err != nil {
		return fmt.Errorf("navvy's own program: %w", err)
	}
	defer f.Close()
	if err := h.putFile(ctx, p, dir, programName, sum, "700", f); err != nil {
		return err
	}
	if _, err := h.run(ctx, p, `exec "$1" version`, []string{dir + "/" + programName}, nil); err != nil {
		return fmt.Errorf("navvy does not run there: %w", err)
	}
	return nil
}

// putFile puts a file into the cluster's directory, whole.
func (h *hosts) putFile(ctx context.Context, p *place, dir, name, sum, mode string, in io.Reader) error {
	_, err := h.run(ctx, p, fileScript, []string{dir, name, mode}, io.MultiReader(strings.NewReader(sum+"\n"), in))
	return err
}

// putText puts a small file there for the user alone.
func (h *hosts) putText(ctx context.Context, p *place, dir, name string, text []byte) error {
	sum := sha256.Sum256(text)
	return h.putFile(ctx, p, dir, name, hex.EncodeToString(sum[:]), "600", bytes.NewReader(text))
}

// removeHost removes all that there is of the cluster on a host, what runs first.
func (h *hosts) removeHost(ctx context.Context, s *local.Site) error {
	if s.Data()[dataOurs] == "" {
		return h.dropKept(s) // nobody has ever come there
	}
	p, n, err := h.lookToEnd(ctx, s, &local.Record{Data: s.Data()})
	if err == nil && n.ours {
		err = h.endUnits(ctx, p, n, slices.Sorted(maps.Keys(n.units)))
	}
	if err == nil {
		_, err = h.run(ctx, p, clearScript, []string{s.Name(), p.safe(), markText(s)}, nil)
	}
	if err == nil {
		return h.dropTunnel(s, p)
	}
	if p == nil {
		return err
	}
	return stays(s, p.Text, err, p)
}

// stays says what can be done about a host that is away when something there is to end. It is
// told with all that stays on p; nil if that is told of the host itself. Only one on which nobody
// can sign in is forgotten, and not for a cause on this machine.
func stays(s *local.Site, host string, err error, p *place) error {
	if _, here := errors.AsType[*link.HereError](err); here {
		return fmt.Errorf("%w; the cause is on this machine: no host is forgotten for that, not even by --force", err)
	}
	if !away(err) {
		return err
	}
	err = fmt.Errorf("%w; what is there of the cluster stays until navvy can sign in there; if it is gone for good, remove its record (%s) and do this again",
		err, s.RecordFile(driver.ID{Kind: kindHost, Name: host}))
	if !lost(err) {
		return fmt.Errorf("%w; it lets navvy in, so that not even --force forgets it", err)
	}
	e := &driver.AwayError{Err: fmt.Errorf("%w; cluster destroy --force forgets all such hosts, with the cluster", err)}
	if p != nil {
		dir := hostedDir + "/" + s.Name() + "/" + p.safe()
		e.Left = fmt.Sprintf("on host %s: ~/%s, and the workers that run there, if any", host, dir)
		e.ByHand = p.Host.Command() + " " + link.Quote(byHand(dir))
	}
	return e
}

// byHand is a script that removes what is in a cluster's directory on a host, below the home.
func byHand(dir string) string {
	dir = `"$HOME/` + dir + `"`
	return `cd ` + dir + ` && ./navvy cluster unit rm "$PWD/units" $(ls workers) && cd && chmod -R u+w ` + dir + ` && rm -rf ` + dir
}

// dropKept has no tunnel to a host on which there is nothing.
func (h *hosts) dropKept(s *local.Site) error {
	p, err := h.keptPlace(s.Data())
	if err != nil {
		return nil //nolint:nilerr // there never was one
	}
	return h.dropTunnel(s, p)
}

// endUnits ends units of a host.
func (h *hosts) endUnits(ctx context.Context, p *place, n *seen, names []string) error {
	if len(names) == 0 {
		return nil
	}
	out, err := h.run(ctx, p, `p="$1"; shift; exec "$p" cluster unit rm "$@"`, append([]string{n.dir + "/" + programName, n.dir + "/" + unitsName}, names...), nil)
	return answered(p, out, err)
}

// answered reads what has become of units.
func answered(p *place, out []byte, err error) error {
	for lines := json.NewDecoder(bytes.NewReader(out)); ; {
		var a struct{ Name, Error string }
		if lines.Decode(&a) != nil {
			return err
		}
		if a.Error != "" {
			// Not navvy.ErrUnavailable: the host is alive, and so may the unit be.
			return fmt.Errorf("host %s: unit %s: %s: %w", p.Text, a.Name, a.Error, navvy.ErrConflict)
		}
	}
}

// observePlace tells how a host is that answers.
func observePlace(n *seen, r *local.Record, o *driver.Observed) {
	o.Detail = n.dir
	switch {
	case n.there && !n.ours && n.whose != "":
		o.Health, o.Detail = driver.HealthFailed, n.dir+" is that of "+n.whose
	case n.there && !n.ours:
		o.Health, o.Detail = driver.HealthFailed, n.dir+" bears no mark"
	case n.sum == "":
		o.Properties["program"] = ""
	case n.sum != r.Data[dataSum]:
		o.Properties["program"] = shortSum(n.sum) + " (damaged, or somebody else's)"
	}
}
