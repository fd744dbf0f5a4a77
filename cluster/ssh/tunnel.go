package ssh

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/cluster/driver"
	"github.com/navvy-run/navvy/cluster/local"
	"github.com/navvy-run/navvy/cluster/ssh/link"
	"github.com/navvy-run/navvy/cluster/unit"
	"github.com/navvy-run/navvy/internal/pause"
)

// tunnelPart is the process of this machine that keeps a tunnel open to each host.
type tunnelPart struct{ places []*place }

// table says where tunnels lead; it is read by the process, which follows its changes.
type table struct {
	Version int     `json:"version"`
	Server  string  `json:"server"` // on loopback
	Hosts   []place `json:"hosts"`
}

// tunnelState is how the tunnel to a host is, as the process tells.
type tunnelState struct {
	Version int `json:"version"`
	// Port is that of the host's loopback, once it was had; it stays the same.
	Port int `json:"port,omitempty"`
	// Open says that it is open; Error why it is not.
	Open  bool   `json:"open"`
	Error string `json:"error,omitempty"`
	// Keeper is the process of sshd which has the port, as sshdScript tells.
	Keeper string `json:"keeper,omitempty"`
}

const tableVersion = 1

// Names in the directory of the tunnels.
const (
	tunnelsName = "tunnels"
	tableName   = "table.json"
	stateSuffix = ".state"
	askSuffix   = ".ask"
)

func tunnelsDir(s *local.Site) string { return s.Path(tunnelsName) }

func stateFile(dir string, p *place) string { return filepath.Join(dir, p.safe()+stateSuffix) }

// askFile is what somebody makes who waits for the tunnel to a host: it is tried at once.
func askFile(dir string, p *place) string { return filepath.Join(dir, p.safe()+askSuffix) }

const (
	// longestPause is between two tries of a tunnel that does not open.
	longestPause = 30 * time.Second
	// tunnelTime is how long a tunnel may take to open that is waited for: longer than it
	// pauses and calls the host, should it not hear that it is asked to try.
	tunnelTime = longestPause + 2*link.DialTime
)

func (p *tunnelPart) put(ctx context.Context, h *hosts, s *local.Site, _ *driver.Resource) error {
	dir := tunnelsDir(s)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := h.writeTable(s, p.places); err != nil {
		return err
	}
	sum, err := h.program()
	if err != nil {
		return err
	}
	spec := &unit.Spec{Name: tunnelID.Name, Dir: dir, Args: append(slices.Clone(h.o.Tunnel), dir), Notes: map[string]string{"navvy": shortSum(sum)}}
	return s.PutUnit(ctx, spec, nil)
}

// writeTable says where tunnels lead. Those to hosts that are about to be removed stay until then.
func (h *hosts) writeTable(s *local.Site, places []*place) error {
	h.table.Lock()
	defer h.table.Unlock()
	t := table{Version: tableVersion, Server: s.Server()}
	there := map[string]bool{}
	for _, p := range places {
		t.Hosts, there[p.Text] = append(t.Hosts, *p), true
	}
	records, err := s.Records()
	if err != nil {
		return err
	}
	for i := range records {
		if r := &records[i]; r.ID.Kind == kindHost && !there[r.ID.Name] {
			if p, err := h.keptPlace(r.Data); err == nil {
				t.Hosts = append(t.Hosts, *p)
			}
		}
	}
	return unit.WriteJSON(filepath.Join(tunnelsDir(s), tableName), &t)
}

// dropTunnel has no tunnel to a host any more.
func (h *hosts) dropTunnel(s *local.Site, p *place) error {
	h.table.Lock()
	defer h.table.Unlock()
	path := filepath.Join(tunnelsDir(s), tableName)
	t, err := readTable(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	n := len(t.Hosts)
	if t.Hosts = slices.DeleteFunc(t.Hosts, func(of place) bool { return of.Text == p.Text }); len(t.Hosts) == n {
		return nil
	}
	return unit.WriteJSON(path, t)
}

func readTable(path string) (*table, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	t, err := parseTable(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return t, nil
}

// parseTable reads a table. The error wraps navvy.ErrCorrupt.
func parseTable(text []byte) (*table, error) {
	t := new(table)
	if err := unit.ParseJSON(text, tableVersion, t); err != nil {
		return nil, err
	}
	return t, nil
}

// readState reads how a tunnel is; nothing is known of one that says nothing that can be read.
func readState(path string) tunnelState {
	text, err := os.ReadFile(path)
	if err != nil {
		return tunnelState{}
	}
	return parseState(text)
}

func parseState(text []byte) (st tunnelState) {
	if json.Unmarshal(text, &st) != nil || st.Version != tableVersion {
		return tunnelState{}
	}
	return st
}

// tunnelAt waits until the tunnel to a host is open, and gives where it begins there.
func tunnelAt(ctx context.Context, dir string, p *place) (string, error) {
	const looks = 50 * time.Millisecond
	ctx, cancel := context.WithTimeout(ctx, tunnelTime)
	defer cancel()
	for asked := false; ; {
		st := readState(stateFile(dir, p))
		if st.Open {
			return loopback(st.Port), nil
		}
		if !asked { // it may sleep, though the host is back
			if err := unit.WriteFile(askFile(dir, p), nil); err != nil {
				return "", err
			}
			asked = true
		}
		if err := pause.For(ctx, looks); err != nil {
			if st.Error == "" {
				st.Error = "nothing is heard of it"
			}
			return "", fmt.Errorf("host %s: the tunnel to it does not open: %s: %w", p.Text, st.Error, navvy.ErrUnavailable)
		}
	}
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// removeTunnels ends the process.
func (h *hosts) removeTunnels(ctx context.Context, s *local.Site) error {
	if err := s.RemoveUnit(ctx, tunnelID.Name); err != nil {
		return err
	}
	return os.RemoveAll(tunnelsDir(s))
}

// tunnels is how they are.
type tunnels struct {
	dir    string
	agent  string // of whoever looks
	table  *table // nil if it is not there
	states map[string]tunnelState
}

func (h *hosts) lookTunnels(v *local.View) *tunnels {
	t := &tunnels{dir: tunnelsDir(&v.Site), agent: h.o.Agent, states: map[string]tunnelState{}}
	t.table, _ = readTable(filepath.Join(t.dir, tableName))
	if t.table != nil {
		for i := range t.table.Hosts {
			p := &t.table.Hosts[i]
			t.states[p.Text] = readState(stateFile(t.dir, p))
		}
	}
	return t
}

// observe tells how the process is, and how many tunnels are open.
func (t *tunnels) observe(v *local.View, r *local.Record, kept map[string]looked, o *driver.Observed) {
	state, there := v.Unit(tunnelID.Name)
	v.ObserveUnit(&state, there, r.Data[dataUnit], "", o)
	if t.table == nil {
		o.Properties["to"] = ""
		return
	}
	wanted := strings.Fields(r.Properties["to"])
	for i := range t.table.Hosts { // a host that was forgotten has left it to the next apply
		if host := t.table.Hosts[i].Text; !kept[host].known() && !slices.Contains(wanted, host) {
			o.Properties["to"] += " " + host + " (forgotten)"
		}
	}
	if t.otherAgent() {
		o.Properties["keys"] += ", an ssh-agent of before"
	}
	switch {
	case o.Health != driver.HealthOK:
		return
	case t.table.Server != v.Server() || v.Moves():
		fail(o, "it leads to "+t.table.Server+", where the server is no more")
		return
	}
	open := 0
	for _, st := range t.states {
		if st.Open {
			open++
		}
	}
	o.Detail += fmt.Sprintf(", %d of %d are open", open, len(t.table.Hosts))
}

// otherAgent tells whether hosts are reached with the keys of another agent than that of whoever
// looks, as one is that has ended with a login.
func (t *tunnels) otherAgent() bool {
	return t.agent != "" && slices.ContainsFunc(t.table.Hosts, func(p place) bool {
		return p.Link.Agent != t.agent && p.Link.WantsAgent()
	})
}

// check looks whether a worker that runs reaches the server where it looks for it.
func (t *tunnels) check(v *local.View, host, at string, o *driver.Observed) {
	if t.table == nil { // without a tunnel, or it says so itself
		return
	}
	switch st := t.states[host]; {
	case st.Open && loopback(st.Port) != at:
		fail(o, "it looks for the server at "+at+", and the tunnel begins at "+loopback(st.Port))
	case !st.Open && st.Error != "":
		fail(o, "the tunnel to "+host+" is not open: "+st.Error)
	case !st.Open:
		o.Health, o.Detail = driver.HealthStarting, "the tunnel to "+host+" opens"
	}
}
