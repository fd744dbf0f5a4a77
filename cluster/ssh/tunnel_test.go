package ssh

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/navvy-run/navvy/cluster/ssh/sshdtest"
	"github.com/navvy-run/navvy/cluster/unit"
)

// tunnelsTo runs tunnels to hosts that pause for an hour, in a directory.
func tunnelsTo(t *testing.T, n *sshdtest.Net, o *TunnelOptions) (dir string, places []place) {
	t.Helper()
	dir = t.TempDir()
	d := New(Options{User: n.User})
	t.Cleanup(func() { _ = d.Close() }) // nobody was called
	for _, name := range n.Names() {
		p, err := d.hosts.place(name, n.Identity, n.KnownHosts)
		if err != nil {
			t.Fatal(err)
		}
		places = append(places, *p)
	}
	if err := unit.WriteJSON(filepath.Join(dir, tableName), &table{Version: tableVersion, Server: "127.0.0.1:1", Hosts: places}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- RunTunnels(ctx, dir, o) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return dir, places
}

// awaitState waits until a tunnel is so.
func awaitState(t *testing.T, dir string, p *place, so func(tunnelState) bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !so(readState(stateFile(dir, p))); <-time.After(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the tunnel stays %+v", readState(stateFile(dir, p)))
		}
	}
}

// A tunnel that sleeps between two tries, for an hour here, is tried at once when somebody
// waits for it.
func TestTunnelAsked(t *testing.T) {
	t.Parallel()
	n := sshdtest.Start(t, 1)
	n.Hosts[0].Stop(t)
	dir, places := tunnelsTo(t, n, &TunnelOptions{Look: time.Hour, FirstPause: time.Hour, LongestPause: time.Hour})
	awaitState(t, dir, &places[0], func(st tunnelState) bool { return st.Error != "" })
	n.Hosts[0].Start(t)
	if _, err := tunnelAt(t.Context(), dir, &places[0]); err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*"+askSuffix)); len(left) > 0 {
		t.Errorf("there is left %q", left)
	}
}

// A host that the table has no more has no tunnel and no state any more.
func TestTunnelDropped(t *testing.T) {
	t.Parallel()
	n := sshdtest.Start(t, 2)
	dir, places := tunnelsTo(t, n, &TunnelOptions{Look: time.Hour})
	for i := range places {
		awaitState(t, dir, &places[i], func(st tunnelState) bool { return st.Open })
	}
	if err := unit.WriteJSON(filepath.Join(dir, tableName), &table{Version: tableVersion, Server: "127.0.0.1:1", Hosts: places[:1]}); err != nil {
		t.Fatal(err)
	}
	awaitState(t, dir, &places[1], func(st tunnelState) bool { return st == tunnelState{} })
	if _, err := os.Stat(stateFile(dir, &places[1])); err == nil {
		t.Error("its state is still there")
	}
	if st := readState(stateFile(dir, &places[0])); !st.Open {
		t.Errorf("the other one is %+v", st)
	}
}
