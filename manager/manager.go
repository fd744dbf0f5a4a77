package manager

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine"
)

// Manager serves the jobs of one engine. All methods may be called at once.
// Errors wrap the sentinels of package navvy.
type Manager struct {
	eng  *engine.Engine
	opts Options

	// settling keeps reports from being settled while a retry rearranges results.
	settling sync.Mutex

	mu         sync.Mutex
	jobs       map[navvy.JobID]*job // served, or with attempts that still run
	order      []*job               // the same, in order of service
	candidates []*job               // memory of assignLocked
	lines      map[engine.Line]*line
	queues     map[string]*queue // with settings, or with jobs in memory
	sessions   []*Session
	open       []*Session      // those that take tasks, while assignLocked hands them out
	reports    []report        // on their way to disk
	spare      []report        // memory for the next ones
	answers    []engine.Report // memory of settle, guarded by settling
	pumping    bool
	again      bool          // something changed while pumping
	leaving    bool          // no further jobs are taken
	draining   bool          // nothing new is started
	failure    error         // what ended the manager
	stopSoon   []navvy.JobID // too many of their tasks have failed
	attached   map[navvy.JobID]int
	calls      map[navvy.JobID]*Caller // jobs whose one answer somebody waits for
	callers    map[*Caller]struct{}
	// linesKnown says that lines has all that were there at the start.
	linesKnown bool
	// submitting counts the jobs whose inputs are coming in.
	submitting int
	// coming are the same jobs, each with the newest state that is known of it.
	coming      map[navvy.JobID]engine.State
	signals     map[navvy.JobID]*signal
	outputWaits atomic.Int32 // writers of output for which the disk has no space
	// signalsBound is how many signals there may be before some are forgotten.
	signalsBound int
	watched      map[navvy.TaskID]int
	idle         signal // fires when something ended
	wanted       signal // fires when there may be more or fewer tasks to run
	own          ownHost
	expiry       time.Time // when to look for expired jobs
	expireSoon   bool      // some have come that expire sooner
	meters       Meters
	wakes        time.Time // when Run looks again by itself
	policy       policy
	turn         int64     // counts starts, so that workers can take turns
	leaseEnd     time.Time // no lease ends before
	// parted are closed sessions of workers that may return, by name.
	parted map[string][]*Session
	// returning are the names under which a session is just beginning.
	returning map[string]chan struct{}
	// drained are the names of workers that were told to leave and have not said that
	// they know.
	drained map[string]bool
	// conducts are those of workers on which attempts fail at once, by name; suspected
	// are the tasks that are held against them.
	conducts  map[string]*conduct
	suspected map[navvy.TaskID]*conduct
	// awaited are workers that may still run what an earlier manager gave them; until
	// they are back, or awaitUntil, no task starts of a job accepted before began.
	awaited           map[string]struct{}
	began, awaitUntil time.Time

	reported chan struct{} // reports are waiting
	changed  chan struct{} // the next instant may be another one
}

// Options are the settings of a Manager.
type Options struct {
	// Clock tells the time. Defaults to time.Now.
	Clock func() time.Time
	// Logger takes what was decided on its own account. Defaults to one that discards.
	Logger *slog.Logger
	// Parallelism is the cap of jobs that name none. Defaults to the number of processors.
	Parallelism int
	// Dispatch says how tasks come to workers. Defaults to Local.
	Dispatch Dispatch
	// Lease is how long a worker's attempts live without a heartbeat. Zero, the
	// default, means as long as its session: for workers in this process.
	Lease time.Duration
	// Awaited names the workers that were there when the last manager ended: they may
	// still run tasks, and come back with them. Until they are here, or a lease has
	// passed, only jobs that are accepted from now on start. Defaults to none.
	Awaited []string
	// MaxLost is how often a task may lose its worker before it fails. Defaults to 3.
	MaxLost int
	// Jitter draws the pause before a retry from the longest one. Defaults to
	// a random one between half of it and all of it.
	Jitter func(longest time.Duration) time.Duration
	// Full tells whether the disk is full, so that nothing new is started. Defaults to never.
	Full func() bool
	// Local tells what this process can enforce, where no workers but its own will
	// come: a job that needs more is refused. It is called once, when it is first
	// needed. Defaults to nil: workers may come that can do more.
	Local func() []navvy.KindAbilities
}

const defaultMaxLost = 3

func (o *Options) withDefaults() Options {
	var d Options
	if o != nil {
		d = *o
	}
	if d.Clock == nil {
		d.Clock = time.Now
	}
	if d.Logger == nil {
		d.Logger = slog.New(slog.DiscardHandler)
	}
	if d.Parallelism <= 0 {
		d.Parallelism = runtime.NumCPU()
	}
	if d.MaxLost <= 0 {
		d.MaxLost = defaultMaxLost
	}
	if d.Jitter == nil {
		d.Jitter = halfJitter
	}
	if d.Full == nil {
		d.Full = func() bool { return false }
	}
	return d
}

// New makes a manager of all jobs that eng holds, with a Dispatch that there is. Nothing is read before a worker comes.
func New(eng *engine.Engine, opts *Options) *Manager {
	o := opts.withDefaults()
	m := &Manager{
		eng: eng, opts: o, lines: map[engine.Line]*line{}, queues: map[string]*queue{}, own: ownHost{ask: o.Local},
		jobs: map[navvy.JobID]*job{}, attached: map[navvy.JobID]int{}, signals: map[navvy.JobID]*signal{},
		calls:    map[navvy.JobID]*Caller{},
		callers:  map[*Caller]struct{}{},
		coming:   map[navvy.JobID]engine.State{},
		watched:  map[navvy.TaskID]int{},
		conducts: map[string]*conduct{}, suspected: map[navvy.TaskID]*conduct{},
		parted: map[string][]*Session{}, returning: map[string]chan struct{}{}, drained: map[string]bool{}, awaited: map[string]struct{}{}, policy: policyOf(o.Dispatch), began: o.Clock(),
		reported: make(chan struct{}, 1), changed: make(chan struct{}, 1),
	}
	m.awaitUntil = m.began.Add(o.Lease)
	for _, name := range o.Awaited {
		m.awaited[name] = struct{}{}
	}
	return m
}

// Run settles reports and does what is due, until ctx ends or the engine fails;
// it then returns why. It is called once.
func (m *Manager) Run(ctx context.Context) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var settled time.Time
	for {
		next, err := m.Tick(ctx)
		if err != nil {
			return m.fail(err)
		}
		timer.Reset(max(0, next.Sub(m.opts.Clock())))
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-m.reported:
			if err := m.gather(ctx, settled); err != nil {
				return err
			}
			if err := m.Settle(ctx); err != nil {
				return m.fail(err)
			}
			settled = time.Now()
		case <-m.changed:
		case <-timer.C:
		}
	}
}

// gatherFor is how long reports may wait for others while tasks run on.
const gatherFor = 2 * time.Millisecond

// gather lets reports come together, so that short tasks share their fsyncs: a
// commit follows the last one at once only if nothing runs. A lone task never waits.
func (m *Manager) gather(ctx context.Context, settled time.Time) error {
	wait := gatherFor - time.Since(settled)
	if wait <= 0 || !m.running() {
		return nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// running tells whether any attempt runs.
func (m *Manager) running() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.sessions {
		if s.running > 0 {
			return true
		}
	}
	return false
}

// Tick does what is due now, and tells when something may be due next.
func (m *Manager) Tick(ctx context.Context) (time.Time, error) {
	now := m.opts.Clock()
	m.expireLeases()
	m.mu.Lock()
	next, failing := m.expiry, m.stopSoon
	if m.expireSoon {
		next = time.Time{}
	}
	m.stopSoon, m.expireSoon = nil, false
	m.mu.Unlock()
	for _, id := range failing {
		if err := m.stopFailing(ctx, id); err != nil {
			return time.Time{}, err
		}
	}
	if !next.After(now) {
		var err error
		if next, _, err = m.eng.Expire(ctx); err != nil {
			return time.Time{}, fmt.Errorf("manager: remove expired jobs: %w", err)
		}
	}
	if err := m.pump(ctx); err != nil {
		return time.Time{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.expiry = next
	for _, at := range m.dueLocked() {
		if at.Before(next) {
			next = at
		}
	}
	m.wakes = next
	return next, nil
}

// ExpireSoon has the next Tick look for jobs whose time has come, and asks for one.
func (m *Manager) ExpireSoon() {
	m.mu.Lock()
	m.expireSoon = true
	m.mu.Unlock()
	m.poke()
}

// fail ends the manager: everybody who waits is told.
func (m *Manager) fail(err error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failure == nil {
		m.failure = err
		for _, s := range m.signals {
			s.fire()
		}
		for _, s := range m.sessions {
			s.wake()
		}
		for c := range m.callers {
			c.wake()
		}
		m.idle.fire()
	}
	return err
}

// Draining tells whether the manager takes no further jobs because it is about to leave.
func (m *Manager) Draining() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.leaving
}

// Drain takes no further jobs, and returns when it is right to leave: it serves
// on until those that are being submitted are complete, then starts nothing new
// and lets what runs end, and all reports be settled. With interrupt it waits
// for no submission, and ends what runs, to run again later.
func (m *Manager) Drain(ctx context.Context, interrupt bool) error {
	m.mu.Lock()
	m.leaving = true
	m.mu.Unlock()
	if !interrupt {
		if err := m.wait(ctx, func() bool { return m.submitting == 0 }); err != nil {
			return err
		}
	}
	m.mu.Lock()
	m.draining = true
	for _, j := range m.jobs {
		if interrupt {
			j.stopAll()
		}
		m.fireLocked(j.ID)
	}
	m.mu.Unlock()
	return m.wait(ctx, m.quietLocked)
}

// AwaitIdle returns when there is nothing left to do: no attempt runs, no report
// waits, nobody is attached, and no queued job could be served.
func (m *Manager) AwaitIdle(ctx context.Context) error { return m.wait(ctx, m.idleLocked) }

// Idle tells whether there is nothing left to do.
func (m *Manager) Idle() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.idleLocked()
}

func (m *Manager) idleLocked() bool {
	if !m.quietLocked() || len(m.attached) > 0 || m.submitting > 0 || m.moreLocked() {
		return false
	}
	for _, j := range m.jobs {
		if j.serveable() && (m.opts.Local == nil || m.unfitLocked(&j.demand) == "") {
			return false
		}
	}
	return true
}

func (m *Manager) quietLocked() bool {
	for _, j := range m.jobs {
		if j.busy() {
			return false
		}
	}
	return len(m.reports) == 0
}

// wait blocks until the condition holds; it is judged under the lock, when something has ended.
func (m *Manager) wait(ctx context.Context, condition func() bool) error {
	for {
		m.mu.Lock()
		if m.failure != nil {
			defer m.mu.Unlock()
			return m.failure
		}
		if condition() {
			m.mu.Unlock()
			return nil
		}
		changed := m.idle.wait()
		m.mu.Unlock()
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
		}
	}
}

// poke makes Run look again at what is due.
func (m *Manager) poke() {
	select {
	case m.changed <- struct{}{}:
	default:
	}
}

// signal wakes everybody who waits for it, each time that it fires. It is
// guarded by its owner's lock; its zero value is ready.
type signal struct {
	ch      chan struct{}
	callers map[*Caller]navvy.JobID // which look at the job then
}

// wait gives a channel that the next fire closes.
func (s *signal) wait() <-chan struct{} {
	if s.ch == nil {
		s.ch = make(chan struct{})
	}
	return s.ch
}

func (s *signal) fire() {
	if s.ch != nil {
		close(s.ch)
		s.ch = nil
	}
	for c, id := range s.callers {
		c.changedLocked(id)
	}
	s.callers = nil
}

// Wake makes the manager look again at what can be started, after something
// changed that it was not told of.
func (m *Manager) Wake() { m.poke() }

// Busy is how much has to end before it is right to leave: attempts that run or
// are not on disk, and jobs that are being submitted.
func (m *Manager) Busy() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.submitting
	for _, j := range m.jobs {
		n += len(j.running) + len(j.settling)
	}
	return n
}

// Leave tells everybody who waits for a job that this manager will serve it no more.
func (m *Manager) Leave(why error) { _ = m.fail(why) }

// Left tells whether there are detached jobs that somebody should go on serving.
func (m *Manager) Left(ctx context.Context) (bool, error) {
	lines, err := m.eng.Lines(ctx)
	for _, line := range lines {
		left, err := m.leftIn(ctx, line)
		if left || err != nil {
			return left, err
		}
	}
	return false, err
}

func (m *Manager) leftIn(ctx context.Context, line engine.Line) (bool, error) {
	var after []byte
	for {
		ids, last, err := m.eng.QueuedAfter(ctx, line, after, window)
		if err != nil || len(ids) == 0 {
			return false, err
		}
		for _, id := range ids {
			job, state, err := m.eng.Job(ctx, id)
			if ignoreGone(err) != nil && !errors.Is(err, navvy.ErrCorrupt) {
				return false, err
			}
			if err == nil && job.Detached && !state.Ended() && m.refuse(job) == nil {
				return true, nil
			}
		}
		after = last
	}
}
