package service

import (
	"slices"
	"time"
)

// flight is the calls that a process has not answered: in their order, or by their ids
// where answers may come in another. Whoever holds the lock of its host calls it.
type flight struct {
	ordered bool
	last    uint64
	queue   []*call // ordered: from head on
	head    int
	byID    map[uint64]*call
}

// add takes a new call, behind all others.
func (f *flight) add(c *call) {
	f.last++
	c.id = f.last
	if f.ordered {
		f.queue = append(f.queue, c)
		return
	}
	if f.byID == nil {
		f.byID = make(map[uint64]*call)
	}
	f.byID[c.id] = c
}

// drop forgets a call.
func (f *flight) drop(c *call) {
	if !f.ordered {
		delete(f.byID, c.id)
		return
	}
	if i := slices.Index(f.queue[f.head:], c); i >= 0 {
		f.queue = slices.Delete(f.queue, f.head+i, f.head+i+1)
	}
}

// take takes the call out that an answer is for: the oldest, or that of the id. Nil if
// there is none.
func (f *flight) take(id uint64) *call {
	if !f.ordered {
		c := f.byID[id]
		delete(f.byID, id)
		return c
	}
	if f.head == len(f.queue) {
		return nil
	}
	c := f.queue[f.head]
	f.queue[f.head] = nil
	if f.head++; f.head == len(f.queue) {
		f.queue, f.head = f.queue[:0], 0
	} else if f.head > 1024 && f.head > len(f.queue)/2 {
		f.queue = slices.Delete(f.queue, 0, f.head)
		f.head = 0
	}
	return c
}

// begin notes since when the process can be at work for the oldest, if calls are ordered.
func (f *flight) begin(now time.Time) {
	if f.ordered && f.head < len(f.queue) {
		if c := f.queue[f.head]; c.sent && c.since.IsZero() {
			c.since = now
		}
	}
}

// blame lists the calls that the process works on, as far as can be told.
func (f *flight) blame() []*call {
	var at []*call
	if f.ordered {
		if f.head < len(f.queue) && f.queue[f.head].sent {
			at = append(at, f.queue[f.head])
		}
		return at
	}
	for _, c := range f.byID {
		if c.sent {
			at = append(at, c)
		}
	}
	return at
}

// all takes out what is left.
func (f *flight) all() []*call {
	var left []*call
	if f.ordered {
		left = slices.Clone(f.queue[f.head:])
	}
	for _, c := range f.byID {
		left = append(left, c)
	}
	f.queue, f.head, f.byID = nil, 0, nil
	return left
}
