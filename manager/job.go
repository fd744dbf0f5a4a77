package manager

import (
	"container/heap"
	"time"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine"
)

// job is a job that is being served. The manager's lock guards it.
type job struct {
	*navvy.Job
	demand
	queue *queue     // while it is served
	plain *navvy.Job // the same without its isolation, for workers that may do without; nil until there is one
	pos   []byte
	state engine.State
	held  bool // as of this epoch
	stale bool // what follows must be read anew: a retry has rearranged the results

	answered *roaring.Bitmap // tasks with a result
	cursor   cursor
	chunk    *engine.Chunk     // the inputs around the cursor
	again    waitlist          // tasks that have run and will run again
	waiting  map[int64]*waiter // nil until there is one
	tries    map[int64]tries   // of tasks with earlier attempts; nil until there is one
	running  map[int64]*attempt
	settling map[int64]*attempt // ended; the report is on its way to disk
	slots    slots
	earliest time.Time       // the next start, as Delay allows it
	failing  int64           // tasks that have failed for good, as reports say that are not on disk
	begun    bool            // a task has started since it is in memory
	failsOn  map[string]bool // the workers that ran its tasks since one failed at once; on which one did
	warned   bool            // too many tasks have failed: it is about to be stopped
}

// tries counts the attempts of a task that left a record.
type tries struct {
	last         uint32 // the highest number that was used
	before       uint32 // the highest number of an earlier round
	failed, lost uint32
	where        string // the worker of the last one
	waited       bool   // for another worker than that
}

// attempt is one that runs, or whose report is on its way to disk.
type attempt struct {
	job     *job
	index   int64
	id      navvy.AttemptID
	slot    int
	started time.Time
	session *Session
	expires time.Time // end of its lease; zero if it lasts as long as the session
	input   []byte
	watch   bool // its output is streamed
	stopped bool // it was told to end
	failing bool // it is counted as one that fails its task
	out     *live
	over    chan struct{}   // closed when its lease is over; nil if nobody has asked
	askers  []chan<- string // who waits to be told what it waits for
}

func (a *attempt) task() navvy.TaskID { return navvy.TaskID{Job: a.job.ID, Index: a.index} }

func newJob(j *navvy.Job, state engine.State, epoch uint32) *job {
	return &job{
		Job: j, pos: engine.Position(j), demand: demandOf(j), state: state, held: state.HeldIn(epoch),
		answered: roaring.New(), running: map[int64]*attempt{}, settling: map[int64]*attempt{},
	}
}

// tried notes what is known of a task's attempts.
func (j *job) tried(index int64, t tries) {
	if j.tries == nil {
		j.tries = map[int64]tries{}
	}
	j.tries[index] = t
}

// busy tells whether something of the job is still going on.
func (j *job) busy() bool { return len(j.running)+len(j.settling) > 0 }

// serveable tells whether tasks of the job may be started, now or later.
func (j *job) serveable() bool { return !j.held && !j.warned && !j.state.Ended() }

// startable tells whether there are tasks that have not been started yet.
func (j *job) startable() bool {
	if j.MaxFails.Exceeded(j.state.Failed+j.failing, j.total()) {
		return false
	}
	return j.serveable() && (j.stale || !j.cursor.done(j.state.Total) || len(j.again) > 0)
}

// limit is how many of its tasks may run at once.
func (j *job) limit(fallback int) int {
	switch {
	case j.state.Parallelism > 0:
		return j.state.Parallelism
	case j.Parallelism > 0:
		return j.Parallelism
	default:
		return fallback
	}
}

// taken tells whether the task needs no start: it has a result, runs, or waits for a retry.
func (j *job) taken(index int64) bool {
	if j.running[index] != nil || j.settling[index] != nil || j.waiting[index] != nil {
		return true
	}
	return j.answered.Contains(uint32(index))
}

// total is the number of tasks, -1 while it may grow.
func (j *job) total() int64 {
	if j.state.Open {
		return -1
	}
	return j.state.Total
}

// waiter is a task that will run again at a certain time.
type waiter struct {
	index int64
	at    time.Time
	heap  int // its place in the heap
}

// waitlist is a heap of waiters, the earliest first; see container/heap.
type waitlist []*waiter

func (w waitlist) Len() int           { return len(w) }
func (w waitlist) Less(i, k int) bool { return w[i].at.Before(w[k].at) }
func (w waitlist) Swap(i, k int)      { w[i], w[k] = w[k], w[i]; w[i].heap, w[k].heap = i, k }

// Push adds a waiter, for container/heap.
func (w *waitlist) Push(x any) {
	p := x.(*waiter)
	p.heap = len(*w)
	*w = append(*w, p)
}

// Pop removes the last waiter, for container/heap.
func (w *waitlist) Pop() any {
	last := len(*w) - 1
	p := (*w)[last]
	(*w)[last] = nil
	*w = (*w)[:last]
	return p
}

// runAgain lets a task start again at a certain time.
func (j *job) runAgain(index int64, at time.Time) {
	if j.waiting[index] != nil {
		return
	}
	if j.waiting == nil {
		j.waiting = map[int64]*waiter{}
	}
	w := &waiter{index: index, at: at}
	j.waiting[index] = w
	heap.Push(&j.again, w)
}

// due takes the task that has waited longest, if its time has come.
func (j *job) due(now time.Time) (int64, bool) {
	if len(j.again) == 0 || j.again[0].at.After(now) {
		return 0, false
	}
	w := heap.Pop(&j.again).(*waiter)
	delete(j.waiting, w.index)
	return w.index, true
}

// slots numbers what runs at once from 1 on, the lowest free number first.
type slots struct {
	free []int // a min-heap
	next int
}

func (s *slots) take() int {
	if len(s.free) == 0 {
		s.next++
		return s.next
	}
	return heap.Pop((*intHeap)(&s.free)).(int)
}

func (s *slots) give(n int) { heap.Push((*intHeap)(&s.free), n) }

type intHeap []int

func (h intHeap) Len() int           { return len(h) }
func (h intHeap) Less(i, k int) bool { return h[i] < h[k] }
func (h intHeap) Swap(i, k int)      { h[i], h[k] = h[k], h[i] }

// Push adds a number, for container/heap.
func (h *intHeap) Push(x any) { *h = append(*h, x.(int)) }

// Pop removes the last number, for container/heap.
func (h *intHeap) Pop() any {
	last := len(*h) - 1
	n := (*h)[last]
	*h = (*h)[:last]
	return n
}
