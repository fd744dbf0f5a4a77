package manager

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine"
)

// window is how many jobs with tasks to start are kept in memory.
const window = 64

// add puts a job among those that are served, if it is not there yet.
func (m *Manager) addLocked(j *job) *job {
	if old := m.jobs[j.ID]; old != nil {
		return old
	}
	m.jobs[j.ID] = j
	j.queue = m.queueLocked(j.Queue)
	j.queue.jobs++
	at, _ := m.placeLocked(j)
	m.order = slices.Insert(m.order, at, j)
	return j
}

// placeLocked is where a job stands, or belongs, in the order of service.
func (m *Manager) placeLocked(j *job) (at int, there bool) {
	return slices.BinarySearchFunc(m.order, j, func(a, b *job) int { return bytes.Compare(a.pos, b.pos) })
}

// dropLocked forgets a job of which nothing is going on any more, if that is so.
func (m *Manager) dropLocked(j *job) {
	if j.busy() || j.serveable() || m.jobs[j.ID] != j {
		return
	}
	delete(m.jobs, j.ID)
	j.queue.jobs--
	m.forgetQueueLocked(j.queue)
	if at, there := m.placeLocked(j); there {
		m.order = slices.Delete(m.order, at, at+1)
	}
	m.fireLocked(j.ID)
	delete(m.signals, j.ID)
	m.idle.fire()
}

// maxUnfit is how many jobs that no worker can run now may be in memory beside the window.
const maxUnfit = 16 * window

// line is one line of the engine, read through a window.
type line struct {
	behind  []byte // it has been read up to this position
	more    bool   // there may be jobs behind it
	arrived []byte // the first position of those that have come since it was last read
}

// lineLocked gives the line of that name. One that is new has nothing behind its
// window, once it is known which lines there were.
func (m *Manager) lineLocked(name engine.Line) *line {
	l := m.lines[name]
	if l == nil {
		l = &line{more: !m.linesKnown}
		m.lines[name] = l
	}
	return l
}

// unreadLocked gives a line of which more jobs are to be read; false if there is none.
func (m *Manager) unreadLocked() (engine.Line, bool) {
	if !m.linesKnown || !m.moreLocked() {
		return engine.Line{}, false
	}
	counts := map[engine.Line]*startable{}
	now := m.opts.Clock()
	for _, j := range m.order {
		name := engine.LineOf(j.Job)
		if counts[name] == nil {
			counts[name] = &startable{}
		}
		counts[name].add(m, j, now)
	}
	for name, l := range m.lines {
		if l.more && (counts[name] == nil || counts[name].n < window) {
			return name, true
		}
	}
	return engine.Line{}, false
}

// moreLocked tells whether there may be queued jobs that were not read.
func (m *Manager) moreLocked() bool {
	if !m.linesKnown {
		return true
	}
	for _, l := range m.lines {
		if l.more {
			return true
		}
	}
	return false
}

// readLines learns which lines there are.
func (m *Manager) readLines(ctx context.Context) error {
	names, err := m.eng.Lines(ctx)
	if err != nil {
		return fmt.Errorf("manager: read the queues: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.linesKnown = true
	for _, name := range names {
		m.lineLocked(name).more = true
	}
	m.idle.fire()
	m.wanted.fire()
	return nil
}

// startable counts jobs of a line in memory that still have tasks to start. Those of
// which none can start now, whoever is free, are not to keep others out.
type startable struct{ n, unfit int }

func (c *startable) add(m *Manager, j *job, now time.Time) {
	switch {
	case !j.startable():
	case c.unfit < maxUnfit && m.stuckLocked(j, now):
		c.unfit++
	default:
		c.n++
	}
}

// stuckLocked tells whether no task of a job can start now: it has as many running as it
// may, its delay is not over, workers of an earlier manager are waited for, or no worker
// has what it asks for, or has it free.
func (m *Manager) stuckLocked(j *job, now time.Time) bool {
	return len(j.running) >= j.limit(m.opts.Parallelism) || j.earliest.After(now) ||
		m.awaitingLocked(now) && j.Accepted.Before(m.began) || j.picky && !m.anyFitsLocked(j)
}

// census counts the startable jobs of lines, each once: it is good as long as the lock is
// held and the jobs that come are added.
type census map[engine.Line]*startable

// ofLocked counts the jobs of one line.
func (c census) ofLocked(m *Manager, name engine.Line) int {
	if c[name] == nil {
		c[name] = &startable{}
		now := m.opts.Clock()
		for _, j := range m.order {
			if engine.LineOf(j.Job) == name {
				c[name].add(m, j, now)
			}
		}
	}
	return c[name].n
}

// addLocked counts a job that has come.
func (c census) addLocked(m *Manager, j *job) {
	if of := c[engine.LineOf(j.Job)]; of != nil {
		of.add(m, j, m.opts.Clock())
	}
}

// anyFitsLocked tells whether some worker could run a task of the job, if it had a free slot.
func (m *Manager) anyFitsLocked(j *job) bool {
	return slices.ContainsFunc(m.sessions, func(s *Session) bool { return s.host.fits(&j.demand) && s.hasRoomLocked(&j.demand) })
}

// accepted takes up a job that is fresh, having just become visible, or whose
// tasks have become more. A job beyond the window stays on disk and is read in
// its turn. unread says that the job is to be loaded: it is not fresh, tasks of
// it may have run, and it is not in memory.
func (m *Manager) accepted(j *navvy.Job, state engine.State, first *engine.Chunk, fresh bool) (unread bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.acceptedLocked(j, state, first, fresh, census{})
}

// acceptedLocked is accepted for one of several, which count together.
func (m *Manager) acceptedLocked(j *navvy.Job, state engine.State, first *engine.Chunk, fresh bool, counts census) (unread bool) {
	served := m.jobs[j.ID]
	come := served == nil
	if come {
		pos, l := engine.Position(j), m.lineLocked(engine.LineOf(j))
		inWindow := bytes.Compare(pos, l.behind) <= 0
		room := !l.more && (len(m.order) < window || counts.ofLocked(m, engine.LineOf(j)) < window)
		if j.Detached && !m.waitedForLocked(j, first) && !inWindow && !room {
			if l.more = true; l.arrived == nil || bytes.Compare(pos, l.arrived) < 0 {
				l.arrived = pos
			}
			m.wanted.fire()
			return false
		}
		if !fresh {
			return !state.HeldIn(m.eng.Epoch()) && !state.Ended()
		}
		served = m.addLocked(newJob(j, state, m.eng.Epoch()))
		served.chunk = first
		served.begin()
		if !inWindow && room {
			l.behind = pos
		}
	}
	served.update(state, m.eng.Epoch())
	served.update(m.coming[j.ID], m.eng.Epoch())
	if come {
		counts.addLocked(m, served)
	}
	m.fireLocked(j.ID)
	m.dropLocked(served)
	return false
}

// Bounds of what stays in memory beyond the window: the size of a job with its input, in
// bytes, and how many jobs there may be in all.
const (
	maxKept     = 4 << 10
	maxKeptJobs = 16 * window
)

// waitedForLocked tells whether a job stays in memory beyond the window, since somebody
// waits for its answer: a few small ones.
func (m *Manager) waitedForLocked(j *navvy.Job, first *engine.Chunk) bool {
	if m.calls[j.ID] == nil || len(m.order) >= maxKeptJobs || first == nil || len(first.Inputs) != 1 {
		return false
	}
	size := len(first.Inputs[0])
	if v := j.Spec.Service; v != nil {
		size += len(v.Form)
		for _, s := range v.Env {
			size += len(s)
		}
	}
	if c := j.Spec.Program(); c != nil {
		for _, list := range [][]string{c.Args, c.Env} {
			for _, s := range list {
				size += len(s)
			}
		}
	}
	return size <= maxKept
}

// gone is the state of a job that was removed; nothing is newer.
var gone = engine.State{Stopped: true, Removed: true, Seq: math.MaxUint64}

// update takes a state of the job over, unless it knows a newer one.
func (j *job) update(state engine.State, epoch uint32) {
	if state.Seq >= j.state.Seq {
		j.state = state
		j.held = state.HeldIn(epoch)
	}
}

// begin puts the cursor at the start.
func (j *job) begin() {
	j.cursor = cursor{}
	if j.Shuffle != 0 {
		j.cursor.shuffled = newShuffle(j.Shuffle, j.state.Total)
	}
}

// refill reads the next jobs of a line into the window.
func (m *Manager) refill(ctx context.Context, name engine.Line) error {
	m.mu.Lock()
	l := m.lineLocked(name)
	after := l.behind
	l.arrived = nil
	m.mu.Unlock()
	ids, last, err := m.eng.QueuedAfter(ctx, name, after, window)
	if err != nil {
		return fmt.Errorf("manager: read the queue: %w", err)
	}
	for _, id := range ids {
		if err := m.load(ctx, id); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if bytes.Equal(l.behind, after) {
		l.more = len(ids) == window || l.arrived != nil // behind what was read, perhaps
		if l.arrived == nil || bytes.Compare(l.arrived, last) > 0 {
			l.behind = last // otherwise one has come before it, and it is read again
		}
	}
	if !l.more {
		m.idle.fire()
	}
	return nil
}

// load takes a job up from disk. One whose client died with an earlier process
// is held for good instead. What has become of its tasks is read when the first
// is about to start: whatever befalls the job from now on is not missed.
func (m *Manager) load(ctx context.Context, id navvy.JobID) error {
	m.mu.Lock()
	served := m.jobs[id] != nil
	m.mu.Unlock()
	if served {
		return nil
	}
	job, state, err := m.eng.Job(ctx, id)
	if errors.Is(err, navvy.ErrNotFound) {
		return nil // removed in between
	} else if errors.Is(err, navvy.ErrCorrupt) {
		m.opts.Logger.Error("a job is passed over: its data are damaged", "job", id, "error", err)
		return nil // others go on; who asks for it is told
	} else if err != nil {
		return err
	}
	if state.HeldIn(m.eng.Epoch()) {
		state, err = m.eng.HoldAbandoned(ctx, id, "navvy ended while the job ran")
		if err != nil || state.HeldIn(m.eng.Epoch()) {
			return ignoreGone(err)
		}
	}
	j := newJob(job, state, m.eng.Epoch())
	j.stale = true
	m.mu.Lock()
	defer m.mu.Unlock()
	if j.serveable() {
		m.addLocked(j)
		m.countFailsLocked(j)
	}
	return nil
}

// ignoreGone forgives that a job was removed in between.
func ignoreGone(err error) error {
	if errors.Is(err, navvy.ErrNotFound) {
		return nil
	}
	return err
}

// reread fills in which tasks of a job are answered and which were tried, of one
// that was just loaded or whose results a retry has rearranged.
func (m *Manager) reread(ctx context.Context, j *job) error {
	m.settling.Lock() // no result comes in meanwhile
	defer m.settling.Unlock()
	state, err := m.eng.State(ctx, j.ID)
	if errors.Is(err, navvy.ErrNotFound) {
		state, err = gone, nil
	}
	if err != nil {
		return err
	}
	answered, tried, err := m.progress(ctx, j.ID, &state)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.jobs[j.ID] != j {
		return nil // dropped meanwhile
	}
	j.update(state, m.eng.Epoch())
	j.answered, j.tries, j.stale, j.warned = answered, tried, false, false
	j.begin()
	m.countFailsLocked(j)
	m.dropLocked(j)
	return nil
}

func (m *Manager) progress(ctx context.Context, id navvy.JobID, state *engine.State) (*roaring.Bitmap, map[int64]tries, error) {
	answered := roaring.New()
	if state.Succeeded+state.Failed > 0 {
		if err := m.eng.Answered(ctx, id, func(index int64) error {
			answered.Add(uint32(index))
			return nil
		}); err != nil {
			return nil, nil, fmt.Errorf("manager: read what is answered of job %s: %w", id, err)
		}
		answered.RunOptimize()
	}
	tried, err := m.earlierRounds(ctx, id, state, answered)
	if err != nil {
		return nil, nil, err
	}
	err = m.eng.Attempts(ctx, id, -1, func(task navvy.TaskID, a *navvy.Attempt) error {
		if !answered.Contains(uint32(task.Index)) {
			t := tried[task.Index]
			t.count(a)
			tried[task.Index] = t
		}
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("manager: read the attempts of job %s: %w", id, err)
	}
	return answered, tried, nil
}

// earlierRounds gives the tasks whose numbers of attempts cannot begin right
// behind the number of rounds, as startLocked has it, since an earlier round took more.
func (m *Manager) earlierRounds(ctx context.Context, id navvy.JobID, state *engine.State, answered *roaring.Bitmap) (map[int64]tries, error) {
	tried := map[int64]tries{}
	if state.Round == 0 {
		return tried, nil
	}
	err := m.eng.History(ctx, navvy.TaskID{Job: id, Index: -1}, func(r *navvy.Result) error {
		if r.ID.Number > r.Round+1 && !answered.Contains(uint32(r.Task.Index)) {
			tried[r.Task.Index] = tries{before: r.ID.Number, last: r.ID.Number}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("manager: read earlier results of job %s: %w", id, err)
	}
	return tried, nil
}

// count adds an attempt that left a record. A retry by hand begins the count anew.
func (t *tries) count(a *navvy.Attempt) {
	t.last = max(t.last, a.ID.Number)
	if a.ID.Number <= t.before {
		return
	}
	t.where, t.waited = a.Worker, false
	switch a.Outcome {
	case navvy.OutcomeFailed:
		t.failed++
	case navvy.OutcomeLost:
		t.lost++
	default: // the others do not count
	}
}
