package ssh

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/cluster/local"
	"github.com/navvy-run/navvy/cluster/ssh/link"
	"github.com/navvy-run/navvy/cluster/unit"
)

// How long what is done on a host may take that answers.
const (
	lookTime = time.Minute
	doTime   = 15 * time.Minute
)

// seen is what there is of a cluster on a host.
type seen struct {
	system string // of uname -sm
	dir    string
	env    map[string]string
	there  bool   // the directory is
	ours   bool   // it bears the cluster's mark
	whose  string // the mark that it bears
	sum    string // of the program

	workers map[string]*local.Identity
	tokens  map[string]bool
	files   map[string]bool
	logs    map[string]string     // last lines
	units   map[string]unit.State // nil if the program is not what it should be, and was not asked
}

// markText is what says whose a directory is.
func markText(s *local.Site) string { return "navvy cluster " + s.Name() + " " + s.Key() }

// look looks at a host, of which the program has a sum.
func (h *hosts) look(ctx context.Context, s *local.Site, p *place, sum string) (*seen, error) {
	ctx, cancel := within(ctx, lookTime)
	defer cancel()
	out, err := h.run(ctx, p, lookScript, []string{s.Name(), p.safe(), markText(s), sum}, nil)
	if err != nil {
		return nil, err
	}
	n, err := parseSeen(out, markText(s))
	if err != nil {
		return nil, fmt.Errorf("host %s: %w", p.Text, err)
	}
	return n, nil
}

// lookToEnd looks at a host where something is to be ended: a program that is damaged is copied
// again for that.
func (h *hosts) lookToEnd(ctx context.Context, s *local.Site, r *local.Record) (*place, *seen, error) {
	p, err := h.keptPlace(r.Data)
	if err != nil {
		return nil, nil, err
	}
	n, err := h.look(ctx, s, p, r.Data[dataSum])
	if err != nil || !n.ours || n.units != nil {
		return p, n, err
	}
	sum, err := h.program()
	if err == nil && n.sum != sum {
		err = h.copyProgram(ctx, p, n.dir, sum)
	}
	if err == nil {
		n, err = h.look(ctx, s, p, sum)
	}
	return p, n, err
}

// errSilent says that a host is there, and no more.
var errSilent = errors.New("signed in and does not answer")

// within bounds what is done on a host: one that takes longer is one that does not answer.
func within(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, d, fmt.Errorf("it %w for %s: %w", errSilent, d, navvy.ErrUnavailable))
}

// awayError is of a host on which nothing can be done: it does not answer, lets nobody in, is not
// trusted, or lets navvy in and says no more (errSilent).
type awayError struct{ err error }

// Error implements error.
func (e *awayError) Error() string { return e.err.Error() }

// Unwrap gives what it is.
func (e *awayError) Unwrap() error { return e.err }

// away tells whether nothing can be done on a host.
func away(err error) bool {
	_, is := errors.AsType[*awayError](err)
	return is
}

// lost tells whether nobody can sign in on a host. One that lets navvy in and says no more is alive:
// it may have much to do.
func lost(err error) bool { return away(err) && !errors.Is(err, errSilent) }

// aside marks what says that nothing can be done on a host, and not what says that of this machine.
func aside(err error) error {
	_, here := errors.AsType[*link.HereError](err)
	if !here && (errors.Is(err, navvy.ErrUnavailable) || errors.Is(err, navvy.ErrDenied)) {
		return &awayError{err}
	}
	return err
}

// run runs a script on a host. The error is an *awayError if that does not come to it.
func (h *hosts) run(ctx context.Context, p *place, script string, args []string, in io.Reader) ([]byte, error) {
	ctx, cancel := within(ctx, doTime)
	defer cancel()
	c, err := h.connect(ctx, p)
	if err != nil {
		return nil, aside(err)
	}
	out, err := c.Run(ctx, script, args, in)
	switch {
	case err == nil:
		return out, nil
	case errors.Is(err, errSilent):
		h.note(p, err)
		return out, aside(fmt.Errorf("host %s: %w", p.Text, err))
	case errors.Is(err, navvy.ErrUnavailable) && !c.Lives():
		// A connection may end for many a reason: the host is away if it does not answer another call.
		if _, gone := h.connect(ctx, p); gone != nil {
			return out, aside(gone)
		}
	}
	return out, fmt.Errorf("host %s: %w", p.Text, err)
}

// parseSeen reads what lookScript has written. The error wraps navvy.ErrCorrupt.
func parseSeen(out []byte, mark string) (*seen, error) {
	n := &seen{env: map[string]string{}, workers: map[string]*local.Identity{}, tokens: map[string]bool{}, files: map[string]bool{}, logs: map[string]string{}}
	in := bufio.NewReader(bytes.NewReader(out))
	for {
		text, err := in.ReadString('\n')
		if errors.Is(err, io.EOF) && text == "" {
			break
		}
		word, rest, _ := strings.Cut(strings.TrimSuffix(text, "\n"), " ")
		if word == "units" {
			if err := n.readUnits(in); err != nil {
				return nil, err
			}
			break
		}
		n.note(word, rest, mark)
	}
	if n.system == "" || !strings.HasPrefix(n.dir, "/") {
		return nil, fmt.Errorf("its shell does not say what it is asked, but %.200q: does its start-up file write something? %w", out, navvy.ErrCorrupt)
	}
	return n, nil
}

// note takes a line.
func (n *seen) note(word, rest, mark string) {
	first, second, _ := strings.Cut(rest, " ")
	switch word {
	case "system":
		n.system = rest
	case "dir":
		n.dir = rest
	case "env":
		n.env[first] = second
	case "there":
		n.there = true
	case "whose":
		n.whose, n.ours = rest, rest == mark
	case "sum":
		n.sum = rest
	case "worker":
		n.workers[rest] = &local.Identity{}
	case "token":
		n.tokens[rest] = true
	case "files":
		n.files[rest] = true
	case "log":
		n.logs[first] = second
	case "pem":
		file, text, _ := strings.Cut(second, " ")
		id := n.workers[first]
		switch {
		case id == nil:
		case file == "ca.crt":
			id.CA = append(id.CA, text+"\n"...)
		case file == "worker.crt":
			id.Cert = append(id.Cert, text+"\n"...)
		}
	}
}

// readUnits reads what the program on the host tells of its units.
func (n *seen) readUnits(in io.Reader) error {
	n.units = map[string]unit.State{}
	for lines := json.NewDecoder(in); ; {
		var state unit.State
		err := lines.Decode(&state)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("what it tells of its units: %w: %w", err, navvy.ErrCorrupt)
		}
		n.units[state.Name] = state
	}
}

// systems are what uname says of machines that navvy is built for.
var systems = map[string]string{
	"linux/amd64": "Linux x86_64", "linux/arm64": "Linux aarch64", "linux/386": "Linux i686", "linux/arm": "Linux armv7l",
	"linux/riscv64": "Linux riscv64", "linux/ppc64le": "Linux ppc64le", "linux/s390x": "Linux s390x",
}

// fits refuses a host that cannot run this program.
func (n *seen) fits(p *place) error {
	own := runtime.GOOS + "/" + runtime.GOARCH
	want := systems[own]
	if n.system == want || want == "Linux aarch64" && n.system == "Linux arm64" {
		return nil
	}
	return fmt.Errorf("host %s: it is %s, and this navvy, which would be copied there, is for %s (%s): use hosts of one kind, and apply from one of them: %w",
		p.Text, n.system, want, own, navvy.ErrUnsupported)
}
