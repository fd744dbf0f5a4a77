// Package ssh is the provider of clusters whose workers are on machines that are reached by
// ssh. The server, its queues, files and monitor are on this machine, as package cluster/local
// has them; a process here keeps tunnels open, by which the workers reach the server.
//
// A host needs no root and no navvy: the program is copied there, into a directory of the
// cluster's own, which bears its mark.
package ssh

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/cluster/driver"
	"github.com/navvy-run/navvy/cluster/local"
	"github.com/navvy-run/navvy/cluster/ssh/link"
)

// Options are what the provider wants to know of its surroundings.
type Options struct {
	// Local is for what is on this machine. Its Folder and Elsewhere are set here.
	Local local.Options
	// User signs in on hosts of which the file does not say who does.
	User string
	// Home is the user's directory, with .ssh in it.
	Home string
	// Agent is the socket of ssh-agent; empty for none.
	Agent string
	// Tunnel is the command of what keeps the tunnels open, see RunTunnels: a directory is
	// added to it.
	Tunnel []string
	// Program is what is copied to hosts. Defaults to Local.Navvy.
	Program string
	// Slots are how many tasks each worker runs at once, as worker start has it. Defaults to
	// what the file says.
	Slots string
}

// folder is where clusters are in the directory of state.
const folder = "navvy-ssh"

// Driver is the provider ssh.
type Driver struct {
	*local.Driver
	hosts *hosts
}

var (
	_ driver.Driver    = (*Driver)(nil)
	_ driver.Gauger    = (*Driver)(nil)
	_ driver.Forgetter = (*Driver)(nil)
	_ local.Elsewhere  = (*hosts)(nil)
)

// New makes the provider. Nobody is called before a cluster is looked at.
func New(o Options) *Driver {
	o.Program = cmp.Or(o.Program, o.Local.Navvy)
	h := &hosts{o: &o, conns: map[string]*call{}, away: map[string]error{}, trees: map[string]*sync.Mutex{}}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	o.Local.Folder, o.Local.Elsewhere = folder, h
	return &Driver{local.New(o.Local), h}
}

// Close implements driver.Driver.
func (d *Driver) Close() error {
	d.hosts.close()
	return d.Driver.Close()
}

// Forget implements driver.Forgetter.
func (d *Driver) Forget(_ context.Context, cluster string, o *driver.Observed) error {
	return d.Drop(cluster, o.ID)
}

// hosts has what is on them.
type hosts struct {
	o      *Options
	ctx    context.Context //nolint:containedctx // calls outlive whoever made them first
	cancel context.CancelFunc

	mu    sync.Mutex
	conns map[string]*call
	away  map[string]error       // hosts that did not answer since somebody looked anew
	sum   string                 // of the program, once it is known
	table sync.Mutex             // around changes of the table of tunnels
	trees map[string]*sync.Mutex // around copies of what services find, by host
}

// call is one that has a connection, or waits for it.
type call struct {
	done chan struct{} // closed when it is known
	conn *link.Conn
	err  error
}

// place is a host with the way there.
type place struct {
	Text string       `json:"text"` // as the file has it
	Host link.Host    `json:"host"`
	Link link.Options `json:"link"`
}

// anew calls hosts again that did not answer: whoever looks at a cluster, as all do who change it,
// pays for a dead host once, and not for each thing on it.
func (h *hosts) anew() {
	h.mu.Lock()
	defer h.mu.Unlock()
	clear(h.away)
}

// note remembers a host that does not answer.
func (h *hosts) note(p *place, err error) {
	if !errors.Is(err, navvy.ErrUnavailable) {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.away[p.key()] = err
}

// connect gives a connection to a host. Those who ask at once wait for the same one.
func (h *hosts) connect(ctx context.Context, p *place) (*link.Conn, error) {
	key := p.key()
	h.mu.Lock()
	if err := h.away[key]; err != nil {
		h.mu.Unlock()
		return nil, fmt.Errorf("host %s: %w", p.Text, err)
	}
	c := h.conns[key]
	if c == nil || c.over() {
		c = &call{done: make(chan struct{})}
		h.conns[key] = c
		go func() {
			defer close(c.done)
			c.conn, c.err = link.Dial(h.ctx, p.Host, &p.Link)
		}()
	}
	h.mu.Unlock()
	select {
	case <-c.done:
	case <-ctx.Done():
		return nil, fmt.Errorf("host %s: %w", p.Text, context.Cause(ctx))
	}
	if c.err != nil {
		h.note(p, c.err)
		return nil, fmt.Errorf("host %s: %w", p.Text, c.err)
	}
	return c.conn, nil
}

// over tells whether a call has come to nothing, or its connection has ended.
func (c *call) over() bool {
	select {
	case <-c.done:
	default:
		return false
	}
	if c.err != nil {
		return true
	}
	select {
	case <-c.conn.Dead():
		return true
	default:
		return false
	}
}

// key tells ways to hosts apart.
func (p *place) key() string {
	return strings.Join(append([]string{p.Host.String(), p.Link.Identity, p.Link.Agent}, p.Link.KnownHosts...), "\x00")
}

// safe is the name of a host as that of a file.
func (p *place) safe() string { return safeName(p.Text) }

func safeName(text string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-@", r) {
			return r
		}
		return '_'
	}, text)
}

// treeOf is held by whoever copies what services find to a host.
func (h *hosts) treeOf(p *place) *sync.Mutex {
	h.mu.Lock()
	defer h.mu.Unlock()
	one := h.trees[p.Text]
	if one == nil {
		one = new(sync.Mutex)
		h.trees[p.Text] = one
	}
	return one
}

// close ends all connections.
func (h *hosts) close() {
	h.cancel()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.conns {
		<-c.done
		if c.conn != nil {
			_ = c.conn.Close() // it may have ended long ago
		}
	}
	clear(h.conns)
}

// program is the sum of navvy's own program, which is copied.
func (h *hosts) program() (string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.sum != "" {
		return h.sum, nil
	}
	f, err := os.Open(h.o.Program)
	if err != nil {
		return "", fmt.Errorf("navvy's own program: %w: %w", err, navvy.ErrNotFound)
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", fmt.Errorf("navvy's own program: %w", err)
	}
	h.sum = hex.EncodeToString(sum.Sum(nil))
	return h.sum, nil
}

// place finds the way to a host of a file.
func (h *hosts) place(text, identity, known string) (*place, error) {
	host, err := link.ParseHost(text, h.o.User)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(h.o.Home, ".ssh")
	p := &place{Text: text, Host: host, Link: link.Options{Identity: identity, Agent: h.o.Agent}}
	for _, name := range []string{"id_ed25519", "id_ecdsa", "id_rsa"} {
		p.Link.Identities = append(p.Link.Identities, filepath.Join(dir, name))
	}
	p.Link.KnownHosts = []string{filepath.Join(dir, "known_hosts"), "/etc/ssh/ssh_known_hosts"}
	if known != "" {
		p.Link.KnownHosts = []string{known}
	}
	return p, nil
}
