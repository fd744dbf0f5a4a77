package manager

import (
	"bytes"
	"cmp"
	"container/heap"
)

// shares decide which job a task is started of next: of those with the highest
// priority, one of the owner that has the fewest tasks running, and of that owner's the
// one that has the fewest running. Among equals the older job is first. A long job thus
// keeps nobody from starting, and gives way to others as its tasks end.
type shares struct {
	classes []class // the highest priority last
}

// class are the owners with jobs of one priority: a heap.
type class []*share

// share is one owner in a class: a heap of jobs.
type share struct {
	running int // tasks of this owner, of whatever priority
	jobs    jobHeap
}

type jobHeap []*job

// newShares takes jobs in their order of service. running is what each owner has.
func newShares(jobs []*job, running map[string]int) *shares {
	s := &shares{}
	for i := len(jobs) - 1; i >= 0; {
		first := i
		for first >= 0 && jobs[first].Priority == jobs[i].Priority {
			first--
		}
		s.classes = append(s.classes, newClass(jobs[first+1:i+1], running))
		i = first
	}
	return s
}

func newClass(jobs []*job, running map[string]int) class {
	owners := map[string]*share{}
	var c class
	for _, j := range jobs {
		o := owners[j.Owner]
		if o == nil {
			o = &share{running: running[j.Owner]}
			owners[j.Owner] = o
			c = append(c, o)
		}
		o.jobs = append(o.jobs, j)
	}
	for _, o := range c {
		heap.Init(&o.jobs)
	}
	heap.Init(&c)
	return c
}

// next is the job whose turn it is; nil if there is none.
func (s *shares) next() *job {
	for n := len(s.classes); n > 0; n = len(s.classes) {
		if c := s.classes[n-1]; len(c) > 0 {
			return c[0].jobs[0]
		}
		s.classes = s.classes[:n-1]
	}
	return nil
}

// alone tells whether no other job of that priority has a turn.
func (s *shares) alone() bool {
	c := s.classes[len(s.classes)-1]
	return len(c) == 1 && len(c[0].jobs) == 1
}

// ran says that a task of the job whose turn it was has been started.
func (s *shares) ran() {
	c := &s.classes[len(s.classes)-1]
	(*c)[0].running++
	heap.Fix(&(*c)[0].jobs, 0)
	heap.Fix(c, 0)
}

// drop says that no further task can be started of the job whose turn it was.
func (s *shares) drop() {
	c := &s.classes[len(s.classes)-1]
	o := (*c)[0]
	if heap.Pop(&o.jobs); len(o.jobs) == 0 {
		heap.Pop(c)
		return
	}
	heap.Fix(c, 0)
}

func (c class) Len() int      { return len(c) }
func (c class) Swap(i, k int) { c[i], c[k] = c[k], c[i] }

// Less is for container/heap.
func (c class) Less(i, k int) bool {
	if c[i].running != c[k].running {
		return c[i].running < c[k].running
	}
	return bytes.Compare(c[i].jobs[0].pos, c[k].jobs[0].pos) < 0
}

// Push is for container/heap; a class only becomes smaller.
func (c *class) Push(x any) { *c = append(*c, x.(*share)) }

// Pop is for container/heap.
func (c *class) Pop() any {
	last := len(*c) - 1
	o := (*c)[last]
	(*c)[last] = nil
	*c = (*c)[:last]
	return o
}

func (h jobHeap) Len() int      { return len(h) }
func (h jobHeap) Swap(i, k int) { h[i], h[k] = h[k], h[i] }

// Less is for container/heap.
func (h jobHeap) Less(i, k int) bool {
	return cmp.Or(cmp.Compare(len(h[i].running), len(h[k].running)), bytes.Compare(h[i].pos, h[k].pos)) < 0
}

// Push is for container/heap; jobs only leave.
func (h *jobHeap) Push(x any) { *h = append(*h, x.(*job)) }

// Pop is for container/heap.
func (h *jobHeap) Pop() any {
	last := len(*h) - 1
	j := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return j
}
