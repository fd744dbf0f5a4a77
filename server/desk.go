package server

import (
	"bytes"
	"container/heap"
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine"
)

// Bounds of what a desk keeps in memory.
const (
	// maxHeld is how many responses of one line may be leased, or be known to wait, at once.
	maxHeld = 100_000
	// maxHeldAll is the same of all lines together.
	maxHeldAll = 1_000_000
	// idleLines is how many lines are remembered of which nothing is leased.
	idleLines = 4096
)

// desk gives responses out to those who receive them. What waits is in the engine; who
// has leased what is here alone, and forgotten when the server ends. Its methods may be
// called at once.
type desk struct {
	eng   *engine.Engine
	clock func() time.Time

	mu     sync.Mutex
	lines  map[engine.Line]*counter
	held   int    // of all lines
	number uint64 // of the last lease
}

// newDesk makes the desk of an engine, which has no other.
func newDesk(eng *engine.Engine, clock func() time.Time) *desk {
	d := &desk{eng: eng, clock: clock, lines: map[engine.Line]*counter{}}
	eng.OnLetter(d.told)
	return d
}

// counter is where the responses of one line are given out. The desk's mu guards it, but
// for taking.
type counter struct {
	taking sync.Mutex // one at a time reads what waits
	users  int        // calls under way

	// Up to cursor, and including it, all responses that wait are in holds; nil is the
	// start. So nobody reads again what was acknowledged long ago.
	cursor []byte
	again  bool // a hold was forgotten for want of room: read from the start again
	holds  map[navvy.TaskID]*hold
	due    dueHolds
	// fresh are those that came since somebody began to read behind the cursor.
	reading bool
	fresh   []engine.Letter
	changed chan struct{} // closed when there may be more to take
}

// hold is a response that is leased, or that waits before the cursor.
type hold struct {
	letter engine.Letter
	lease  uint64    // the number of its lease; 0 if nobody has it
	until  time.Time // when it can be taken, if it still waits
	at     int       // in counter.due
}

// dueHolds are holds, those that can be taken first at first.
type dueHolds []*hold

func (h dueHolds) Len() int { return len(h) }
func (h dueHolds) Less(i, j int) bool {
	if !h[i].until.Equal(h[j].until) {
		return h[i].until.Before(h[j].until)
	}
	return bytes.Compare(h[i].letter.Place(), h[j].letter.Place()) < 0
}
func (h dueHolds) Swap(i, j int) { h[i], h[j] = h[j], h[i]; h[i].at, h[j].at = i, j }

// Push implements heap.Interface.
func (h *dueHolds) Push(x any) {
	one := x.(*hold) //nolint:forcetypeassert // nothing else is pushed
	one.at = len(*h)
	*h = append(*h, one)
}

// Pop implements heap.Interface.
func (h *dueHolds) Pop() any {
	old := *h
	one := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return one
}

// enter gives the counter of a line for a call; leave ends it.
func (d *desk) enter(line engine.Line) *counter {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.lines[line]
	if c == nil {
		if len(d.lines) >= idleLines {
			d.shedLocked()
		}
		c = &counter{holds: map[navvy.TaskID]*hold{}, changed: make(chan struct{})}
		d.lines[line] = c
	}
	c.users++
	return c
}

func (d *desk) leave(c *counter) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c.users--
}

// shedLocked forgets lines that nobody uses, and of which nothing is leased: whoever
// comes next reads them from their start.
func (d *desk) shedLocked() {
	for line, c := range d.lines {
		if c.users == 0 && len(c.holds) == 0 {
			delete(d.lines, line)
		}
	}
}

func (c *counter) fireLocked() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// told takes note of a response that waits from now on. The engine's committer calls it.
func (d *desk) told(line engine.Line, side engine.Side, l engine.Letter) {
	if side != engine.Responses {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.lines[line]
	if c == nil {
		return
	}
	switch {
	case bytes.Compare(l.Place(), c.cursor) <= 0:
		d.keepLocked(c, l, time.Time{})
	case c.reading:
		c.fresh = append(c.fresh, l)
	}
	c.fireLocked()
}

// keepLocked notes a response before the cursor that nobody has. Where there is no room
// the line is read from its start again.
func (d *desk) keepLocked(c *counter, l engine.Letter, until time.Time) {
	if h := c.holds[l.Task]; h != nil {
		if h.letter.Round != l.Round { // it was retried meanwhile
			h.letter, h.lease, h.until = l, 0, until
			heap.Fix(&c.due, h.at)
		}
		return
	}
	if len(c.holds) >= maxHeld || d.held >= maxHeldAll {
		c.again = true
		return
	}
	d.addLocked(c, &hold{letter: l, until: until})
}

func (d *desk) addLocked(c *counter, h *hold) {
	c.holds[h.letter.Task] = h
	heap.Push(&c.due, h)
	d.held++
}

func (d *desk) dropLocked(c *counter, h *hold) {
	delete(c.holds, h.letter.Task)
	heap.Remove(&c.due, h.at)
	d.held--
}

// drop forgets a response that is gone.
func (d *desk) drop(c *counter, l *engine.Letter) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if h := c.holds[l.Task]; h != nil && h.letter.Round == l.Round {
		d.dropLocked(c, h)
	}
}

// lent is a response that was leased.
type lent struct {
	engine.Letter
	receipt receipt
}

// take leases at most limit responses of a line. They may be gone when it returns.
func (d *desk) take(ctx context.Context, line engine.Line, c *counter, limit int, lease time.Duration) ([]lent, error) {
	c.taking.Lock()
	defer c.taking.Unlock()
	list, from, err := d.takeDue(c, limit, lease)
	if err != nil || !c.reading {
		return list, err
	}
	more, err := d.eng.Letters(ctx, line, engine.Responses, from, limit-len(list))
	d.mu.Lock()
	defer d.mu.Unlock()
	c.reading = false
	if err == nil {
		for _, l := range more {
			if h := c.holds[l.Task]; h == nil { // the line may be read anew
				list = append(list, d.lendLocked(c, &hold{letter: l}, lease))
			}
			c.cursor = l.Place()
		}
	}
	for _, l := range c.fresh {
		if bytes.Compare(l.Place(), c.cursor) <= 0 {
			d.keepLocked(c, l, time.Time{})
		}
	}
	c.fresh = nil
	return list, err
}

// takeDue leases what can be taken of what is before the cursor. If that is not enough
// the caller reads on behind it.
func (d *desk) takeDue(c *counter, limit int, lease time.Duration) (list []lent, from []byte, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.clock()
	for len(list) < limit && len(c.due) > 0 && !c.due[0].until.After(now) {
		list = append(list, d.lendLocked(c, c.due[0], lease))
	}
	room := min(maxHeld-len(c.holds), maxHeldAll-d.held)
	if len(list) < limit && room < limit {
		if len(list) > 0 {
			return list, nil, nil
		}
		return nil, nil, fmt.Errorf("%d responses are leased: acknowledge some, or let go of them: %w", len(c.holds), navvy.ErrExhausted)
	}
	if c.reading, c.fresh = len(list) < limit, nil; c.reading && c.again {
		c.cursor, c.again = nil, false
	}
	return list, c.cursor, nil
}

// lendLocked leases a response, which may be held already.
func (d *desk) lendLocked(c *counter, h *hold, lease time.Duration) lent {
	d.number++
	h.lease, h.until = d.number, d.clock().Add(lease)
	if c.holds[h.letter.Task] == h {
		heap.Fix(&c.due, h.at)
	} else {
		d.addLocked(c, h)
	}
	return lent{h.letter, receipt{LetterRef: engine.LetterRef{Task: h.letter.Task, Round: h.letter.Round}, epoch: d.eng.Epoch(), lease: h.lease}}
}

// more gives a channel that is closed when there may be more to take, and when, at the
// latest, there is: the zero time if nothing is leased.
func (d *desk) more(c *counter) (<-chan struct{}, time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(c.due) == 0 {
		return c.changed, time.Time{}
	}
	return c.changed, c.due[0].until
}

// receipt is what a response can be acknowledged by.
type receipt struct {
	engine.LetterRef
	epoch uint32
	lease uint64
}

func (r *receipt) String() string {
	return fmt.Sprintf("%s.%d.%d.%d", r.Task, r.Round, r.epoch, r.lease)
}

// parseReceipt is the inverse of String. The error wraps navvy.ErrInvalid.
func parseReceipt(s string) (receipt, error) {
	bad := fmt.Errorf("receipt %.80q is none that was given out: %w", s, navvy.ErrInvalid)
	parts := strings.Split(s, ".")
	if len(parts) != 4 {
		return receipt{}, bad
	}
	task, err := navvy.ParseTaskID(parts[0])
	if err != nil {
		return receipt{}, bad
	}
	var numbers [3]uint64
	for i, bits := range []int{32, 32, 64} {
		if numbers[i], err = strconv.ParseUint(parts[1+i], 10, bits); err != nil {
			return receipt{}, bad
		}
	}
	r := receipt{LetterRef: engine.LetterRef{Task: task, Round: uint32(numbers[0])}, epoch: uint32(numbers[1]), lease: numbers[2]}
	if r.String() != s {
		return receipt{}, bad
	}
	return r, nil
}

// judgeLocked tells whether somebody else has leased what a receipt is about.
func (d *desk) judgeLocked(c *counter, r *receipt) (h *hold, lost bool) {
	h = c.holds[r.Task]
	if h == nil || h.letter.Round != r.Round {
		return nil, false
	}
	if r.epoch == d.eng.Epoch() && h.lease == r.lease {
		return h, false
	}
	return nil, h.lease != 0 && h.until.After(d.clock())
}

// lostError names what somebody else has leased; nil if it is nothing.
func lostError(lost []string) error {
	if len(lost) == 0 {
		return nil
	}
	const named = 10
	more := ""
	if n := len(lost) - named; n > 0 {
		lost, more = lost[:named], fmt.Sprintf(" and %d others", n)
	}
	return fmt.Errorf("the lease of %s%s has run out, and somebody else has received it since: %w", strings.Join(lost, ", "), more, navvy.ErrLeaseLost)
}

// ack acknowledges what nobody else has leased, durably, and tells how much there was.
// The error wraps navvy.ErrLeaseLost and names the rest.
func (d *desk) ack(ctx context.Context, line engine.Line, receipts []receipt) (n int, expires bool, err error) {
	c := d.enter(line)
	defer d.leave(c)
	refs := make([]engine.LetterRef, 0, len(receipts))
	var lost []string
	d.mu.Lock()
	for i := range receipts {
		if _, gone := d.judgeLocked(c, &receipts[i]); gone {
			lost = append(lost, receipts[i].Task.String())
		} else {
			refs = append(refs, receipts[i].LetterRef)
		}
	}
	d.mu.Unlock()
	if len(refs) > 0 {
		if n, expires, err = d.eng.Acknowledge(ctx, line, engine.Responses, refs); err != nil {
			return 0, false, err
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, ref := range refs {
		if h := c.holds[ref.Task]; h != nil && h.letter.Round == ref.Round {
			d.dropLocked(c, h)
		}
	}
	return n, expires, lostError(lost)
}

// release gives back what is still leased by the receipts, to be taken after a delay.
func (d *desk) release(line engine.Line, receipts []receipt, delay time.Duration) error {
	c := d.enter(line)
	defer d.leave(c)
	var lost []string
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range receipts {
		h, gone := d.judgeLocked(c, &receipts[i])
		if gone {
			lost = append(lost, receipts[i].Task.String())
		}
		if h != nil {
			h.lease, h.until = 0, d.clock().Add(delay)
			heap.Fix(&c.due, h.at)
		}
	}
	c.fireLocked()
	return lostError(lost)
}
