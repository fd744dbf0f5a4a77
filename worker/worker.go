package worker

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/client/relay"
	"github.com/navvy-run/navvy/internal/pause"
	"github.com/navvy-run/navvy/runner"
)

// Worker runs tasks of one server.
type Worker struct {
	server  *client.Workers
	runners map[string]*runner.Runner
	opts    Options
	log     *slog.Logger
	journal *journal // nil without a directory
	hands   hands
	room    *room
	process string       // told to the server, see client.WorkerInfo
	relay   *relay.Relay // nil if tasks have no socket
	staged  stagedFiles

	mu        sync.Mutex
	runs      map[client.AttemptRef]*attempt
	unsettled map[client.AttemptRef]*finished // of a worker that returns
	// outliving are the attempts of runners that keep what has ended until it is settled.
	outliving map[client.AttemptRef]bool
	reports   []client.Report              // ready to be sent in this session
	explained map[client.AttemptRef]string // what attempts wait for, of which the server has asked
	freed     int                          // slots, since the server was told the last time
	ready     chan struct{}                // there are reports, or slots are free
	link      *link                        // the session
	changed   chan struct{}                // closed when link changes
	share     string                       // that of the last session, see client.Welcome
	away      map[string]bool              // kinds of which it was said that what does them was not reached; of serve
	doubted   bool                         // it was said in this session that ours is another
	draining  bool
	sentAway  bool          // the server has asked it to drain
	drained   chan struct{} // closed when it is draining and nothing is left
	uploads   sync.WaitGroup
	sending   context.Context //nolint:containedctx // the life of uploads, which outlive sessions
}

// Options are the settings of a Worker.
type Options struct {
	// Name is how the worker is called, unless the server knows better. Defaults to "local".
	Name string
	// Slots is how many attempts it takes at once. Defaults to what the server thinks right.
	Slots int
	// Labels say what kind of worker it is, for jobs that ask for it. Defaults to none.
	Labels map[string]string
	// CPUs, in thousandths of a core, and Memory, in bytes, are shared out among the
	// tasks with such limits. They default to the host's with Dir; without, they are
	// not counted.
	CPUs, Memory int64
	// Resources are how many units it has of what can be counted. Those of
	// navvy.ResourceGPU are numbered from 0, and each task is told its own in
	// CUDA_VISIBLE_DEVICES. Defaults to none.
	Resources map[string]int64
	// SingleOwner is the one owner whose tasks it runs: they may do without the isolation
	// that keeps owners apart, if the host has none. Defaults to all owners.
	SingleOwner string
	// Dir makes the worker one that survives its server: attempts run on while there is
	// no session, and what they answer is kept there, also over a restart of the worker,
	// until the server has it. It is for one worker at a time. Defaults to none: the
	// worker ends with its first session, for servers in the same process.
	Dir string
	// OpenCache opens a cache of staged files in a directory within Dir. Defaults to none:
	// they come again for each task.
	OpenCache func(dir string) (Cache, error)
	// ShareFolder tells where this host has a folder of an owner's files, empty for all of
	// them, in the server's share itself, which is the one with that id (client.Welcome); an
	// error if it has not, which wraps navvy.ErrConflict if it has another share. Tasks of
	// SingleOwner, and isolated ones, are shown it in place of a copy. Defaults to none: all
	// are copied.
	ShareFolder func(id, owner, folder string) (dir string, err error)
	// TaskSocket is the path of the socket on which tasks reach the key-value store of
	// their owner, in a directory that is closed to others. Defaults to none.
	TaskSocket string
	// Sweep is how often the worker looks for what others have left running, more or less.
	// Defaults to five minutes.
	Sweep time.Duration
	// Version is told to the server.
	Version string
	// Logger takes what goes wrong beside an attempt. Defaults to one that discards.
	Logger *slog.Logger
}

// New makes a worker that leases from a server and runs what the runners can,
// one for each kind of work.
func New(server *client.Workers, runners []*runner.Runner, opts *Options) *Worker {
	w := &Worker{
		server: server, runners: map[string]*runner.Runner{},
		runs: map[client.AttemptRef]*attempt{}, unsettled: map[client.AttemptRef]*finished{}, outliving: map[client.AttemptRef]bool{},
		ready: make(chan struct{}, 1), changed: make(chan struct{}), drained: make(chan struct{}),
		process: rand.Text(), away: map[string]bool{},
	}
	if opts != nil {
		w.opts = *opts
	}
	if w.opts.Name == "" {
		w.opts.Name = "local"
	}
	if w.log = w.opts.Logger; w.log == nil {
		w.log = slog.New(slog.DiscardHandler)
	}
	w.room = newRoom(w.opts.offer())
	for _, r := range runners {
		w.runners[r.Capabilities().Kind] = r
	}
	return w
}

// offer is what the options say that the worker has.
func (o *Options) offer() *navvy.Offer {
	offer := &navvy.Offer{Labels: o.Labels, CPUs: o.CPUs, Memory: o.Memory, Resources: o.Resources}
	if o.Dir != "" && offer.CPUs == 0 {
		offer.CPUs = hostCPUs()
	}
	if o.Dir != "" && offer.Memory == 0 {
		offer.Memory = hostMemory()
	}
	return offer
}

// Validate checks what the options say that the worker has. The error names what is
// wrong and wraps navvy.ErrInvalid.
func (o *Options) Validate() error { return o.offer().Validate() }

// Run works until ctx ends, then ends what still runs and returns why. A worker with
// a directory connects again whenever the server is gone, and returns nil once it is
// drained; one without returns when its session ends. It is called once.
func (w *Worker) Run(ctx context.Context) error {
	err := w.room.offer.Validate()
	if err != nil {
		return fmt.Errorf("worker %s: %w", w.opts.Name, err)
	}
	defer w.serveTasks()()
	if w.opts.Dir == "" {
		err = w.serve(ctx)
		w.stopAll(true)
		w.hands.end()
	} else {
		err = w.runReturning(ctx)
	}
	if err != nil {
		err = fmt.Errorf("worker %s: %w", w.opts.Name, err)
	}
	return err
}

// runReturning is Run for a worker that survives its server.
func (w *Worker) runReturning(ctx context.Context) (err error) {
	if w.journal, err = openJournal(w.opts.Dir); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.journal.close()) }()
	sending, cancel := context.WithCancel(context.WithoutCancel(ctx))
	w.sending = sending
	defer func() {
		cancel()
		w.uploads.Wait()
	}()
	if err := w.recall(sending); err != nil {
		return err
	}
	err = w.serveAgain(ctx)
	w.stopAll(true)
	w.hands.end() // all attempts have ended: their answers are settled, or in the journal
	return errors.Join(err, w.staged.close())
}

// Pauses between tries to reach the server: the first, the longest, and that while it
// knows another process under the worker's name.
const (
	firstPause = 50 * time.Millisecond
	maxPause   = 400 * time.Millisecond
	otherPause = 3 * time.Second
)

// serveAgain has one session after the other until ctx ends, the worker is drained,
// or the server wants it no more.
func (w *Worker) serveAgain(ctx context.Context) error {
	pauses := pause.Series{First: firstPause, Longest: maxPause}
	for lost := false; ; lost = true {
		began := time.Now()
		err := w.serve(ctx)
		switch {
		case w.isDrained():
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.sentAway {
				w.log.Info("drained, as the server asked")
			}
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, navvy.ErrDenied), errors.Is(err, navvy.ErrInvalid), errors.Is(err, navvy.ErrUnsupported):
			return err
		}
		if time.Since(began) > maxPause {
			pauses.Reset()
			lost = false
		}
		wait := pauses.Next()
		switch {
		case errors.Is(err, navvy.ErrExists):
			wait = otherPause
			w.log.Warn("the server has no place for this worker, which tries again", "error", err)
		case errors.Is(err, errReached):
			wait = 0
			w.log.Info("the worker connects again, for work that it can have done from now on")
		case errors.Is(err, errAbsent):
			w.log.Warn("the worker connects again: it may have lost its leases", "error", err)
		case !lost:
			w.log.Warn("the server is gone: what runs goes on, and the worker tries again", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-w.drained:
		case <-time.After(wait):
		}
	}
}

// info is how the worker introduces itself, with what it holds. It is not given what is done by
// somebody who is away: that waits with the server, and its time does not begin.
func (w *Worker) info(away []unreached) client.WorkerInfo {
	info := client.WorkerInfo{
		Name: w.opts.Name, Slots: w.opts.Slots, Returns: w.opts.Dir != "", Version: w.opts.Version, Offer: w.room.offer,
		SingleOwner: w.opts.SingleOwner, Process: w.process,
	}
	for _, kind := range slices.Sorted(maps.Keys(w.runners)) {
		caps := w.runners[kind].Capabilities()
		if i := slices.IndexFunc(away, func(a unreached) bool { return a.kind == kind }); i >= 0 {
			caps.Absent = navvy.Shorten(away[i].why.Error())
		}
		if caps.Absent == "" {
			info.Kinds = append(info.Kinds, kind)
		}
		info.Abilities = append(info.Abilities, caps.Abilities())
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for ref, a := range w.runs {
		info.Held = append(info.Held, client.Held{AttemptRef: ref, Slot: a.slot})
	}
	for ref, f := range w.unsettled {
		info.Held = append(info.Held, client.Held{AttemptRef: ref, Slot: f.Attempt.Slot})
	}
	return info
}

// Drain lets the worker take no further attempts; Run returns when none runs any
// more and all answers are settled.
func (w *Worker) Drain() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.drainLocked()
}

// drainForServer is Drain because the server asks for it, which the log tells.
func (w *Worker) drainForServer() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.sentAway {
		w.sentAway = true
		w.log.Info("draining, as the server asked: no further tasks are taken", "running", len(w.runs))
	}
	w.drainLocked()
}

func (w *Worker) drainLocked() {
	w.draining = true
	w.wakeLocked()
	w.checkDrainedLocked()
}

// Interrupt asks all attempts to end; they will run again, here or elsewhere. With
// force they are not given their time of grace. Of a worker with a directory, those that
// others can take over as they run, as containers on a cluster, go on.
func (w *Worker) Interrupt(force bool) { w.stopAll(force) }

func (w *Worker) checkDrainedLocked() {
	if w.draining && len(w.runs)+len(w.unsettled)+len(w.reports) == 0 && !w.isDrained() {
		close(w.drained)
	}
}

func (w *Worker) isDrained() bool {
	select {
	case <-w.drained:
		return true
	default:
		return false
	}
}

func (w *Worker) stopAll(force bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range w.runs {
		if w.opts.Dir != "" {
			a.leave(force)
		} else {
			a.stop(force)
		}
	}
}

func (w *Worker) wakeLocked() {
	select {
	case w.ready <- struct{}{}:
	default:
	}
}
