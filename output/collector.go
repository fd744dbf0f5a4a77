package output

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/navvy-run/navvy"
)

// Sink takes the frames of an attempt whose output is too long for its result,
// or is being watched.
type Sink interface {
	// Upload takes the next frames, whole ones, from byte 0 on without a gap.
	// They are its own only until it returns. It may block, which slows the
	// attempt down; after an error no more is uploaded.
	Upload(frames []byte) error
}

// Collector makes the frames of one attempt out of its two streams, in the
// order in which their pieces arrive. As long as they are short and nobody
// watches, it keeps them in memory, fewer than InlineLimit bytes; from then on
// it hands them to a Sink. All methods may be called at once.
type Collector struct {
	sink           Sink
	log            *Log        // where everything goes at once, which then keeps the checksum; nil if there is none
	live           atomic.Bool // somebody watches: hand on each piece as it comes
	stdout, stderr Writer
	value          Writer
	limit          int64  // of the payload bytes of both streams together, and of the value; 0 for none
	over           func() // called once, when there are more

	// mu is held while the sink takes frames: that keeps them in order, and a
	// stream that has more to say waits for it.
	mu      sync.Mutex
	pending []byte // frames that the sink has not been given yet
	crc     uint32
	length  int64
	bytes   [Value + 1]int64 // payload bytes of each stream
	logged  bool             // the sink has been given frames
	closed  bool
	full    bool  // there was more than the limit
	err     error // why the output is given up
}

// NewCollector returns an empty collector. With a nil sink output that reaches
// InlineLimit is an error.
func NewCollector(sink Sink) *Collector {
	c := &Collector{sink: sink}
	c.stdout, c.stderr = Writer{c: c, stream: Stdout}, Writer{c: c, stream: Stderr}
	c.value = Writer{c: c, stream: Value}
	return c
}

// Limit bounds the payload of both outputs together, in bytes, and as much that of the
// value. What goes beyond is
// dropped, each Write of it fails with ErrLimit, and at the first one over is
// called, which must not wait for the writer. That there was too much makes the
// output no less complete. Limit is called before anything is written.
func (c *Collector) Limit(bytes int64, over func()) { c.limit, c.over = bytes, over }

// ErrLimit says that there is more output than it may be. It wraps navvy.ErrExhausted.
var ErrLimit = fmt.Errorf("output: more than its limit: %w", navvy.ErrExhausted)

// Capture returns a collector that appends each piece to a log as it comes, so
// that readers of the log follow it. The log is empty and gets nothing else; the
// caller finishes it behind the collector.
func Capture(log *Log) *Collector {
	c := NewCollector(logSink{log})
	c.log = log
	c.live.Store(true)
	return c
}

// logSink is a log as a sink.
type logSink struct{ log *Log }

// Upload implements Sink.
func (s logSink) Upload(frames []byte) error { return s.log.Append(frames) }

// Stdout is the writer of the attempt's standard output.
func (c *Collector) Stdout() *Writer { return &c.stdout }

// Stderr is the writer of the attempt's standard error.
func (c *Collector) Stderr() *Writer { return &c.stderr }

// Value is the writer of what a function has returned, or raised.
func (c *Collector) Value() *Writer { return &c.value }

// Watch hands what was written so far to the sink, and from now on each piece as
// it comes. It does not wait for the sink.
func (c *Collector) Watch() {
	if c.live.Swap(true) {
		return
	}
	go func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if !c.closed {
			c.flush()
		}
	}()
}

// Finish ends the output, hands what is left of a long one to the sink, and says
// what was written. The error is the one that made the output incomplete.
// Writes that come later fail with navvy.ErrClosed.
func (c *Collector) Finish() (navvy.Output, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.logged {
		c.flush()
	}
	c.closed = true
	if c.log != nil {
		_, c.crc = c.log.Sum()
	}
	out := navvy.Output{Logged: c.logged, Length: c.length, CRC: c.crc, Stdout: c.bytes[Stdout], Stderr: c.bytes[Stderr]}
	if !c.logged {
		out.Inline = c.pending
	}
	c.pending = nil
	return out, c.err
}

// addFrame takes one frame: room for a header, then the payload. It belongs to
// the caller again afterwards.
func (c *Collector) addFrame(s Stream, frame []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	payload, tooMuch := c.within(s, frame[HeaderSize:])
	if len(payload) == 0 {
		return tooMuch
	}
	frame = frame[:HeaderSize+len(payload)]
	PutHeader(frame, s, len(payload))
	keep, err := c.makeRoom(len(frame))
	if err != nil {
		return err
	}
	c.count(s, frame)
	if keep {
		c.pending = append(c.pending, frame...)
	} else if err := c.upload(frame); err != nil {
		return err
	}
	return tooMuch
}

// addCopy takes a payload of at most middleBuffer bytes.
func (c *Collector) addCopy(s Stream, payload []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	payload, tooMuch := c.within(s, payload)
	if len(payload) == 0 {
		return tooMuch
	}
	keep, err := c.makeRoom(HeaderSize + len(payload))
	if err != nil {
		return err
	}
	start := len(c.pending)
	c.pending = AppendFrame(c.pending, s, payload)
	c.count(s, c.pending[start:])
	if !keep {
		c.flush()
	}
	if c.err != nil {
		return c.err
	}
	return tooMuch
}

// within is as much of a payload as the limit allows, with ErrLimit if that is not all.
func (c *Collector) within(s Stream, payload []byte) ([]byte, error) {
	if c.limit <= 0 {
		return payload, nil
	}
	room := c.limit - c.bytes[Stdout] - c.bytes[Stderr]
	if s == Value {
		room = c.limit - c.bytes[Value]
	}
	if int64(len(payload)) <= room {
		return payload, nil
	}
	if !c.full && !c.closed {
		c.full = true
		c.over()
	}
	return payload[:room], ErrLimit
}

// makeRoom sees to it that a frame of n bytes may follow, and tells whether it is
// to be kept: a short one waits for more unless somebody watches, because many
// small pieces would cost the sink more than the copy costs us.
func (c *Collector) makeRoom(n int) (keep bool, err error) {
	if c.err == nil && c.closed {
		return false, fmt.Errorf("output: written after its end: %w", navvy.ErrClosed)
	}
	live := c.live.Load()
	if live || len(c.pending)+n >= InlineLimit || (c.logged && n >= InlineLimit/2) {
		c.flush()
		return !live && n < InlineLimit/2, c.err
	}
	return true, c.err
}

func (c *Collector) count(s Stream, frame []byte) {
	if c.log == nil {
		c.crc = UpdateCRC(c.crc, frame)
	}
	c.length += int64(len(frame))
	c.bytes[s] += int64(len(frame) - HeaderSize)
}

// flush hands what is pending to the sink.
func (c *Collector) flush() {
	if len(c.pending) > 0 && c.upload(c.pending) == nil {
		c.pending = c.pending[:0]
	}
}

func (c *Collector) upload(frames []byte) error {
	if c.err != nil {
		return c.err
	}
	c.logged = true
	if c.sink == nil {
		c.err = fmt.Errorf("output: %d bytes and nowhere to put them: %w", c.length, navvy.ErrUnsupported)
	} else if err := c.sink.Upload(frames); err != nil {
		c.err = fmt.Errorf("output: upload: %w", err)
	}
	return c.err
}
