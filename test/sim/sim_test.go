package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/navvy-run/navvy/engine"
	"github.com/navvy-run/navvy/engine/driver"
	"github.com/navvy-run/navvy/manager"
)

// config is what a simulation follows from.
type config struct {
	seed   uint64
	memory bool // on engine/memory
	breaks      // rules that are broken on purpose
}

// sim is one simulation. One goroutine drives it.
type sim struct {
	config
	ctx     context.Context // never ends
	waiting context.Context // has ended: a call that would wait returns
	rng     *rand.Rand
	machine machine

	store    driver.Store
	eng      *engine.Engine
	mgr      *manager.Manager
	boots    int
	epochs   map[uint32]int // which boot had it
	broken   bool           // the process has to die
	ahead    time.Duration  // of the clock that navvy sees
	since    time.Time      // the present step began
	furthest time.Time      // see latest

	model   *model
	hands   []*hand
	subs    []*submission
	readers []*reader
	strays  uint32
	filled  bool // the disk was full in this boot
	calm    bool // no more trouble
	rushed  bool // several calls were made at once

	bad   *violation // the first
	trace []string
	steps int
}

// Times of the simulated world.
const (
	lease      = 10 * time.Second
	keepRead   = 6 * time.Hour
	keepUnread = 24 * time.Hour
	reserve    = 1 << 20

	clockFormat = time.StampMilli
)

// longest is far more than a simulation takes: milliseconds.
const longest = 3 * time.Minute

// simulate runs one simulation in a bubble of its own, in which time passes when
// all goroutines wait, and tells which promise was broken, nil if none was, and
// what happened.
func simulate(t *testing.T, c config) (bad *violation, story func() string) {
	t.Helper()
	watch := time.AfterFunc(longest, func() { // outside of the bubble, where time passes
		debug.SetTraceback("all")
		panic(fmt.Sprintf("the life of seed %d hangs", c.seed))
	})
	defer watch.Stop()
	synctest.Test(t, func(*testing.T) {
		s := newSim(c)
		s.run()
		bad, story = s.bad, s.story
	})
	return bad, story
}

// story is what happened, one line each, with numbers in place of random ids.
func (s *sim) story() string {
	var names []string
	for _, j := range s.model.jobs {
		names = append(names, string(j.id), strconv.Itoa(j.n))
	}
	return strings.NewReplacer(names...).Replace(strings.Join(s.trace, "\n"))
}

func newSim(c config) *sim {
	s := &sim{config: c, ctx: context.Background(), rng: rand.New(rand.NewPCG(c.seed, 0)), model: newModel(), epochs: map[uint32]int{}}
	var cancel context.CancelFunc
	s.waiting, cancel = context.WithCancel(s.ctx)
	cancel()
	if c.memory {
		s.machine = newMemoryMachine(rand.New(rand.NewPCG(c.seed, 1)))
	} else {
		p := newPebbleMachine(rand.New(rand.NewPCG(c.seed, 1)))
		p.disk.lies = c.lies
		s.machine = p
	}
	return s
}

// now is the time as navvy sees it. From one boot to the next it may go back.
func (s *sim) now() time.Time { return time.Now().Add(s.ahead) }

// latest is the latest time that navvy can have seen.
func (s *sim) latest() time.Time {
	if now := s.now(); now.After(s.furthest) {
		s.furthest = now
	}
	return s.furthest
}

// chance is true n times out of 100.
func (s *sim) chance(n int) bool { return s.rng.IntN(100) < n }

// note adds a line to the trace.
func (s *sim) note(format string, args ...any) {
	s.trace = append(s.trace, fmt.Sprintf(format, args...))
}

// violate says that a promise was broken. Only the first counts.
func (s *sim) violate(r rule, format string, args ...any) {
	if s.bad == nil {
		s.bad = &violation{r, fmt.Sprintf(format, args...)}
		s.note("VIOLATION: %s", s.bad)
	}
}

// outcome is what became of a call.
type outcome int

const (
	done    outcome = iota
	refused         // for a good reason
	cut             // by trouble: nobody knows whether it took effect
)

// call judges the error of a call. Those that are named are refusals; any other
// comes only from a machine in trouble, and ends the process.
func (s *sim) call(what string, err error, refusals ...error) outcome {
	if err == nil {
		return done
	}
	for _, r := range refusals {
		if errors.Is(err, r) {
			return refused
		}
	}
	if !s.machine.hit() {
		s.violate(ruleCalls, "%s: %v", what, err)
	}
	s.note("%s is cut: %v", what, err)
	s.broken = true
	return cut
}

// read judges the error of a call that changes nothing; false if it failed.
func (s *sim) read(what string, err error) bool { return s.call(what, err) == done }

// run is a whole life: steps, with crashes among them, and then to the end.
func (s *sim) run() {
	s.boot()
	weights := s.draw()
	n := 30 + s.rng.IntN(120)
	for s.steps = 0; s.steps < n && s.bad == nil; s.steps++ {
		s.step(weights)
	}
	s.finish()
	if s.bad == nil {
		s.shutDown()
		s.boot()
		s.look()
	}
	s.note("end")
	s.stop()
}

// step does one thing, lets navvy come to rest, and sees what follows.
func (s *sim) step(weights []int) {
	s.since = s.now()
	i := pick(s.rng, weights)
	actions[i].do(s)
	synctest.Wait()
	s.drain()
	s.recover()
}

// recover boots again if the machine or the process has died.
func (s *sim) recover() {
	if s.bad == nil && (s.broken || s.machine.dead()) {
		s.crash(false)
	}
}

// crash ends the process, and perhaps the machine, and boots again.
func (s *sim) crash(power bool) {
	s.note("crash, power %t", power)
	s.machine.end(power)
	s.stop()
	s.boot()
}

// stop lets go of a process that is dead.
func (s *sim) stop() {
	if s.store != nil {
		_ = s.store.Close() // the dead say nothing
		s.store = nil
	}
	synctest.Wait()
}

// shutDown ends the process in good order.
func (s *sim) shutDown() {
	s.note("shut down")
	s.settle()
	if s.drain(); s.broken || s.bad != nil {
		return
	}
	if s.mgr.Busy() == 0 {
		s.read("drain", s.mgr.Drain(s.ctx, false))
	} else {
		_ = s.mgr.Drain(s.waiting, true) // does not wait for those
	}
	err := s.store.Close()
	s.store = nil
	if s.filled && err != nil {
		err = nil // on a full disk it does not wait for what can be done later
	}
	s.call("close", err)
	synctest.Wait()
	s.machine.end(false)
}

// boot starts navvy on what the machine holds, and checks what that is.
func (s *sim) boot() {
	for try := 0; ; try++ {
		s.boots++
		s.broken = false
		s.machine.free()
		s.filled = false
		ok := s.start(try < 2)
		synctest.Wait()
		if s.bad != nil || ok && !s.broken && !s.machine.dead() {
			return
		}
		s.note("boot %d is cut", s.boots)
		s.machine.end(s.chance(50))
		s.stop()
	}
}

// start is one try.
func (s *sim) start(trouble bool) bool {
	s.latest()
	s.ahead += time.Duration(s.rng.Int64N(int64(4*time.Second))) - time.Second // no clock is perfect
	s.since = s.now()
	s.forget()
	store, err := s.machine.boot()
	if err != nil {
		s.violate(ruleDurable, "the store does not open: %v", err)
		return false
	}
	s.store = s.wrap(store)
	synctest.Wait()
	if trouble && !s.calm && s.boots > 1 && s.chance(15) {
		s.arm()
	}
	eng, err := engine.Open(s.ctx, s.store, &engine.Options{Clock: s.now, KeepRead: keepRead, KeepUnread: keepUnread, Reserve: reserve})
	if !s.read("open the engine", err) {
		return false
	}
	s.eng = eng
	s.epochs[eng.Epoch()] = s.boots
	s.mgr = manager.New(eng, &manager.Options{
		Clock: s.now, Parallelism: parallelism, Lease: s.leaseOf(), Full: s.machine.full,
		Jitter: func(longest time.Duration) time.Duration { return longest },
	})
	s.note("boot %d, epoch %d", s.boots, eng.Epoch())
	s.look()
	if s.broken || s.bad != nil {
		return false
	}
	s.welcome()
	return true
}

// forget is what the death of the process does to those who spoke to it.
func (s *sim) forget() {
	for _, sub := range s.subs {
		sub.died()
	}
	s.subs, s.readers = nil, nil
	s.model.files.begun = nil
	for _, j := range s.model.jobs {
		j.leave = nil
		// Whether all tasks of an open job were answered shows itself.
		maybe := []face{j.sure.crashed(true)}
		for _, f := range j.maybe {
			maybe = append(maybe, f.crashed(true), f.crashed(false))
		}
		j.sure, j.maybe = j.sure.crashed(false), maybe
	}
	for _, h := range slices.Clone(s.hands) {
		h.unplug()
		if s.chance(60) {
			s.bury(h)
		}
	}
}

// arm lets something go wrong at one of the next writes.
func (s *sim) arm() {
	kind := trouble(s.rng.IntN(int(troubles)))
	n := 1 + s.rng.IntN(1<<s.rng.IntN(8))
	s.note("trouble %d at write %d from now", kind, n)
	s.machine.arm(n, kind)
}

// pick draws an index with the given weights.
func pick(rng *rand.Rand, weights []int) int {
	total := 0
	for _, w := range weights {
		total += w
	}
	n := rng.IntN(total)
	for i, w := range weights {
		if n -= w; n < 0 {
			return i
		}
	}
	return 0
}

// oneOf draws an element; the zero value of an empty list.
func oneOf[T any](rng *rand.Rand, list []T) (x T) {
	if len(list) == 0 {
		return x
	}
	return list[rng.IntN(len(list))]
}
