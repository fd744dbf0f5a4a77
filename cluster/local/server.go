package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/cluster/config"
	"github.com/navvy-run/navvy/cluster/driver"
	"github.com/navvy-run/navvy/cluster/unit"
	"github.com/navvy-run/navvy/internal/pause"
)

// serverPart is the cluster's navvy server.
type serverPart struct {
	// host and port are where those reach it that are elsewhere; empty and 0 for nobody, or
	// for a port that is chosen.
	host string
	port int
}

// heartbeat is how often workers say that they are there. Those elsewhere have a network that
// may break for a moment; those here are started again at once when they end, and a hundred that
// look at a clock each second cost more than they gain.
const heartbeat = "5s"

// newServerPart tells of a server: where workers are elsewhere and no tunnel leads to it, it can
// be reached.
func newServerPart(c *config.Cluster) *serverPart {
	p := &serverPart{}
	if c.SSH == nil || c.SSH.Server == "" || c.SSH.Tunnel == nil || *c.SSH.Tunnel {
		return p
	}
	p.host = c.SSH.Server
	if host, port, err := net.SplitHostPort(c.SSH.Server); err == nil {
		p.host = host
		p.port, _ = strconv.Atoi(port) // config has looked at it
	}
	return p
}

// listens says for people where the server can be reached.
func (p *serverPart) listens() string {
	switch {
	case p.host == "":
		return "on loopback"
	case p.port == 0:
		return "for " + p.host
	}
	return "for " + net.JoinHostPort(p.host, strconv.Itoa(p.port))
}

// arguments are those about where it listens.
func (p *serverPart) arguments(at ports) []string {
	listen, host := loopback(at.GRPC), []string(nil)
	if p.host != "" {
		on := "" // every address
		if ip := net.ParseIP(p.host); ip != nil && ip.IsLoopback() {
			on = p.host
		}
		listen, host = net.JoinHostPort(on, strconv.Itoa(at.GRPC)), []string{"--host", p.host}
	}
	args := []string{"--listen", listen, "--http", loopback(at.HTTP), "--health", loopback(at.Health), "--heartbeat", heartbeat}
	return append(args, host...)
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// put starts the server, and returns when it takes work.
func (p *serverPart) put(ctx context.Context, s *site, _ *driver.Resource) error {
	for _, dir := range []string{serverDir, configDir} {
		if err := makeDir(s.path(dir)); err != nil {
			return err
		}
	}
	if err := s.leavePorts(ctx); err != nil {
		return err
	}
	if p.port != 0 && s.mark.Ports.GRPC != p.port {
		s.mark.Ports.GRPC = p.port
		if err := unit.WriteJSON(s.path(markName), s.mark); err != nil {
			return err
		}
	}
	spec := &unit.Spec{
		Name: serverID.Name, Dir: s.dir, Grace: 2 * time.Minute, // what has come in gets to disk
		Args: append([]string{s.d.o.Navvy, "server", "--data", s.path(serverDir), "--log-format", "json"}, p.arguments(s.mark.Ports)...),
		// The contexts of the user are not the cluster's to change.
		Env: s.d.environment(map[string]string{"XDG_CONFIG_HOME": s.path(configDir)}),
	}
	if err := s.putUnit(ctx, spec); err != nil {
		return err
	}
	return s.awaitServer(ctx)
}

// leavePorts chooses other ports if the server does not come up and somebody else has its own.
func (s *site) leavePorts(ctx context.Context) (err error) {
	state, err := s.unitState(ctx, serverID.Name)
	if err != nil || !s.taken(state) {
		return err
	}
	if s.mark.Ports, err = choosePorts(); err != nil {
		return err
	}
	return unit.WriteJSON(s.path(markName), s.mark)
}

// taken tells whether a server that does not come up has ports that somebody else has.
func (s *site) taken(state unit.State) bool {
	if ends := state.Phase == unit.Waiting && state.Starts >= many; !ends && state.Phase != unit.Down && state.Phase != unit.GaveUp {
		return false
	}
	for _, port := range []int{s.mark.Ports.GRPC, s.mark.Ports.HTTP, s.mark.Ports.Health} {
		l, err := net.Listen("tcp", loopback(port)) //nolint:noctx // it does not wait
		if errors.Is(err, unix.EADDRINUSE) {
			return true
		}
		if err == nil {
			_ = l.Close()
		}
	}
	return false
}

// environment is environ as a map.
func (d *Driver) environment(more map[string]string) map[string]string {
	env := map[string]string{}
	for _, pair := range d.environ(more) {
		name, value, _ := strings.Cut(pair, "=")
		env[name] = value
	}
	return env
}

// putUnit puts a unit, and keeps what it was put as.
func (s *site) putUnit(ctx context.Context, spec *unit.Spec) error {
	s.record.Data["unit"] = spec.Digest()
	return s.units.Put(ctx, spec)
}

// unitState is how a unit is; one that is not there is down.
func (s *site) unitState(ctx context.Context, name string) (unit.State, error) {
	list, err := s.units.List(ctx)
	for i := range list {
		if list[i].Name == name {
			return list[i], err
		}
	}
	return unit.State{Name: name, Phase: unit.Down}, err
}

// many further starts come to nothing.
const many = 3

// readyTime is how long a server may take to get ready that does not end.
const readyTime = 3 * time.Minute

// awaitServer waits until the server takes work; the error has the last words of one that
// does not come up.
func (s *site) awaitServer(ctx context.Context) error {
	const looks = 20 * time.Millisecond
	ctx, cancel := context.WithTimeout(ctx, readyTime)
	defer cancel()
	for {
		err := s.ready(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("it does not get ready (%w): %w", err, context.Cause(ctx))
		}
		state, stateErr := s.unitState(ctx, serverID.Name)
		if stateErr == nil && (state.Phase == unit.GaveUp || state.Phase != unit.Up && state.Starts >= many) {
			return fmt.Errorf("it ends (%s): %s; see %s: %w", state.Exit, lastLine(state.Log), state.Log, navvy.ErrUnavailable)
		}
		if err := pause.For(ctx, looks); err != nil {
			return fmt.Errorf("it does not get ready: %w", err)
		}
	}
}

// ready asks the server whether it takes work.
func (s *site) ready(ctx context.Context) error {
	const patience = 10 * time.Second
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+loopback(s.mark.Ports.Health)+"/readyz", http.NoBody)
	if err != nil {
		return err
	}
	transport := &http.Transport{DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(strings.TrimSpace(string(text)))
	}
	return err
}

// lastLine is the end of a log, for people.
func lastLine(path string) string {
	const enough = 4 << 10
	if !filepath.IsAbs(path) { // what shows it
		return "see " + path
	}
	f, err := os.Open(path)
	if err != nil {
		return "there is no log"
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err.Error()
	}
	text, _ := io.ReadAll(io.NewSectionReader(f, max(0, info.Size()-enough), enough))
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return lines[len(lines)-1]
}

// dialTime is how long the server's socket may take to answer.
const dialTime = 10 * time.Second

// withServer calls fn with a client of the cluster's server, as its administrator. The error
// wraps navvy.ErrUnavailable if it does not answer.
func (s *site) withServer(ctx context.Context, fn func(*client.Client) error) error {
	if _, err := os.Stat(s.path(serverDir)); err != nil { // it is not made by looking
		return fmt.Errorf("the server has no data: %w", navvy.ErrUnavailable)
	}
	dialing, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	conn, err := s.d.o.Dial(dialing, s.path(serverDir))
	if err != nil {
		return fmt.Errorf("the server does not answer: %w: %w", err, navvy.ErrUnavailable)
	}
	return errors.Join(fn(client.New(conn)), conn.Close())
}

// Reach tells where the server of a cluster listens, and in which directory the certificates
// of its people are.
func (d *Driver) Reach(cluster string) (address, clients string, err error) {
	s, err := d.site(cluster)
	if err != nil {
		return "", "", err
	}
	if s.mark.Ports == (ports{}) {
		return "", "", fmt.Errorf("cluster %s: it has no server: %w", cluster, navvy.ErrNotFound)
	}
	return loopback(s.mark.Ports.GRPC), s.path(serverDir, "clients"), nil
}

func (s *site) removeServer(ctx context.Context) error {
	if err := s.units.Remove(ctx, serverID.Name); err != nil {
		return err
	}
	if err := errors.Join(parcelRemove(s.path(serverDir)), parcelRemove(s.path(configDir))); err != nil {
		return err
	}
	list, err := s.all()
	if err != nil {
		return err
	}
	for _, m := range list { // what it had is gone with it, see errServerAway
		if m.ID.Kind == kindQueue && m.Data["side"] == "" || m.ID.Kind == kindFiles && m.Data["package"] != "" {
			if err := s.forget(m.ID); err != nil {
				return err
			}
		}
	}
	s.mark.Ports = ports{}
	return unit.WriteJSON(s.path(markName), s.mark)
}
