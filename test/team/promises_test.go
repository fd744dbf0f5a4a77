package team

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	domain "github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/test/lifetest"
)

// TestPromises lets servers, workers and clients die at random, as often as there is
// time for: see package lifetest. A failure prints its seed. The same seed in
// NAVVY_SEED makes the same choices, and meets them with other timing: it may take
// some lives to fail again.
func TestPromises(t *testing.T) {
	t.Parallel()
	lifetest.Run(t, 5*time.Second, func(t *testing.T, seed uint64) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			l := newLife(t, seed)
			defer func() {
				if t.Failed() {
					t.Logf("%s\nto repeat: NAVVY_SEED=%d go test ./test/team -run TestPromises", strings.Join(l.story, "\n"), seed)
				}
			}()
			l.run()
			for _, bad := range l.record().check() {
				t.Error(bad)
			}
			l.finish()
		})
	})
}

// life is a team to which things happen.
type life struct {
	*team
	rng     *rand.Rand
	wires   map[string]*lifetest.Wire // by worker
	jobs    []*job
	viewers []*viewer
	trouble map[string]bool // workers that were not there for a while
	over    chan struct{}   // ends the watch of the clock
	stalls  chan time.Duration
	story   []string
}

// job is one that a client has handed in, or was about to.
type job struct {
	owner, name string
	inputs      int
	flags       []string
	command     []string
	poison      bool         // it kills its workers
	id          domain.JobID // empty if nobody has heard that it was accepted
	client      *proc        // that waits for it; nil if it is detached
	killed      bool         // the client was
}

// viewer is a client that looks at a job.
type viewer struct {
	*proc
	job  *job
	verb string
}

// crewNames are the workers of a life.
var crewNames = []string{"w0", "w1", "w2"}

func newLife(t *testing.T, seed uint64) *life {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 0))
	dispatch := []string{"pull", "push", "round-robin"}[rng.IntN(3)]
	l := &life{
		team: newTeam(t, options{server: []string{"--dispatch", dispatch}}),
		rng:  rng, wires: map[string]*lifetest.Wire{}, trouble: map[string]bool{},
	}
	l.note("dispatch %s", dispatch)
	l.watchClock()
	for _, name := range crewNames {
		wire := lifetest.NewWire(t)
		wire.Lead(l.addr)
		l.wires[name] = wire
		l.hire(name, wire.Addr, 1+rng.IntN(3), "--drain-timeout", []string{"1s", "1m"}[rng.IntN(2)])
	}
	return l
}

// watchClock notes how long this process got no time, until l.over is closed: then
// navvy may have got none.
func (l *life) watchClock() {
	l.over, l.stalls = make(chan struct{}), make(chan time.Duration, 1)
	go func() {
		const tick = 50 * time.Millisecond
		ticker := time.NewTicker(tick)
		defer ticker.Stop()
		var worst time.Duration
		for last := time.Now(); ; last = time.Now() {
			select {
			case <-ticker.C:
				worst = max(worst, time.Since(last)-tick)
			case <-l.over:
				l.stalls <- worst
				return
			case <-l.Context().Done():
				return
			}
		}
	}()
}

func (l *life) note(format string, args ...any) {
	l.story = append(l.story, time.Now().Format("05.000 ")+fmt.Sprintf(format, args...))
}

func (l *life) chance(n int) bool { return l.rng.IntN(100) < n }

func (l *life) pause(longest time.Duration) {
	<-time.After(time.Duration(l.rng.Int64N(int64(longest))))
}

// run is a life from its begin until all has ended well.
func (l *life) run() {
	l.submitSome()
	for range 10 + l.rng.IntN(15) {
		l.pause(300 * time.Millisecond)
		l.step()
	}
	l.recover()
}

// step is one thing that happens.
func (l *life) step() {
	switch n := l.rng.IntN(100); {
	case n < 25:
		l.submitSome()
	case n < 40:
		l.wait()
	case n < 50:
		l.look()
	case n < 55:
		l.killClient()
	case n < 67:
		l.serverDies()
	case n < 77:
		l.killWorker()
	case n < 84:
		l.freeze()
	case n < 96:
		l.disturb()
	default:
		l.submitPoison()
	}
}

func (l *life) newJob() *job {
	exe, err := os.Executable()
	l.must(err)
	slow := []string{"10ms", "200ms", "1s"}[l.rng.IntN(3)]
	j := &job{
		owner: []string{"ann", "bob"}[l.rng.IntN(2)], name: fmt.Sprint("job", len(l.jobs)), inputs: 1 + l.rng.IntN(12),
		flags:   []string{"--quiet", "--env", slowVar + "=" + slow, "--env", "GORACE=atexit_sleep_ms=0"}, // or each task takes a second
		command: []string{exe, "{}"},
	}
	l.jobs = append(l.jobs, j)
	return j
}

// submitSome hands in a job for which nobody waits.
func (l *life) submitSome() { l.handIn(l.newJob()) }

// submitPoison hands in a job that kills its workers.
func (l *life) submitPoison() {
	if slices.ContainsFunc(l.jobs, func(j *job) bool { return j.poison }) {
		return // there are not so many workers
	}
	j := &job{owner: "admin", name: "poison", inputs: 1, poison: true, command: []string{"/bin/sh", "-c", "kill -9 $PPID; exec sleep 1000"}}
	l.jobs = append(l.jobs, j)
	l.handIn(j)
	for _, name := range crewNames {
		l.trouble[name] = true
	}
}

// handIn tries once to hand in a job, under a key that makes it one job.
func (l *life) handIn(j *job) {
	p := l.start(j.name, l.as(j.owner), l.mapArgs(j, "-d", "--idempotency-key", j.name)...)
	if l.chance(15) {
		l.pause(100 * time.Millisecond)
		p.kill()
	}
	code := l.awaitEnd(p)
	if id := strings.TrimSpace(l.text(p.out)); id != "" && code <= 0 {
		j.id = domain.JobID(id)
	}
	l.note("%s of %s, %d inputs, -d: exit code %d, job %q", j.name, j.owner, j.inputs, code, j.id)
}

func (l *life) mapArgs(j *job, flags ...string) []string {
	args := append([]string{"map", "--name", j.name, "--env", taskDir + "=" + l.traces}, append(flags, j.flags...)...)
	args = append(append(append(args, "--"), j.command...), ":::")
	for n := range j.inputs {
		args = append(args, fmt.Sprint(n))
	}
	return args
}

// wait lets a client wait for a job.
func (l *life) wait() {
	j := l.newJob()
	j.client = l.start(j.name, l.as(j.owner), l.mapArgs(j)...)
	l.note("%s of %s, %d inputs, with a client", j.name, j.owner, j.inputs)
}

// killClient kills one that waits.
func (l *life) killClient() {
	for _, j := range l.jobs {
		if j.client != nil && !j.client.ended() {
			l.note("the client of %s dies", j.name)
			j.killed = true
			j.client.kill()
			return
		}
	}
}

// look lets somebody look at a job until its end.
func (l *life) look() {
	j := l.jobs[l.rng.IntN(len(l.jobs))]
	if j.id == "" || len(l.viewers) > 5 {
		return
	}
	v := &viewer{job: j, verb: []string{"results", "logs", "wait"}[l.rng.IntN(3)]}
	flags := map[string][]string{"results": {"--follow", "-o", "jsonl"}, "logs": {"-f"}}[v.verb]
	v.proc = l.start("view", l.as(j.owner), append(append([]string{v.verb}, flags...), string(j.id))...)
	l.note("%s %s", v.verb, j.name)
	l.viewers = append(l.viewers, v)
}

// serverDies kills the server, or tells it to end, and starts another.
func (l *life) serverDies() {
	if l.chance(80) {
		l.note("the server is killed")
		l.server.kill()
	} else {
		l.note("the server ends")
		l.server.signal(unix.SIGTERM)
		if code := l.awaitEnd(l.server); code > 0 {
			l.Errorf("the server ends with exit code %d", code)
		}
	}
	for range l.rng.IntN(4) { // nobody is there
		l.pause(600 * time.Millisecond)
		switch l.rng.IntN(4) {
		case 0:
			l.killWorker()
		case 1:
			l.wait()
		}
	}
	l.boot()
	if l.chance(80) {
		l.awaitServer()
	} else {
		l.pause(500 * time.Millisecond) // it may die before it serves
	}
}

// killWorker ends a worker, abruptly or not, or starts it again.
func (l *life) killWorker() {
	name := crewNames[l.rng.IntN(len(crewNames))]
	c := l.crews[name]
	switch {
	case c.ended():
		l.note("%s begins again", name)
		l.work(c)
		return
	case l.chance(30):
		l.note("%s is told to end", name)
		c.signal(unix.SIGTERM)
	default:
		l.note("%s is killed", name)
		c.kill()
	}
	l.trouble[name] = true
}

// freeze stops a worker for a while.
func (l *life) freeze() {
	name := crewNames[l.rng.IntN(len(crewNames))]
	l.note("%s freezes", name)
	l.trouble[name] = true
	l.crews[name].signal(unix.SIGSTOP)
	l.pause(4 * l.beat)
	l.crews[name].signal(unix.SIGCONT)
	l.note("%s wakes", name)
}

// disturb does something to the network of a worker.
func (l *life) disturb() {
	name := crewNames[l.rng.IntN(len(crewNames))]
	wire := l.wires[name]
	switch n := l.rng.IntN(100); {
	case n < 40:
		l.note("%s: all connections break", name)
		wire.Snap()
	case n < 75:
		l.note("%s is cut off", name)
		l.trouble[name] = true
		wire.Part()
		l.pause(4 * l.beat)
		wire.Heal()
		l.note("%s is healed", name)
	case n < 90:
		l.note("%s has a slow network", name)
		wire.Slow(time.Duration(l.rng.IntN(200)) * time.Millisecond)
		l.trouble[name] = true
	default:
		l.note("%s: connections are half open", name)
		l.trouble[name] = true
		wire.Lose()
	}
}

// recover lets all be well again, and waits until all jobs have ended.
func (l *life) recover() {
	l.note("all is to be well")
	if l.server.died() {
		l.boot()
	}
	l.awaitServer()
	for name, wire := range l.wires {
		wire.Slow(0)
		wire.Snap() // also those that are half open
		if c := l.crews[name]; c.ended() {
			l.work(c)
		}
	}
	for _, j := range l.jobs {
		if j.client == nil && j.id == "" {
			l.note("%s once more", j.name)
			p := l.start(j.name, l.as(j.owner), l.mapArgs(j, "-d", "--idempotency-key", j.name)...)
			if code := l.awaitEnd(p); code != 0 {
				l.Fatalf("%s: exit code %d: %s", p.what, code, tail(p.err))
			}
			j.id = domain.JobID(strings.TrimSpace(l.text(p.out)))
		}
	}
	eventually(l, "all jobs end", func() bool {
		for _, c := range l.crews { // the poisoned and the drained begin again
			if c.ended() {
				l.note("%s begins again", c.name)
				l.work(c)
			}
		}
		// a client that has only just begun hands in its job later than this looks
		open := slices.ContainsFunc(l.jobs, func(j *job) bool { return j.client != nil && !j.client.ended() })
		for j, err := range l.admin.Jobs(l.Context()) {
			l.must(err)
			open = open || j.Status.Counts.Queued+j.Status.Counts.Running > 0 || j.Status.Open
		}
		return !open
	})
	l.note("all jobs have ended")
}
