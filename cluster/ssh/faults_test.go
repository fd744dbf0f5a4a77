package ssh_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	cryptossh "golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/cluster"
	"github.com/navvy-run/navvy/cluster/driver"
	"github.com/navvy-run/navvy/cluster/ssh/sshdtest"
)

// blackHole accepts and never says anything.
func blackHole(t *testing.T) string {
	t.Helper()
	h := openHole(t, "127.0.0.1:0")
	t.Cleanup(h.close)
	return h.l.Addr().String()
}

// hole accepts, counts, and never says anything.
type hole struct {
	l     net.Listener
	calls atomic.Int64
	taken sync.WaitGroup
}

func openHole(t *testing.T, at string) *hole {
	t.Helper()
	l, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	h := &hole{l: l}
	h.taken.Go(func() {
		var held []net.Conn
		for {
			c, err := l.Accept()
			if err != nil {
				break
			}
			h.calls.Add(1)
			held = append(held, c)
		}
		for _, c := range held {
			_ = c.Close()
		}
	})
	return h
}

func (h *hole) close() {
	_ = h.l.Close()
	h.taken.Wait()
}

// What fails is told of those hosts alone that do not answer: a port that is closed, and one
// that accepts and never says anything. The others have their workers, and nothing is left.
func TestDeadHosts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	c := w.cluster("dead", 3)
	closed := w.net.User + "@127.0.0.1:" + strconv.Itoa(sshdtest.FreePort(t))
	hole := w.net.User + "@" + blackHole(t)
	c.SSH.Hosts = append(c.SSH.Hosts, closed, hole)
	began := time.Now()
	err := w.apply(c)
	failed, is := errors.AsType[*cluster.FailedError](err)
	if !is || len(failed.Failed) != 2 || !errors.Is(err, navvy.ErrUnavailable) {
		t.Fatalf("it failed with %v", err)
	}
	for _, host := range []string{closed, hole} {
		if !strings.Contains(err.Error(), host) {
			t.Errorf("%s is not named: %v", host, err)
		}
	}
	t.Logf("it took %s", time.Since(began))
	if got := w.answers(c.Name, "still there"); got[0] != "still there" {
		t.Errorf("it answers %q", got)
	}
	all := w.observed(c.Name)
	for _, host := range []string{closed, hole} {
		if o := all["host "+host]; o.Health != driver.HealthUnknown {
			t.Errorf("%s is %s: %s", host, o.Health, o.Detail)
		}
	}
	w.destroy(c.Name) // nobody has ever been there
}

// A host that dies later is unknown; the rest can be changed; what is on it is removed when it
// is back, or forgotten when somebody says so.
func TestHostDies(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	c := w.cluster("dies", 2)
	w.up(c)
	w.well(c)
	lost := w.net.Hosts[1]
	lost.Stop(t)
	if o := w.observed(c.Name)["worker worker-002"]; o.Health != driver.HealthUnknown {
		t.Errorf("its worker is %s: %s", o.Health, o.Detail)
	}
	c.SSH.Hosts, c.Workers.Count = c.SSH.Hosts[:1], 2
	if err := w.apply(c); !errors.Is(err, navvy.ErrUnavailable) {
		t.Fatalf("a host that does not answer is left: %v", err)
	}
	if got := w.answers(c.Name, "a", "b"); len(got) != 2 {
		t.Errorf("it answers %q", got)
	}
	err := w.with(func(k *cluster.Controller) error { _, err := k.Destroy(w.ctx(), c.Name); return err })
	record := filepath.Join(w.clusterDir(c.Name), "made", "host-"+lost.Name()+".json")
	if !errors.Is(err, navvy.ErrUnavailable) || !strings.Contains(err.Error(), record) {
		t.Fatalf("it is removed: %v", err)
	}
	lost.Start(t)
	w.destroy(c.Name)
}

// A worker whose host was cleared while the next one did not answer gets there later.
func TestMovedLater(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3)
	c := w.cluster("later", 2)
	all := c.SSH.Hosts
	c.SSH.Hosts = all[:2]
	w.up(c)
	w.well(c)
	w.net.Hosts[2].Stop(t)
	c.SSH.Hosts = []string{all[0], all[2]}
	if err := w.apply(c); !errors.Is(err, navvy.ErrUnavailable) {
		t.Fatalf("a host that does not answer gets a worker: %v", err)
	}
	if left := commands(filepath.Dir(hostDir(w.net.Hosts[1], c.Name)) + "/"); len(left) > 0 {
		t.Errorf("on the host that was taken out there runs %q", left)
	}
	w.net.Hosts[2].Start(t)
	if err := w.apply(c); err != nil {
		t.Fatal(err)
	}
	w.well(c)
}

// A host that was made anew, so that it is not trusted, is as one that does not answer: its
// worker is moved, and whoever wants to end what is there is told how to forget it.
func TestHostReplaced(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	c := w.cluster("replaced", 2)
	w.up(c)
	w.well(c)
	lost := w.net.Hosts[1]
	lost.Stop(t)
	lost.NewKey(t)
	lost.Start(t)
	c.SSH.Hosts = c.SSH.Hosts[:1]
	err := w.apply(c)
	record := filepath.Join(w.clusterDir(c.Name), "made", "host-"+lost.Name()+".json")
	if !errors.Is(err, navvy.ErrDenied) || !strings.Contains(err.Error(), record) {
		t.Errorf("it is taken out: %v", err)
	}
	if o := w.observed(c.Name)["worker worker-002"]; o.Properties["host"] != w.net.Hosts[0].Name() || o.Health == driver.HealthUnknown {
		t.Errorf("its worker is on %s: %s %s", o.Properties["host"], o.Health, o.Detail)
	}
	w.net.WriteKnownHosts(t)
}

// heldKey is an agent that has the key of the test.
func (w *world) heldKey() agent.Agent {
	w.t.Helper()
	text, err := os.ReadFile(w.net.Identity)
	if err != nil {
		w.t.Fatal(err)
	}
	key, err := cryptossh.ParseRawPrivateKey(text)
	if err != nil {
		w.t.Fatal(err)
	}
	held := agent.NewKeyring()
	if err := held.Add(agent.AddedKey{PrivateKey: key}); err != nil {
		w.t.Fatal(err)
	}
	return held
}

// An agent that ends with a login is followed by that of the next one: who plans sees it, who
// applies tells the tunnels, and who looks or destroys uses his own.
func TestNextAgent(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	first, next := w.heldKey(), w.heldKey()
	at := sshdtest.ServeAgent(t, next) // it ends behind the cluster
	w.agent = sshdtest.ServeAgent(t, first)
	c := w.cluster("agents", 1)
	c.SSH.Identity = ""
	w.up(c)
	w.well(c)
	if err := first.RemoveAll(); err != nil {
		t.Fatal(err)
	}
	w.agent = at
	err := w.with(func(k *cluster.Controller) error {
		p, err := k.Plan(w.ctx(), c)
		if err == nil && (len(p.Changes) != 1 || p.Changes[0].Kind != "tunnel") {
			t.Errorf("with another agent it is planned: %s", describe(p))
		}
		return err
	})
	if err == nil {
		err = w.apply(c)
	}
	if err != nil {
		t.Fatal(err)
	}
	w.net.Hosts[0].Stop(t)
	w.net.Hosts[0].Start(t)
	w.well(c)
}

// One that is gone for good can be forgotten.
func TestForgotten(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	c := w.cluster("forgotten", 1)
	if err := w.apply(c); err != nil {
		t.Fatal(err)
	}
	lost := w.net.Hosts[0]
	lost.Stop(t)
	record := filepath.Join(w.clusterDir(c.Name), "made", "host-"+lost.Name()+".json")
	err := w.with(func(k *cluster.Controller) error { _, err := k.Destroy(w.ctx(), c.Name); return err })
	if !errors.Is(err, navvy.ErrUnavailable) || !strings.Contains(err.Error(), record) {
		t.Fatalf("it is removed: %v", err)
	}
	if err := os.Remove(record); err != nil {
		t.Fatal(err)
	}
	if err := w.with(func(k *cluster.Controller) error { _, err := k.Destroy(w.ctx(), c.Name); return err }); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(w.clusterDir(c.Name)); err == nil {
		t.Error("it is still there")
	}
	// What runs there still ends, since somebody comes back to it.
	lost.Start(t)
	c.Name = "forgotten" // another one of that name does not have it
	if err := w.apply(c); !errors.Is(err, navvy.ErrExists) {
		t.Errorf("somebody else's is taken: %v", err)
	}
	clearHost(t, lost, c.Name)
	w.destroy(c.Name)
}

// pids lists the processes that have a text in their arguments, supervisors first: they would
// start again what ends.
func pids(text string) (list []int) {
	for _, only := range []bool{true, false} {
		all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, path := range all {
			line, err := os.ReadFile(path)
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			if err == nil && strings.Contains(string(line), text) && pid != os.Getpid() && strings.Contains(string(line), "supervise") == only {
				list = append(list, pid)
			}
		}
	}
	return list
}

// A server of ssh that is killed while a cluster is applied costs what was to be made there;
// the next apply goes on.
func TestKilledMeanwhile(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	c := w.cluster("killed", 4)
	t.Cleanup(func() { w.destroy(c.Name) })
	victim := w.net.Hosts[1]
	var once sync.Once
	d := w.open()
	k := cluster.New(d, &cluster.Options{Who: "test", Tell: func(e cluster.Event) {
		if e.Phase == cluster.Done && e.Change.Kind == "host" && e.Change.Name == victim.Name() {
			once.Do(func() { victim.Stop(t) })
		}
	}})
	_, err := k.Apply(w.ctx(), c)
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if !errors.Is(err, navvy.ErrUnavailable) || !strings.Contains(err.Error(), victim.Name()) {
		t.Fatalf("it failed with %v", err)
	}
	if got := w.answers(c.Name, "a"); len(got) != 1 {
		t.Errorf("it answers %q", got)
	}
	victim.Start(t)
	if err := w.apply(c); err != nil {
		t.Fatal(err)
	}
	w.well(c)
}

// A tunnel that breaks opens again where it began, and so does one whose process is killed.
func TestTunnelBreaks(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	c := w.cluster("breaks", 1)
	w.up(c)
	w.well(c)
	state := filepath.Join(w.clusterDir(c.Name), "elsewhere", "tunnels", strings.ReplaceAll(w.net.Hosts[0].Name(), ":", "_")+".state")
	before, err := os.ReadFile(state)
	if err != nil {
		t.Fatal(err)
	}
	w.net.Hosts[0].Stop(t)
	w.until(func() bool { text, _ := os.ReadFile(state); return strings.Contains(string(text), `"open": false`) })
	w.net.Hosts[0].Start(t)
	w.well(c)
	for _, pid := range pids(filepath.Join(w.clusterDir(c.Name), "elsewhere", "tunnels")) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Error(err)
		}
	}
	w.until(func() bool {
		text, err := os.ReadFile(state)
		return err == nil && strings.Contains(string(text), `"open": true`) && port(text) == port(before)
	})
	w.well(c)
	if got := w.answers(c.Name, "back"); got[0] != "back" {
		t.Errorf("it answers %q", got)
	}
}

func port(text []byte) string {
	_, rest, _ := strings.Cut(string(text), `"port":`)
	number, _, _ := strings.Cut(rest, ",")
	return strings.TrimSpace(number)
}

// until waits until something is so.
func (w *world) until(so func() bool) {
	w.t.Helper()
	for end := time.Now().Add(patience); !so(); <-time.After(20 * time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatal("it never is so")
		}
	}
}

// A host that shows another key is not spoken with, nor is one that nobody knows.
func TestHostKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	c, host := w.cluster("keys", 1), w.net.Hosts[0]
	t.Cleanup(func() { w.destroy(c.Name) })
	if err := os.WriteFile(w.net.KnownHosts, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	err := w.apply(c)
	if !errors.Is(err, navvy.ErrDenied) || !strings.Contains(err.Error(), "not known") || !strings.Contains(err.Error(), w.net.KnownHosts) {
		t.Errorf("of a host that nobody knows it is said: %v", err)
	}
	w.net.WriteKnownHosts(t)
	host.Stop(t)
	host.NewKey(t)
	host.Start(t)
	if err = w.apply(c); !errors.Is(err, navvy.ErrDenied) || !strings.Contains(err.Error(), "HAS CHANGED") || !strings.Contains(err.Error(), w.net.KnownHosts+":1") {
		t.Errorf("of a host with another key it is said: %v", err)
	}
	if _, err := os.Stat(hostDir(host, c.Name)); err == nil {
		t.Error("something was done there")
	}
	w.net.WriteKnownHosts(t)
	if err := w.apply(c); err != nil {
		t.Fatal(err)
	}
	w.well(c)
}

// A program that is damaged on a host is seen, and copied again; so is one that is gone.
func TestDamaged(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	c := w.cluster("damaged", 1)
	w.up(c)
	w.well(c)
	program := filepath.Join(hostDir(w.net.Hosts[0], c.Name), "navvy")
	whole, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	damaged := append([]byte(nil), whole...)
	damaged[len(damaged)/2] ^= 1
	for name, hurt := range map[string]func() error{
		"damaged": func() error {
			if err := os.WriteFile(program+"-hurt", damaged, 0o700); err != nil {
				return err
			}
			return os.Rename(program+"-hurt", program)
		},
		"gone": func() error { return os.Remove(program) },
	} {
		if err := hurt(); err != nil {
			t.Fatal(err)
		}
		err := w.with(func(k *cluster.Controller) error {
			p, err := k.Plan(w.ctx(), c)
			if err == nil && p.Count(cluster.Alter) != 1 {
				t.Errorf("that it is %s is not seen: %s", name, describe(p))
			}
			return err
		})
		if err == nil {
			err = w.apply(c)
		}
		if err != nil {
			t.Fatal(err)
		}
		w.well(c)
		if text, err := os.ReadFile(program); err != nil || string(text) != string(whole) {
			t.Errorf("it is still %s: %v", name, err)
		}
	}
}
