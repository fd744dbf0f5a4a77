package service

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/process"
)

// lines is a service that one long-lived process is, which answers line by line.
type lines struct {
	*keeper[*lineHost]
}

func openLines(ctx context.Context, line string, o *Options) (Service, error) {
	return newLines(ctx, line, o, plain{})
}

func openJSONLines(ctx context.Context, line string, o *Options) (Service, error) {
	return newLines(ctx, line, o, framed{})
}

func newLines(ctx context.Context, line string, o *Options, f framing) (Service, error) {
	p, err := newProgram(ctx, line, o)
	if err != nil {
		return nil, err
	}
	k, err := newKeeper(ctx, o, func(ctx context.Context) (*lineHost, error) { return startLines(ctx, p, f) })
	if err != nil {
		return nil, err
	}
	return &lines{k}, nil
}

// Invoke implements Service.
func (l *lines) Invoke(ctx context.Context, r *Request) ([]byte, error) {
	var answer []byte
	err := l.try(ctx, func(h *lineHost) (err error) {
		answer, err = h.invoke(ctx, r)
		return err
	})
	return answer, err
}

// framing is how requests and answers are written as lines.
type framing interface {
	// request appends the line of a call, with its newline. An error is a *Failure.
	request(to []byte, c *call, r *Request) ([]byte, error)
	// cancel appends the line that takes a call back; to as it is if there is none.
	cancel(to []byte, c *call) []byte
	// answer reads a line, without its newline. Without ids it is the oldest call's.
	answer(line []byte) (*reply, error)
	// longest is how long the line of an answer of so many bytes can be.
	longest(answer int) int
	// ordered says that answers come in the order of the requests: one at a time is worked at.
	ordered() bool
}

// reply is what a line answers.
type reply struct {
	id   uint64
	body []byte
	err  error
}

// lineHost is one life of such a process.
type lineHost struct {
	*child
	framing framing
	stdin   *os.File
	max     int
	stop    chan struct{} // closed by end: nobody watches any more

	mu      sync.Mutex
	pending []byte        // lines to be written
	unsent  []*call       // theirs
	wake    chan struct{} // tells the writer that there are some
	flight  flight
	carry   []byte // the beginning of a line whose end has not come
	broken  error  // why we end it; nil while it behaves
	over    bool   // it is given nothing more
	ending  bool   // it is ended before it has died
}

// call is one invocation.
type call struct {
	id        uint64
	done      chan struct{}
	body      []byte // with err, once done is closed
	err       error
	sent      bool      // the process may have read it
	since     time.Time // when the process could begin it; zero if it could not yet
	cancelled time.Time // when nobody wanted it any more; zero if somebody does
}

// startLines starts the process and watches it settle.
func startLines(ctx context.Context, p *program, f framing) (*lineHost, error) {
	h := &lineHost{framing: f, max: p.opts.MaxAnswer, stop: make(chan struct{}), wake: make(chan struct{}, 1)}
	h.flight.ordered = f.ordered()
	theirs, ours, err := pipe()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	h.stdin = ours
	started := make(chan struct{}) // the process may write before h.child is there
	c, err := p.start(func(c *process.Config) {
		c.Stdin, c.Stdout = theirs, &lineReader{host: h, started: started}
	})
	if err != nil {
		_ = h.stdin.Close()
		return nil, err
	}
	h.child = c
	close(started)
	timer := time.NewTimer(p.opts.Settle)
	defer timer.Stop()
	select {
	case <-c.done:
		err = h.why()
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-timer.C:
		err = h.why()
	}
	if err != nil {
		err = errors.Join(err, c.force())
		_ = h.stdin.Close()
		return nil, err
	}
	go h.write()
	go h.watch()
	return h, nil
}

// gone implements instance.
func (h *lineHost) gone() <-chan struct{} { return h.done }

// why implements instance; nil for one that lives and behaves.
func (h *lineHost) why() error {
	h.mu.Lock()
	broken := h.broken
	h.mu.Unlock()
	select {
	case <-h.done:
		if broken == nil {
			return h.death()
		}
	default:
	}
	return broken
}

// unfit implements instance: a process that is being ended is given nothing more.
func (h *lineHost) unfit() (<-chan struct{}, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.broken != nil {
		return h.done, errGone
	}
	return nil, nil
}

// end implements instance. A process that reads to the end of its input ends by itself.
func (h *lineHost) end(ctx context.Context) error {
	h.mu.Lock()
	h.over = true
	select {
	case <-h.done:
	default:
		h.ending = true
	}
	h.mu.Unlock()
	_ = h.stdin.Close()
	close(h.stop)
	if h.leave(ctx) {
		return nil
	}
	return h.child.stop(ctx)
}

// invoke sends a request and waits for its answer.
func (h *lineHost) invoke(ctx context.Context, r *Request) ([]byte, error) {
	c := &call{done: make(chan struct{})}
	if err := h.send(c, r); err != nil {
		return nil, err
	}
	select {
	case <-c.done:
		return c.body, c.err
	case <-ctx.Done():
	}
	h.takeBack(c)
	return nil, context.Cause(ctx)
}

// send has the line of a call written.
func (h *lineHost) send(c *call, r *Request) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.over || h.broken != nil {
		return errGone
	}
	h.flight.add(c)
	pending, err := h.framing.request(h.pending, c, r)
	if err != nil {
		h.flight.drop(c)
		return err
	}
	h.pending, h.unsent = pending, append(h.unsent, c)
	h.poke()
	return nil
}

// poke wakes the writer. mu is held.
func (h *lineHost) poke() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// takeBack tells the process that nobody wants an answer any more. Its place stays until
// the answer comes, which nobody gets.
func (h *lineHost) takeBack(c *call) {
	h.mu.Lock()
	defer h.mu.Unlock()
	select {
	case <-c.done:
		return // its answer came at the same moment
	default:
	}
	c.cancelled = time.Now()
	if before := len(h.pending); !h.over {
		if h.pending = h.framing.cancel(h.pending, c); len(h.pending) > before {
			h.poke()
		}
	}
}

// write writes the lines that wait, all that there are at once, until the end.
func (h *lineHost) write() {
	var writing []byte
	for {
		select {
		case <-h.stop:
			return
		case <-h.done:
			return
		case <-h.wake:
		}
		h.mu.Lock()
		writing, h.pending = h.pending, writing[:0]
		now := time.Now()
		for _, c := range h.unsent {
			c.sent = true
			if !h.framing.ordered() {
				c.since = now
			}
		}
		clear(h.unsent)
		h.unsent = h.unsent[:0]
		h.flight.begin(now)
		h.mu.Unlock()
		if len(writing) == 0 {
			continue
		}
		if _, err := h.stdin.Write(writing); err != nil {
			h.deaf()
			return
		}
		if cap(writing) > maxIdle {
			writing = nil
		}
	}
}

// parting is how long a process may take to end that reads no more.
const parting = 2 * time.Second

// deaf is called when the process has closed its input: most often because it dies. One
// that lives on has failed whom it works for.
func (h *lineHost) deaf() {
	timer := time.NewTimer(parting)
	defer timer.Stop()
	select {
	case <-h.stop:
	case <-h.done:
	case <-timer.C:
		h.mu.Lock()
		h.failLocked(errors.New("the service has closed its standard input"))
		h.mu.Unlock()
	}
}

// maxIdle is how large a buffer may be that is kept for later.
const maxIdle = 1 << 20

// breakLocked ends a process that does what none should. mu is held.
func (h *lineHost) breakLocked(why error) {
	select {
	case <-h.stop:
		return // it is being ended anyway
	case <-h.done:
		return // it has died, and that is why
	default:
	}
	if h.broken == nil {
		h.broken = why
		h.kill()
	}
}

// lineReader takes the standard output of the process.
type lineReader struct {
	host    *lineHost
	started <-chan struct{}
}

// Write implements io.Writer.
func (r *lineReader) Write(p []byte) (int, error) {
	<-r.started
	h := r.host
	h.mu.Lock()
	defer h.mu.Unlock()
	n := len(p)
	now := time.Now()
	for h.broken == nil {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			break
		}
		line := p[:i]
		if len(h.carry) > 0 {
			line = append(h.carry, line...)
			h.carry = nil
		}
		p = p[i+1:]
		h.takeLocked(line, now)
	}
	if h.carry = append(h.carry, p...); len(h.carry) > h.framing.longest(h.max) && h.broken == nil {
		h.failLocked(errTooLong(h.max))
	}
	if h.broken != nil {
		h.carry = nil
	}
	return n, nil
}

func errTooLong(limit int) error {
	return fmt.Errorf("the service wrote a line of more than %d bytes", limit)
}

// takeLocked takes one line. mu is held.
func (h *lineHost) takeLocked(line []byte, now time.Time) {
	r, err := h.framing.answer(line)
	if err != nil {
		h.failLocked(err)
		return
	}
	if len(r.body) > h.max {
		h.failLocked(errTooLong(h.max))
		return
	}
	c := h.flight.take(r.id)
	if c != nil && !c.sent {
		c.err = errGone
		close(c.done)
		c = nil
	}
	if c == nil {
		// What was in flight is not to blame, but what this would be the answer to is not known.
		h.breakLocked(fmt.Errorf("the service wrote a line that answers no request, or one twice: %q", navvy.Shorten(string(line))))
		return
	}
	c.body, c.err = r.body, r.err
	close(c.done)
	h.flight.begin(now)
}

// failLocked ends the process for a line that is no answer: whoever it works for failed.
func (h *lineHost) failLocked(err error) {
	h.breakLocked(err)
	h.blameLocked(err.Error())
}

// blameLocked fails what the process works on. Of several one is to blame, and nobody knows
// which. mu is held.
func (h *lineHost) blameLocked(why string) {
	crowd := h.flight.blame()
	for _, c := range crowd {
		h.flight.drop(c)
		c.err = &Failure{Message: why, crowd: len(crowd)}
		close(c.done)
	}
}

// watch looks for calls that take too long, and ends what is left in flight with the process.
func (h *lineHost) watch() {
	ticker := time.NewTicker(h.watchEvery())
	defer ticker.Stop()
	for {
		select {
		case <-h.done:
			h.abandon()
			return
		case now := <-ticker.C:
			h.overdue(now)
		}
	}
}

// watchEvery is how exact timeouts are.
func (h *lineHost) watchEvery() time.Duration {
	shortest := h.opts.Grace
	if h.opts.Timeout > 0 {
		shortest = min(shortest, h.opts.Timeout)
	}
	return min(max(shortest/10, 5*time.Millisecond), time.Second)
}

// overdue ends the process when it works on something for longer than it may, or does
// not let go of what nobody wants any more: there is no other way to take it back.
func (h *lineHost) overdue(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.flight.blame() {
		timeout := h.opts.Timeout
		switch {
		case h.broken != nil:
			return
		case !c.cancelled.IsZero() && now.Sub(later(c.cancelled, c.since)) > h.opts.Grace:
			h.breakLocked(fmt.Errorf("the service went on with a cancelled request for more than %s, and was ended", h.opts.Grace))
		case timeout > 0 && now.Sub(c.since) > timeout:
			h.flight.drop(c)
			c.err = failf("the service took longer than %s for the request", timeout)
			close(c.done)
			h.breakLocked(fmt.Errorf("the service took longer than %s for a request, and was ended", timeout))
		}
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// abandon ends the calls of a process that is over: who it worked for has failed, if it
// died by itself; the others were not begun.
func (h *lineHost) abandon() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.over = true
	if h.broken == nil && !h.ending {
		h.blameLocked(fmt.Sprintf("%s, during the request", h.death()))
	}
	for _, c := range h.flight.all() {
		c.err = errGone
		close(c.done)
	}
}
