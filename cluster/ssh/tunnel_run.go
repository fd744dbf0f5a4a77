package ssh

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/navvy-run/navvy/cluster/ssh/link"
	"github.com/navvy-run/navvy/cluster/unit"
	"github.com/navvy-run/navvy/internal/pause"
)

// TunnelOptions are how tunnels are kept open. The zero value is the default.
type TunnelOptions struct {
	// Look is how often the directory is looked at where its changes cannot be watched, as
	// where this user watches too many already. Defaults to a second.
	Look time.Duration
	// FirstPause and LongestPause are between two tries of a tunnel that does not open: they
	// double. Default to 500 ms and 30 s.
	FirstPause, LongestPause time.Duration
	// PortTries is how often a port is asked for that somebody else has, until another one is
	// taken. Defaults to 20.
	PortTries int
	// Logger hears of what opens and ends. Defaults to one that discards.
	Logger *slog.Logger
}

// tunneler keeps the tunnels of a directory open.
type tunneler struct {
	dir     string
	o       TunnelOptions
	running sync.WaitGroup
	open    map[string]*tunnel // by place
	last    fs.FileInfo        // of the table that is followed
}

// RunTunnels keeps the tunnels open that the table of a directory tells of, and follows its
// changes, until ctx ends. Each leads from a port of the loopback of a host to the server.
func RunTunnels(ctx context.Context, dir string, o *TunnelOptions) error {
	t := &tunneler{dir: dir, open: map[string]*tunnel{}}
	if o != nil {
		t.o = *o
	}
	t.o.Look = cmp.Or(t.o.Look, time.Second)
	t.o.FirstPause, t.o.LongestPause = cmp.Or(t.o.FirstPause, 500*time.Millisecond), cmp.Or(t.o.LongestPause, longestPause)
	t.o.PortTries = cmp.Or(t.o.PortTries, 20)
	if t.o.Logger == nil {
		t.o.Logger = slog.New(slog.DiscardHandler)
	}
	defer t.running.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	changes := t.watch()
	defer changes.close()
	for {
		if err := t.look(ctx); err != nil {
			return fmt.Errorf("tunnels: %w", err) // whoever keeps it up tries again
		}
		if !changes.next(ctx) {
			return nil // it was asked to end
		}
	}
}

// look follows the table if that has changed, and has those tunnels try that somebody asks for.
func (t *tunneler) look(ctx context.Context) error {
	info, err := os.Stat(filepath.Join(t.dir, tableName))
	if err != nil {
		return err
	}
	if t.last == nil || !os.SameFile(info, t.last) || !info.ModTime().Equal(t.last.ModTime()) {
		list, err := readTable(filepath.Join(t.dir, tableName))
		if err != nil {
			return err
		}
		t.follow(ctx, list)
		t.last = info
	}
	for _, n := range t.open {
		if os.Remove(askFile(t.dir, n.place)) == nil {
			select {
			case n.asked <- struct{}{}:
			default: // it was asked already
			}
		}
	}
	return nil
}

// follow opens the tunnels that a table has and ends those that it has no more.
func (t *tunneler) follow(ctx context.Context, list *table) {
	wanted, hosts := map[string]bool{}, map[string]bool{}
	for i := range list.Hosts {
		p := &list.Hosts[i]
		hosts[p.Text] = true
		key := list.Server + "\x00" + p.key()
		wanted[key] = true
		if t.open[key] != nil {
			continue
		}
		own, cancel := context.WithCancel(ctx)
		n := &tunnel{place: p, server: list.Server, o: &t.o, file: stateFile(t.dir, p), end: cancel, ended: make(chan struct{}), asked: make(chan struct{}, 1), log: t.o.Logger.With("host", p.Text)}
		t.open[key] = n
		before := t.sameHost(p, key)
		t.running.Go(func() {
			defer close(n.ended)
			if before != nil { // it has the port
				<-before.ended
			}
			n.run(own)
		})
	}
	for key, n := range t.open {
		if !wanted[key] {
			n.gone.Store(!hosts[n.place.Text])
			n.end()
			delete(t.open, key)
		}
	}
}

// sameHost ends another tunnel to a host, as one with another key; nil if there is none.
func (t *tunneler) sameHost(p *place, but string) *tunnel {
	for key, n := range t.open {
		if n.place.Text == p.Text && key != but {
			n.end() // it keeps its port for its successor
			return n
		}
	}
	return nil
}

// tunnel is one to a host.
type tunnel struct {
	place  *place
	server string
	o      *TunnelOptions
	file   string
	end    context.CancelFunc
	ended  chan struct{}
	asked  chan struct{} // somebody waits for it
	gone   atomic.Bool   // the table has it no more
	log    *slog.Logger
	state  tunnelState
	busy   int // tries in a row in which somebody had the port
}

// run keeps it open until ctx ends.
func (n *tunnel) run(ctx context.Context) {
	n.state = readState(n.file)
	n.state = tunnelState{Version: tableVersion, Port: n.state.Port, Keeper: n.state.Keeper}
	n.write()
	pauses := pause.Series{First: n.o.FirstPause, Longest: n.o.LongestPause}
	for ctx.Err() == nil {
		began := time.Now()
		opened, err := n.once(ctx)
		if ctx.Err() != nil {
			break
		}
		n.log.Warn("the tunnel is not open", "error", err)
		n.tell(func(st *tunnelState) { st.Open, st.Error = false, err.Error() })
		if opened && time.Since(began) > n.o.LongestPause {
			pauses.Reset()
		}
		n.pause(ctx, &pauses)
	}
	if n.gone.Load() {
		_ = os.Remove(n.file)
		return
	}
	n.tell(func(st *tunnelState) { st.Open = false })
}

// pause waits between two tries, until the next one or until somebody asks for it.
func (n *tunnel) pause(ctx context.Context, pauses *pause.Series) {
	timer := time.NewTimer(pauses.Next())
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-n.asked:
		pauses.Reset()
	}
}

// tell writes how it is.
func (n *tunnel) tell(change func(*tunnelState)) {
	was := n.state
	if change(&n.state); n.state != was {
		n.write()
	}
}

func (n *tunnel) write() {
	if err := unit.WriteJSON(n.file, &n.state); err != nil {
		n.log.Error("its state cannot be written", "error", err)
	}
}

// errPort says that somebody has the port.
var errPort = errors.New("the port is not to be had")

// once opens it, and returns when it has ended.
func (n *tunnel) once(ctx context.Context) (opened bool, err error) {
	c, err := link.Dial(ctx, n.place.Host, &n.place.Link)
	if err != nil {
		return false, err
	}
	defer c.Close() //nolint:errcheck // it has ended, or is no longer wanted
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	l, err := n.listen(ctx, c)
	if err != nil {
		return false, err
	}
	defer l.Close() //nolint:errcheck // it ends with the connection
	keeper, err := c.Run(ctx, sshdScript, nil, nil)
	if err != nil {
		keeper = nil // it is not of Linux, or hides its processes
	}
	port := l.Addr().(*net.TCPAddr).Port
	n.log.Info("the tunnel is open", "port", port)
	n.tell(func(st *tunnelState) {
		*st = tunnelState{Version: tableVersion, Port: port, Open: true, Keeper: strings.TrimSpace(string(keeper))}
	})
	return true, n.accept(l)
}

// listen has the port of before, whose last holder it ends if that is what is left of a
// connection of ours.
func (n *tunnel) listen(ctx context.Context, c *link.Conn) (net.Listener, error) {
	port := n.state.Port
	if port == 0 {
		l, err := c.Listen(0)
		if err != nil {
			return nil, fmt.Errorf("sshd there does not let its ports lead here (AllowTcpForwarding, PermitListen): %w", err)
		}
		return l, nil
	}
	l, err := c.Listen(port)
	if err == nil {
		n.busy = 0
		return l, nil
	}
	if pid, since, known := strings.Cut(n.state.Keeper, " "); known {
		if _, err := c.Run(ctx, endScript, []string{pid, since}, nil); err != nil {
			n.log.Warn("what is left of the last connection is not ended", "error", err)
		}
	}
	if n.busy++; n.busy >= n.o.PortTries {
		n.busy = 0
		n.log.Warn("another port is taken", "not", port)
		n.state.Port = 0
	}
	return nil, fmt.Errorf("port %d of its loopback: %w: %w", port, errPort, err)
}

// accept joins each connection to one to the server. It returns when the tunnel has ended.
func (n *tunnel) accept(l net.Listener) error {
	var joined sync.WaitGroup
	defer joined.Wait()
	for {
		conn, err := l.Accept()
		if err != nil {
			return fmt.Errorf("the connection has ended: %w", err)
		}
		joined.Go(func() { n.join(conn) })
	}
}

// join copies both ways until one of them ends.
func (n *tunnel) join(there net.Conn) {
	defer there.Close() //nolint:errcheck // it has ended
	const bound = 10 * time.Second
	here, err := net.DialTimeout("tcp", n.server, bound)
	if err != nil {
		n.log.Warn("the server does not answer", "error", err)
		return
	}
	defer here.Close() //nolint:errcheck // likewise
	var both sync.WaitGroup
	both.Go(func() {
		_, _ = io.Copy(here, there)
		_ = here.Close()
	})
	_, _ = io.Copy(there, here)
	_ = there.Close()
	both.Wait()
}
