// Package remotetest is a driver of a pretended remote system, for tests. It is as
// unlike a process as a driver can be: attempts start some time after Start,
// may turn out then not to be runnable, live on when the client dies, keep
// their output, and are adopted by the next client.
package remotetest

import (
	"errors"
	"fmt"
	"sync"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/runner/driver/drivertest"
)

// World is the remote system. Its jobs are named by the tokens of their attempts.
// All methods may be called at once.
type World struct {
	mu      sync.Mutex
	jobs    map[string]*job
	work    map[*navvy.Spec]drivertest.Work
	cut     bool
	changed chan struct{} // closed and replaced whenever anything changes
}

// NewWorld returns a world without jobs.
func NewWorld() *World {
	return &World{jobs: make(map[string]*job), work: make(map[*navvy.Spec]drivertest.Work), changed: make(chan struct{})}
}

// job is what the remote system knows about an attempt.
type job struct {
	work   drivertest.Work
	stdout []byte
	stderr []byte
	asked  bool // to end
	forced bool
	ended  bool
	end    driver.End
}

// Spec makes a spec whose tasks do the work, in this world.
func (w *World) Spec(work drivertest.Work) (*navvy.Spec, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	spec := &navvy.Spec{Command: &navvy.Command{Args: []string{"remote"}, Dir: "/"}}
	w.work[spec] = work
	return spec, true
}

// Disconnect makes each call fail, also those under way, until heal is called.
func (w *World) Disconnect() (heal func()) {
	set := func(cut bool) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.cut = cut
		w.notify()
	}
	set(true)
	return func() { set(false) }
}

var errCut = fmt.Errorf("remote: the connection is lost: %w", navvy.ErrUnavailable)

// notify wakes all who wait for a change. The lock is held.
func (w *World) notify() {
	close(w.changed)
	w.changed = make(chan struct{})
}

// create makes a job, or finds the one that bears the name already.
func (w *World) create(name string, spec *navvy.Spec) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cut {
		return errCut
	}
	if w.jobs[name] != nil {
		return nil
	}
	work, ok := w.work[spec]
	if !ok {
		return errors.New("remote: a spec that this world did not make")
	}
	j := &job{work: work}
	w.jobs[name] = j
	go w.run(j)
	return nil
}

// job finds a job by its name.
func (w *World) job(name string) (*job, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch j := w.jobs[name]; {
	case w.cut:
		return nil, errCut
	case j == nil:
		return nil, fmt.Errorf("remote: job %q: %w", name, navvy.ErrNotFound)
	default:
		return j, nil
	}
}

// stop asks a job to end.
func (w *World) stop(name string, force bool) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cut {
		return errCut
	}
	if j := w.jobs[name]; j != nil {
		j.asked, j.forced = true, j.forced || force
		w.notify()
	}
	return nil
}

// remove forgets a job that has ended.
func (w *World) remove(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.jobs, name)
}

// run does the work of a job, on the remote side.
func (w *World) run(j *job) {
	w.mu.Lock()
	defer w.mu.Unlock()
	defer func() {
		j.ended = true
		w.notify()
	}()
	work := j.work
	if work.Refuse != "" {
		j.end.Refusal = &driver.Refusal{Reason: work.Refuse, Message: "remote: cannot be run"}
		return
	}
	j.stdout = append([]byte(work.Stdout), drivertest.Pattern(work.Pattern)...)
	j.stderr = []byte(work.Stderr)
	w.notify()
	j.end.Exit = navvy.Exit{Code: work.Exit, Signal: work.Signal}
	if !work.Hang {
		return
	}
	for !j.forced && (!j.asked || work.Stubborn) {
		changed := w.changed
		w.mu.Unlock()
		<-changed
		w.mu.Lock()
	}
	j.end.Exit = navvy.Exit{Code: work.OnStop}
	if j.forced {
		j.end.Exit = navvy.Exit{Signal: 9}
	}
}

// Stop ends all jobs.
func (w *World) Stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, j := range w.jobs {
		j.asked, j.forced = true, true
	}
	w.notify()
}
