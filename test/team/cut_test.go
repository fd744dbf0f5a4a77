package team

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	domain "github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/test/lifetest"
)

// apart is a network namespace, joined with ours by a pair of virtual interfaces. It has
// no name: that would be a mount, and other tests count those of the host.
type apart struct {
	t     *testing.T
	pid   string // of the process that keeps it
	inner string // the interface within
	host  string // our address, as seen from there
}

// newApart makes a network namespace; nil where that is not possible, with the reason.
func newApart(t *testing.T) (*apart, error) {
	t.Helper()
	if os.Getuid() != 0 {
		return nil, fmt.Errorf("user %d is not root", os.Getuid())
	}
	n := rand.IntN(1 << 14)
	keeper := exec.Command("sleep", "600")
	keeper.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if err := keeper.Start(); err != nil {
		return nil, err
	}
	a := &apart{t: t, pid: strconv.Itoa(keeper.Process.Pid), inner: fmt.Sprintf("nvi%d", n)}
	// A network of four addresses, of those that are meant for tests: RFC 2544.
	outer, base := fmt.Sprintf("nvo%d", n), fmt.Sprintf("198.18.%d.", n>>6)
	a.host = fmt.Sprint(base, n&63*4+1)
	t.Cleanup(func() {
		_ = ip("link", "del", outer) // whatever there is
		_ = keeper.Process.Kill()
		_ = keeper.Wait()
	})
	for _, args := range []string{
		"link add " + outer + " type veth peer name " + a.inner + " netns " + a.pid,
		"addr add " + a.host + "/30 dev " + outer,
		"link set " + outer + " up",
	} {
		if err := ip(strings.Fields(args)...); err != nil {
			return nil, err
		}
	}
	for _, args := range []string{
		"addr add " + fmt.Sprint(base, n&63*4+2) + "/30 dev " + a.inner, "link set " + a.inner + " up", "link set lo up",
	} {
		if err := a.ip(strings.Fields(args)...); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// within is what runs a command in the namespace.
func (a *apart) within() []string { return []string{"nsenter", "--net=/proc/" + a.pid + "/ns/net"} }

func (a *apart) ip(args ...string) error { return run(append(append(a.within(), "ip"), args...)...) }

func ip(args ...string) error { return run(append([]string{"ip"}, args...)...) }

func run(args ...string) error {
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

func (a *apart) set(state string) {
	if err := a.ip("link", "set", a.inner, state); err != nil {
		a.t.Fatal(err)
	}
}

// network is between a server and one of its workers.
type network struct {
	*team
	by        []string // runs the worker
	addr      string   // where it finds the server
	cut, heal func()
}

// newNetwork makes a team with a network that can be cut: of a namespace of its own
// where that is possible, else of a relay that carries nothing.
func newNetwork(t *testing.T) *network {
	t.Helper()
	a, err := newApart(t)
	if err != nil {
		t.Logf("the network is a relay: %v", err)
		m, w := newRelayed(t, options{})
		return &network{team: m, addr: w.Addr, cut: w.Part, heal: w.Heal}
	}
	t.Logf("the network is the namespace of process %s", a.pid)
	m := newTeam(t, options{host: a.host})
	return &network{team: m, by: a.within(), addr: m.addr, cut: func() { a.set("down") }, heal: func() { a.set("up") }}
}

// newRelayed makes a team with a wire to its server.
func newRelayed(t *testing.T, o options) (*team, *lifetest.Wire) {
	t.Helper()
	w := lifetest.NewWire(t)
	m := newTeam(t, o)
	w.Lead(m.addr)
	return m, w
}

// A worker that is cut off past its lease loses its tasks to another; when the network
// is healed, what it has finished is refused, and what it runs is ended.
func TestCutOff(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	first := n.hireBy(n.by, "w1", n.addr, 2)
	script, pids := n.twice()
	path, open := n.gate()
	id := n.shell(2, `if test $0 = 0 && mkdir `+path+`.0 2>/dev/null; then until test -e `+path+`; do sleep 0.02; done; echo late; echo end >> `+path+`.end; exit; fi
		test $0 = 1 || mkdir -p `+n.traces+`/first-0; `+script)
	awaitText(t, pids, "\n", 1)
	n.await(id, "both run", running(2))
	n.cut()
	open()
	awaitText(t, path+".end", "end", 1)
	n.await(id, "taken back", running(0))
	other := n.hire("w2", n.team.addr, 2)
	n.checkElsewhere(id, first, other, 2)
	n.heal()
	gone(t, lines(t, pids)[0])
	n.awaitClean(first)
	n.checkElsewhere(id, first, other, 2) // as before
	n.finish()
}

// A network that is cut and healed before the lease ends costs nothing of what runs: each
// task runs once. One that was on its way to the worker when the line snapped never began,
// and is assigned again.
func TestCutShort(t *testing.T) {
	t.Parallel()
	m, wire := newRelayed(t, options{beat: 20 * time.Second})
	m.hire("w1", wire.Addr, 2)
	path, open := m.gate()
	id := m.shell(6, `echo run >> `+path+`.log; seq 30000; until test -e `+path+`; do sleep 0.02; done; seq 30000`)
	awaitText(t, path+".log", "\n", 2)
	wire.Part()
	open()
	eventually(t, "reports wait", func() bool { return len(entries(t, m.path("w1/worker/spool"))) > 0 })
	wire.Heal()
	m.await(id, "on its way", func(c domain.Counts) bool { return c.Succeeded > 0 })
	wire.Snap()
	for _, r := range m.results(id) {
		began := r.Task.Index < 2 // before the cut
		if r.State != domain.Succeeded || began && r.Attempts != 1 || r.Attempts > 2 || r.Output.Stdout != 2*168894 {
			t.Errorf("result %+v", r)
		}
	}
	if n := len(lines(t, path+".log")); n != 6 {
		t.Errorf("%d runs", n)
	}
	m.finish()
}

// A connection that is half open, of which neither end hears, does not hold anything:
// the tasks run elsewhere, and the worker finds out and comes back.
func TestHalfOpen(t *testing.T) {
	t.Parallel()
	m, wire := newRelayed(t, options{})
	first := m.hire("w1", wire.Addr, 2)
	script, pids := m.twice()
	id := m.shell(2, script)
	awaitText(t, pids, "\n", 2)
	other := m.hire("w2", m.addr, 2)
	wire.Lose()
	m.checkElsewhere(id, first, other, 2)
	awaitText(t, first.err, "connected to the server", 2)
	for _, pid := range lines(t, pids) {
		gone(t, pid)
	}
	m.finish()
}

// A slow network is slow, and no more: who works and who reads are answered.
func TestSlowNetwork(t *testing.T) {
	t.Parallel()
	m, wire := newRelayed(t, options{beat: 10 * time.Second})
	wire.Slow(50 * time.Millisecond)
	m.hire("w1", wire.Addr, 2)
	env := append(m.as("bob"), "NAVVY_SERVER="+wire.Addr)
	want := strings.Repeat("0123456789\n", 20000)
	p := m.start("map", env, "map", "--", "/bin/sh", "-c", `for i in $(seq 20000); do echo 0123456789; done`, ":::", "1", "2", "3")
	if code := m.awaitEnd(p); code != 0 {
		t.Fatalf("exit code %d: %s", code, tail(p.err))
	}
	if got := m.text(p.out); got != strings.Repeat(want, 3) {
		t.Errorf("%d bytes of output, should be %d", len(got), 3*len(want))
	}
	wire.Slow(0)
	m.finish()
}
