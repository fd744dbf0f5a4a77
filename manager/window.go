package manager

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

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
	at, _ := slices.BinarySearchFunc(m.order, j, func(a, b *job) int { return bytes.Compare(a.pos, b.pos) })
	m.order = slices.Insert(m.order, at, j)
	return j
}

// dropLocked forgets a job of which nothing is going on any more, if that is so.
func (m *Manager) dropLocked(j *job) {
	if j.busy() || j.serveable() || m.jobs[j.ID] != j {
		return
	}
	delete(m.jobs, j.ID)
	m.order = slices.DeleteFunc(m.order, func(o *job) bool { return o == j })
	m.signalLocked(j.ID).fire()
	delete(m.signals, j.ID)
	m.idle.fire()
}

// maxUnfit is how many jobs that no worker can run may be in memory beside the window.
const maxUnfit = 16 * window

// startableLocked counts the jobs in the window that still have tasks to start.
// Those that no worker can run are not to keep others out.
func (m *Manager) startableLocked() int {
	n, unfit := 0, 0
	for _, j := range m.order {
		if !j.startable() {
			continue
		}
		if j.needs != 0 && unfit < maxUnfit && !m.anyFitsLocked(j) {
			unfit++
			continue
		}
		n++
	}
	return n
}

// anyFitsLocked tells whether some worker could run tasks of the job.
func (m *Manager) anyFitsLocked(j *job) bool {
	return slices.ContainsFunc(m.sessions, func(s *Session) bool { return s.host.fits(j.kind, j.needs) })
}

// accepted takes up a job that is fresh, having just become visible, or whose
// tasks have become more. A job beyond the window stays on disk and is read in
// its turn. unread says that the job is to be loaded: it is not fresh, tasks of
// it may have run, and it is not in memory.
func (m *Manager) accepted(j *navvy.Job, state engine.State, first *engine.Chunk, fresh bool) (unread bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	served := m.jobs[j.ID]
	if served == nil {
		pos := engine.Position(j)
		inWindow := bytes.Compare(pos, m.behind) <= 0
		room := !m.more && m.startableLocked() < window
		if j.Detached && !inWindow && !room {
			m.more, m.arrived = true, true
			return false
		}
		if !fresh {
			return !state.HeldIn(m.eng.Epoch()) && !state.Ended()
		}
		served = m.addLocked(newJob(j, state, m.eng.Epoch()))
		served.chunk = first
		served.begin()
		if !inWindow && room {
			m.behind = pos
		}
	}
	served.update(state, m.eng.Epoch())
	served.update(m.coming[j.ID], m.eng.Epoch())
	m.signalLocked(j.ID).fire()
	m.dropLocked(served)
	return false
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

// refill reads the next queued jobs into the window.
func (m *Manager) refill(ctx context.Context) error {
	m.mu.Lock()
	after := m.behind
	m.arrived = false
	m.mu.Unlock()
	ids, last, err := m.eng.QueuedAfter(ctx, navvy.DefaultQueue, after, window)
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
	if bytes.Equal(m.behind, after) {
		m.behind = last
		m.more = len(ids) == window || m.arrived // behind what was read, perhaps
	}
	if !m.more {
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
	switch a.Outcome {
	case navvy.OutcomeFailed:
		t.failed++
	case navvy.OutcomeLost:
		t.lost++
	default: // the others do not count
	}
}
