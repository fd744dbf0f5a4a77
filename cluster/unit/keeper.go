package unit

import (
	"fmt"
	"log/slog"
	"maps"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/internal/pause"
)

// keeper keeps one unit of a supervisor up.
type keeper struct {
	dir     string
	o       *Options
	log     *slog.Logger
	leaving <-chan struct{}
	changes chan *change
	gone    chan struct{} // closed when it is over: the unit was removed, or the supervisor leaves

	// Of the goroutine that runs.
	spec   Spec
	proc   *process // nil if none runs
	pauses pause.Series
	tries  int              // in a row that did not go well
	again  <-chan time.Time // when the next is

	mu      sync.Mutex
	state   State
	logSize int64
}

// change is what is asked of a keeper.
type change struct {
	spec  *Spec // nil to remove it
	reply chan error
}

// newKeeper makes the keeper of a unit, with what runs of it, if anything does.
func newKeeper(dir string, o *Options, log *slog.Logger, spec *Spec, leaving <-chan struct{}) *keeper {
	k := &keeper{
		dir: dir, o: o, log: log.With("unit", spec.Name), leaving: leaving, changes: make(chan *change), gone: make(chan struct{}),
		spec: *spec, pauses: pause.Series{First: o.FirstPause, Longest: o.LongestPause}, state: spec.down(logFile(dir, spec.Name)),
		logSize: spec.logSize(), proc: adopt(readTrace(dir, spec.Name), true),
	}
	if k.proc == nil {
		k.show(Waiting)
		return k
	}
	k.log.Info("adopted", "pid", k.proc.Pid)
	k.show(Up)
	return k
}

// run keeps the unit up until it is removed, or the supervisor leaves, which leaves it.
func (k *keeper) run(removing bool) {
	defer close(k.gone)
	if t := readTrace(k.dir, k.spec.Name); k.proc == nil && t.now() {
		killSession(t) // it has ended while nobody looked after it
		k.swept()
	}
	if removing {
		if err := k.remove(); err != nil {
			k.log.Error("it cannot be removed", "error", err)
		}
		return
	}
	if k.proc != nil && k.proc.Digest != k.spec.Digest() && k.stop() != nil { // what it was before
		return
	}
	if k.proc == nil {
		_ = k.start() // and again, if it cannot be started
	}
	k.look()
}

// look keeps the unit up once it has begun.
func (k *keeper) look() {
	for {
		var ended <-chan struct{}
		if k.proc != nil {
			ended = k.proc.ended
		}
		select {
		case <-ended:
			k.died()
		case <-k.again:
			_ = k.start()
		case c := <-k.changes:
			err := k.change(c)
			c.reply <- err
			if c.spec == nil && err == nil {
				return
			}
		case <-k.leaving:
			if k.proc != nil {
				k.proc.leave()
			}
			return
		}
	}
}

// start starts the unit, or has it tried again later.
func (k *keeper) start() error {
	k.again = nil
	p, err := start(k.dir, &k.spec)
	if err != nil {
		k.log.Error("it cannot be started", "error", err)
		k.later("it cannot be started: " + err.Error())
		return fmt.Errorf("unit %s: %w", k.spec.Name, err)
	}
	k.proc = p
	k.log.Info("started", "pid", p.Pid)
	k.show(Up)
	return nil
}

// died has a unit that has ended started again after a pause.
func (k *keeper) died() {
	p := k.proc
	k.proc = nil
	k.swept()
	k.log.Warn("ended", "pid", p.Pid, "how", p.exit, "after", time.Since(p.began).Round(time.Millisecond))
	if time.Since(p.began) >= k.o.Well {
		k.tries = 0
		k.pauses.Reset()
	}
	k.later(p.exit)
}

// swept forgets a process of whose session nothing is left: others may get its number.
func (k *keeper) swept() { _ = os.Remove(traceFile(k.dir, k.spec.Name)) }

// later has it started again after a pause, unless it was tried too often.
func (k *keeper) later(exit string) {
	k.tries++
	phase := Waiting
	if k.tries > k.o.Tries {
		phase = GaveUp
		k.log.Error("it is not started again", "tries", k.tries)
	} else {
		k.again = time.After(k.pauses.Next())
	}
	k.show(phase)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.state.Exit = exit
	if phase == Waiting {
		k.state.Starts++
	}
}

// change makes the unit what was asked for.
func (k *keeper) change(c *change) error {
	if c.spec == nil {
		return k.remove()
	}
	same := c.spec.Digest() == k.spec.Digest()
	if same && k.proc != nil {
		return nil
	}
	if !same {
		if err := writeUnit(k.dir, &record{Spec: *c.spec}); err != nil {
			return err
		}
		if err := k.stop(); err != nil {
			return err
		}
		k.spec = *c.spec
	}
	k.tries = 0
	k.pauses.Reset()
	k.mu.Lock()
	k.state.Starts = 0
	k.mu.Unlock()
	return k.start()
}

// remove ends the unit and forgets it. A supervisor that dies meanwhile is followed by one
// that goes on with that.
func (k *keeper) remove() error {
	if err := writeUnit(k.dir, &record{Spec: k.spec, Removing: true}); err != nil {
		return err
	}
	if err := k.stop(); err != nil {
		return err
	}
	k.log.Info("removed")
	return forgetUnit(k.dir, k.spec.Name)
}

// stop ends what runs, with its session. It is an error only if the supervisor leaves meanwhile.
func (k *keeper) stop() error {
	p := k.proc
	if p == nil {
		return nil
	}
	k.show(Stopping)
	p.signal(k.spec.stopSignal())
	timer := time.NewTimer(k.spec.grace())
	defer timer.Stop()
	select {
	case <-p.ended:
	case <-timer.C:
		k.log.Warn("it does not end, and is killed", "pid", p.Pid)
		p.signal(syscall.SIGKILL)
		<-p.ended
	case <-k.leaving:
		p.leave()
		k.proc = nil
		return fmt.Errorf("unit %s: its supervisor ends: %w", k.spec.Name, navvy.ErrUnavailable)
	}
	k.proc = nil
	return nil
}

// show tells in which phase it is.
func (k *keeper) show(phase Phase) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.state.Digest, k.state.Notes, k.state.Phase = k.spec.Digest(), maps.Clone(k.spec.Notes), phase
	k.logSize = k.spec.logSize()
	k.state.Pid, k.state.Since = 0, time.Time{}
	if k.proc != nil {
		k.state.Pid, k.state.Since = k.proc.Pid, k.proc.began
	}
}

// now is how the unit is.
func (k *keeper) now() State {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.state
}

// ask has the keeper do something, and waits for it.
func (k *keeper) ask(spec *Spec) error {
	c := &change{spec, make(chan error, 1)}
	select {
	case k.changes <- c:
		return <-c.reply
	case <-k.gone:
		return errGone
	}
}
