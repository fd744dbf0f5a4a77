package team

import (
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	domain "github.com/navvy-run/navvy"
)

// slack is what a slow machine may take for what should come about at once.
const slack = 30 * time.Second

// twice is a script whose first attempt goes on for ever, and says which process it is.
func (m *team) twice() (script, pids string) {
	pids = m.path("traces/pids")
	return `if mkdir ` + m.path("traces") + `/first-$0 2>/dev/null; then echo $$ >> ` + pids + `; exec sleep 1000; fi; echo ok`, pids
}

// gate is a file for which tasks wait, and what opens it.
func (m *team) gate() (path string, open func()) {
	path = m.path("traces/gate")
	return path, func() { m.must(os.WriteFile(path, nil, 0o600)) }
}

func running(n int64) func(domain.Counts) bool {
	return func(c domain.Counts) bool { return c.Running == n }
}

// checkElsewhere sees that tasks have succeeded on c after they were lost by first.
func (m *team) checkElsewhere(id domain.JobID, first, c *crew, n int) {
	m.Helper()
	results := m.results(id)
	if len(results) != n {
		m.Errorf("%d results", len(results))
	}
	for _, r := range results {
		task := m.task(id, r.Task.Index)
		if r.State != domain.Succeeded || r.Worker != c.name || r.ID.Number != 2 || len(task.Attempts) != 1 ||
			task.Attempts[0].Worker != first.name || task.Attempts[0].Outcome != domain.OutcomeLost {
			m.Errorf("result %+v, attempts %+v", r, task.Attempts)
		}
	}
	if got := m.do("results", m.as("ann"), "results", string(id)); got != strings.Repeat("ok\n", n) {
		m.Errorf("results prints %q", got)
	}
}

// A worker that is killed loses its tasks to another when its lease ends; the next
// worker on its directory ends what it has left.
func TestWorkerKilled(t *testing.T) {
	t.Parallel()
	m := newTeam(t, options{})
	first := m.hire("w1", m.addr, 2)
	script, pids := m.twice()
	id := m.shell(2, script)
	awaitText(t, pids, "\n", 2)
	other := m.hire("w2", m.addr, 2)
	at := time.Now()
	first.kill()
	results := m.results(id)
	for _, r := range results {
		if took := r.Started.Sub(at); took > 2*m.beat+slack {
			t.Errorf("a task ran again after %s", took)
		}
	}
	m.checkElsewhere(id, first, other, 2)
	m.work(first)
	for _, pid := range lines(t, pids) {
		gone(t, pid)
	}
	m.finish()
}

// A worker that is frozen past its lease loses its tasks to another; when it wakes,
// what it has finished is refused, and what it runs is ended.
func TestWorkerFrozen(t *testing.T) {
	t.Parallel()
	m := newTeam(t, options{})
	first := m.hire("w1", m.addr, 2)
	path, open := m.gate()
	script, pids := m.twice()
	id := m.shell(2, `if test $0 = 0 && mkdir `+path+`.0 2>/dev/null; then echo $$ >> `+pids+`; until test -e `+path+`; do sleep 0.02; done; echo late; echo end >> `+path+`.end; exit; fi
		test $0 = 1 || mkdir -p `+m.traces+`/first-0; `+script)
	awaitText(t, pids, "\n", 2)
	first.signal(unix.SIGSTOP)
	open()
	awaitText(t, path+".end", "end", 1) // a result that comes too late
	m.await(id, "taken back", running(0))
	other := m.hire("w2", m.addr, 2)
	m.checkElsewhere(id, first, other, 2)
	first.signal(unix.SIGCONT)
	awaitText(t, first.err, "a result was refused", 1)
	for _, pid := range lines(t, pids) {
		gone(t, pid)
	}
	m.awaitClean(first)
	m.checkElsewhere(id, first, other, 2) // as before
	m.finish()
}

// A task that a frozen worker was given does not begin there when it wakes up, since
// another one has it.
func TestGivenToTheFrozen(t *testing.T) {
	t.Parallel()
	m := newTeam(t, options{})
	first := m.hire("w1", m.addr, 1)
	path, open := m.gate()
	m.results(m.shell(1, "echo ok"))
	first.signal(unix.SIGSTOP)
	id := m.shell(1, `echo $NAVVY_TOKEN >> `+path+`.log; until test -e `+path+`; do sleep 0.02; done; echo ok`)
	other := m.hire("w2", m.addr, 1)
	awaitText(t, path+".log", "\n", 1)
	first.signal(unix.SIGCONT)
	awaitText(t, first.err, "may have lost its leases", 1)
	awaitText(t, first.err, "connected to the server", 2)
	open()
	m.checkElsewhere(id, first, other, 1)
	if begun := lines(t, path+".log"); len(begun) != 1 {
		t.Errorf("these began: %q", begun)
	}
	m.finish()
}

// A server that is killed and comes back finds its workers at work: they go on under
// the same ids, nothing runs twice, and new jobs do not wait for who is not back yet.
func TestServerKilled(t *testing.T) {
	t.Parallel()
	m := newTeam(t, options{beat: 20 * time.Second})
	first := m.hire("w1", m.addr, 2)
	path, open := m.gate()
	id := m.shell(5, `echo $NAVVY_TOKEN >> `+path+`.log; seq 30000; until test -e `+path+`; do sleep 0.02; done; echo end`)
	awaitText(t, path+".log", "\n", 2)
	m.hire("w2", m.addr, 3)
	awaitText(t, path+".log", "\n", 5)
	before := lines(t, path+".log")
	m.server.kill()
	first.signal(unix.SIGSTOP)
	m.begin()
	up := time.Now()
	m.hire("w3", m.addr, 1)
	fresh := m.shell(1, "echo new")
	if r := m.results(fresh); len(r) != 1 || r[0].State != domain.Succeeded {
		t.Errorf("the new job: %+v", r)
	}
	if took := time.Since(up); took > 2*m.beat-m.beat/4 {
		t.Logf("a new job took %s: this machine is too slow to see that it starts at once", took)
	} else if c, err := m.admin.Get(t.Context(), id); err != nil || c.Status.Counts.Running > 3 {
		t.Errorf("%+v, %v", c.Status, err)
	}
	first.signal(unix.SIGCONT)
	m.await(id, "all are back", running(5))
	open()
	for _, r := range m.results(id) {
		if r.State != domain.Succeeded || r.ID != (domain.AttemptID{Number: 1, Epoch: 1}) || r.Attempts != 1 {
			t.Errorf("result %+v", r)
		}
	}
	if after := lines(t, path+".log"); len(after) != len(before) {
		t.Errorf("attempts %v, then %v", before, after)
	}
	m.finish()
}

// A task that kills each worker that runs it goes to the dead letters after three, and
// the other workers live.
func TestPoison(t *testing.T) {
	t.Parallel()
	m := newTeam(t, options{})
	path, _ := m.gate()
	for _, name := range []string{"w1", "w2", "w3", "w4"} {
		m.hire(name, m.addr, 1)
	}
	id := m.submit("admin", 1, nil, "/bin/sh", "-c", `echo run >> `+path+`.log; kill -9 $PPID; exec sleep 1000`)
	results := m.results(id)
	if len(results) != 1 || results[0].State != domain.Failed || results[0].Reason != domain.ReasonLost || results[0].Attempts != 3 {
		t.Errorf("%+v", results)
	}
	if list := m.do("failed", m.as("admin"), "results", "--failed", "-o", "jsonl", string(id)); strings.Count(list, `"reason":"lost"`) != 1 {
		t.Errorf("dead letters: %s", list)
	}
	if n := len(lines(t, path+".log")); n != 3 {
		t.Errorf("it ran %d times", n)
	}
	dead := 0
	for _, c := range m.crews {
		if c.died() {
			dead++
		}
	}
	if dead != 3 {
		t.Errorf("%d workers died", dead)
	}
	if r := m.results(m.shell(3, "echo ok")); len(r) != 3 || r[2].State != domain.Succeeded {
		t.Errorf("the last worker: %+v", r)
	}
	m.finish()
}

// A worker that is told to end finishes what it has, reports it, and leaves nothing.
func TestDrain(t *testing.T) {
	t.Parallel()
	m := newTeam(t, options{})
	c := m.hire("w1", m.addr, 2)
	path, open := m.gate()
	id := m.shell(4, `echo run >> `+path+`.log; until test -e `+path+`; do sleep 0.02; done; seq 30000`)
	awaitText(t, path+".log", "\n", 2)
	c.signal(unix.SIGTERM)
	eventually(t, "it drains", func() bool { return m.fleet()[0].State == "draining" })
	open()
	if code := m.awaitEnd(c.proc); code != 0 {
		t.Errorf("exit code %d: %s", code, tail(c.err))
	}
	m.await(id, "half done", func(counts domain.Counts) bool { return counts.Succeeded == 2 && counts.Running == 0 })
	m.awaitClean(c)
	if got := m.fleet()[0].State; got != "left" {
		t.Errorf("the worker is %s", got)
	}
	m.hire("w2", m.addr, 2)
	for _, r := range m.results(id) {
		if r.State != domain.Succeeded || r.Attempts != 1 {
			t.Errorf("result %+v", r)
		}
	}
	m.finish()
}

// What takes longer than a worker that ends may wait is ended, and runs elsewhere.
func TestDrainTimeout(t *testing.T) {
	t.Parallel()
	m := newTeam(t, options{})
	first := m.hire("w1", m.addr, 2, "--drain-timeout", "300ms")
	script, pids := m.twice()
	id := m.shell(2, script)
	awaitText(t, pids, "\n", 2)
	other := m.hire("w2", m.addr, 2)
	m.dismiss(first)
	for _, pid := range lines(t, pids) {
		gone(t, pid)
	}
	m.awaitClean(first)
	for _, r := range m.results(id) {
		if r.State != domain.Succeeded || r.Worker != other.name {
			t.Errorf("result %+v", r)
		}
	}
	m.finish()
}
