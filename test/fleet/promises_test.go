package fleet

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/manager"
	"github.com/navvy-run/navvy/test/lifetest"
)

// TestPromises lets servers and workers die, part and return at random, with real
// processes as tasks, as often as there is time for; see package lifetest. Clocks and
// the scheduler are real: a seed repeats what is done, not exactly when.
func TestPromises(t *testing.T) {
	lifetest.Run(t, 6*time.Second, func(t *testing.T, seed uint64) {
		l := newLife(t, seed)
		if l.run(); t.Failed() {
			t.Fatalf("%s\nto repeat: NAVVY_SEED=%d go test ./test/fleet -run TestPromises", strings.Join(l.story, "\n"), seed)
		}
	})
}

// life is a fleet to which things happen.
type life struct {
	*site
	rng   *rand.Rand
	dir   string // where tasks say what they do
	crews map[string]*crew
	jobs  map[navvy.JobID]int // how many tasks each accepted job has
	story []string
}

const steps = 30

func newLife(t *testing.T, seed uint64) *life {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 0))
	dispatch := []manager.Dispatch{manager.Pull, manager.Push, manager.RoundRobin}[rng.IntN(3)]
	l := &life{
		site: newSite(t, manager.Options{Dispatch: dispatch, Parallelism: 100, MaxLost: 1000}),
		rng:  rng, dir: t.TempDir(), crews: map[string]*crew{}, jobs: map[navvy.JobID]int{},
	}
	l.note("dispatch %s", dispatch)
	return l
}

func (l *life) note(format string, args ...any) {
	l.story = append(l.story, time.Now().Format("05.000 ")+fmt.Sprintf(format, args...))
}

// run is the life from its begin to its end, when all is well again and every
// task has its one answer.
func (l *life) run() {
	for i := range 2 {
		l.work(fmt.Sprint("w", i))
	}
	l.submitSome()
	for range steps {
		l.pause(100 * time.Millisecond)
		switch l.rng.IntN(8) {
		case 0, 1:
			l.submitSome()
		case 2:
			l.note("the server dies")
			l.kill()
			l.pause(lease)
			l.start()
		case 3:
			l.note("all connections break")
			l.wire.Snap()
		case 4:
			l.note("the network is cut")
			l.wire.Part()
			l.pause(2 * lease)
			l.wire.Heal()
		case 5, 6:
			l.replace(fmt.Sprint("w", l.rng.IntN(3)))
		case 7:
			l.stopOne()
		}
	}
	for name := range map[string]bool{"w0": true, "w1": true} {
		if l.crews[name] == nil {
			l.work(name)
		}
	}
	l.check()
}

func (l *life) pause(longest time.Duration) {
	timer := time.NewTimer(time.Duration(l.rng.Int64N(int64(longest))))
	<-timer.C
}

// work starts a worker on its directory.
func (l *life) work(name string) {
	dir := filepath.Join(l.dir, "dir-"+name)
	l.must(os.MkdirAll(dir, 0o700))
	l.note("%s begins", name)
	l.crews[name] = l.hire(name, dir, 1+l.rng.IntN(3))
}

// replace ends a worker, abruptly or not, if there is one, and else starts it.
func (l *life) replace(name string) {
	c := l.crews[name]
	if c == nil {
		l.work(name)
		return
	}
	delete(l.crews, name)
	if l.rng.IntN(2) == 0 {
		l.note("%s drains", name)
		c.Drain()
		l.pause(300 * time.Millisecond)
	}
	l.note("%s ends", name)
	if err := c.stop(); err != nil && !strings.Contains(err.Error(), "context canceled") {
		l.Errorf("%s ends with %v", name, err)
	}
}

// submitSome hands a job in, if the server is to be reached. Its tasks say that they
// begin, write so much that some of it is logged, and say that they end.
func (l *life) submitSome() {
	n := 1 + l.rng.IntN(6)
	conn := l.direct()
	job := script(fmt.Sprintf(`echo begin >> %s/log-$NAVVY_JOB-$NAVVY_INDEX; seq %d; sleep 0.%02d; echo last; echo end >> %[1]s/log-$NAVVY_JOB-$NAVVY_INDEX`,
		l.dir, 1+l.rng.IntN(20000), l.rng.IntN(60)))
	id := l.submit(client.New(conn), job, n)
	l.jobs[id] = n
	l.note("job %s of %d tasks", id, n)
}

// stopOne stops a job.
func (l *life) stopOne() {
	for id := range l.jobs {
		l.note("stop %s", id)
		_, err := client.New(l.direct()).Stop(l.Context(), id, "enough")
		if err != nil && !errors.Is(err, navvy.ErrConflict) {
			l.Errorf("stop %s: %v", id, err)
		}
		delete(l.jobs, id)
		return
	}
}

// check waits until all jobs have ended, and compares what they answered with what
// they did.
func (l *life) check() {
	c := client.New(l.direct())
	for id, n := range l.jobs {
		results, texts := l.answers(c, id)
		if len(results) != n {
			l.Errorf("job %s of %d tasks has %d answers", id, n, len(results))
		}
		for i, r := range results {
			log := lines(l.T, filepath.Join(l.dir, fmt.Sprintf("log-%s-%d", id, i)))
			ended := strings.Count(strings.Join(log, "\n"), "end")
			if r.State != navvy.Succeeded || ended == 0 {
				l.Errorf("task %s: %+v, it ended %d times", r.Task, r, ended)
			}
			if !strings.HasPrefix(texts[i], "1\n") || !strings.HasSuffix(texts[i], "\nlast\n") || int64(len(texts[i])) != r.Output.Stdout {
				l.Errorf("task %s: its output has %d bytes, and was %d", r.Task, len(texts[i]), r.Output.Stdout)
			}
		}
	}
	for name, crew := range l.crews {
		awaitFileSize(l.T, filepath.Join(crew.dir, "reports"), 0)
		eventually(l.T, name+" has an empty spool", func() bool { return len(entries(l.T, filepath.Join(crew.dir, "spool"))) == 0 })
	}
	if bad, err := l.verify(); err != nil || len(bad) > 0 {
		l.Errorf("verify: %v, %v", bad, err)
	}
}

// verify reads all that the server has kept, when it has ended.
func (l *life) verify() (bad []error, err error) {
	for _, c := range l.crews {
		_ = c.stop()
	}
	l.kill()
	_, err = l.eng.Verify(l.Context(), func(err error) { bad = append(bad, err) })
	return bad, err
}
