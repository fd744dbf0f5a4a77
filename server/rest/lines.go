package rest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/navvy-run/navvy"
)

// Bounds of the lines that are still coming, of all connections together.
const (
	// maxComing is how much of them is in memory, but for the first smallJSON bytes of each.
	maxComing = 8 * maxLine
	// comingStep is how much of a line is reserved at once, and has to come within the
	// time for a body.
	comingStep = 1 << 20
	// comingTime is how long a line waits for memory.
	comingTime = 10 * time.Second
)

// inLines reads lines of a body, that may come for days. A line that has begun has to go
// on: whoever leaves lines half-way holds memory.
type inLines struct {
	*exchange
	r    *bufio.Reader
	held int64 // reserved of Handler.coming
	rest bool  // of a bad line is still to come
}

func (e *exchange) inLines() *inLines {
	e.readBy(time.Time{})
	return &inLines{exchange: e, r: bufio.NewReaderSize(e.r.Body, maxLineBuffer)}
}

// readBy gives what reads the body a deadline, unless it was told to stop.
func (e *exchange) readBy(t time.Time) {
	e.reading.Lock()
	defer e.reading.Unlock()
	if !e.unread {
		_ = e.control.SetReadDeadline(t) // what cannot be bounded in time, in a test, need not be
	}
}

// stopReading ends whatever reads the body, now or later.
func (e *exchange) stopReading() {
	e.reading.Lock()
	defer e.reading.Unlock()
	e.unread = true
	_ = e.control.SetReadDeadline(time.Unix(1, 0)) // as of readBy
}

// badLine is a line that is not there as a whole. The next one can be read.
type badLine struct {
	start []byte // of the line
	err   error
}

func (b *badLine) Error() string { return b.err.Error() }

func (b *badLine) Unwrap() error { return b.err }

// number is that of the call, if the line gives it before what is large. job tells that
// the line is one of a job.
func (b *badLine) number() (n uint64, known, job bool) {
	d := json.NewDecoder(bytes.NewReader(b.start))
	d.UseNumber()
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return 0, false, false
	}
	for {
		key, err := d.Token()
		if err != nil || key == "job" {
			return 0, false, key == "job"
		}
		value, err := d.Token()
		if _, nested := value.(json.Delim); err != nil || nested {
			return 0, false, false
		}
		if key == "number" {
			v, err := readNumber(protoreflect.Uint64Kind, value, "number")
			if err != nil {
				return 0, false, false
			}
			return v.Uint(), true, false
		}
	}
}

// has tells whether a whole line has come already.
func (l *inLines) has() bool {
	b, _ := l.r.Peek(l.r.Buffered())
	return bytes.IndexByte(b, '\n') >= 0
}

// next reads a line of a bounded length, without its end. io.EOF says that there is none,
// a badLine that it is to be skipped. The line is counted as memory until done.
func (l *inLines) next(limit int) ([]byte, error) {
	l.done()
	if l.rest {
		l.readBy(time.Now().Add(l.opts.BodyTime))
		err := l.skip()
		l.readBy(time.Time{})
		if err != nil {
			return nil, err
		}
	}
	if !l.has() {
		if _, err := l.r.Peek(1); err != nil { // the line may take its time to begin
			return nil, lineError(err)
		}
		l.readBy(time.Now().Add(l.opts.BodyTime))
		defer l.readBy(time.Time{})
	}
	return l.line(limit)
}

// line reads a line that has begun.
func (l *inLines) line(limit int) ([]byte, error) {
	var line []byte
	for {
		piece, err := l.r.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) && !errors.Is(err, io.EOF) {
			return nil, bodyError(err)
		}
		size := len(line) + len(piece)
		if size > limit+1 || err != nil && size > limit {
			return nil, l.bad(line, piece, err != nil, &httpError{http.StatusRequestEntityTooLarge, "too_large", fmt.Sprintf("a line has more than %d bytes", limit)})
		}
		full := l.grow(size)
		if errors.Is(full, errComing) {
			return nil, l.bad(line, piece, err != nil, full)
		}
		if full != nil {
			return nil, full
		}
		line = append(line, piece...)
		switch {
		case err == nil:
			return line[:len(line)-1], nil
		case errors.Is(err, io.EOF):
			return line, nil
		}
	}
}

// done gives back what the line took.
func (l *inLines) done() {
	if l.held > 0 {
		l.coming.Release(l.held)
		l.held = 0
	}
}

// grow reserves memory for a line of that size.
func (l *inLines) grow(size int) error {
	for size > smallJSON && l.held < int64(size) {
		ctx, cancel := context.WithTimeoutCause(l.ctx, comingTime, errComing)
		err := l.coming.Acquire(ctx, comingStep)
		if err != nil {
			err = context.Cause(ctx)
		}
		cancel()
		if err != nil {
			return err
		}
		l.held += comingStep
		l.readBy(time.Now().Add(l.opts.BodyTime))
	}
	return nil
}

var errComing = fmt.Errorf("too many large lines come at once; send it again later: %w", navvy.ErrUnavailable)

// bad is the error of a line that begins with these. What is left of it goes before the next.
func (l *inLines) bad(line, piece []byte, rest bool, why error) error {
	start := bytes.Clone(line[:min(len(line), smallJSON)])
	start = append(start, piece[:min(len(piece), smallJSON-len(start))]...)
	l.done()
	l.rest = rest
	return &badLine{start, why}
}

// skip reads what is left of a bad line.
func (l *inLines) skip() error {
	for skipped := 0; l.rest; {
		piece, err := l.r.ReadSlice('\n')
		if skipped += len(piece); skipped > comingStep {
			skipped = 0
			l.readBy(time.Now().Add(l.opts.BodyTime))
		}
		if l.rest = err != nil; l.rest && !errors.Is(err, bufio.ErrBufferFull) {
			return lineError(err)
		}
	}
	return nil
}

func lineError(err error) error {
	if errors.Is(err, io.EOF) {
		return io.EOF
	}
	return bodyError(err)
}
