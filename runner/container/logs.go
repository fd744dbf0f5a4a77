package container

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/navvy-run/navvy/internal/pause"
)

// follower copies a container's log from its first byte, over as many streams as that
// takes. Lines come with their times, so that the next stream begins where the last one broke.
type follower struct {
	to      io.Writer
	dropped bool // nobody wants the rest

	// Where we are: behind so many lines of those at or after base, a whole second, in the order
	// of the log, and so many bytes into the next. Times may be the same for several lines, and
	// those of both streams of a program may be out of order by a little. last is the latest.
	base, last time.Time
	lines      int
	length     int
}

// open opens the log with the lines of that time and later.
type openLog func(ctx context.Context, since time.Time, follow bool) (io.ReadCloser, error)

// Pauses between streams that broke.
const (
	firstPause   = 100 * time.Millisecond
	longestPause = 10 * time.Second
)

// follow copies until all has come that there will be: over is closed when the container
// has ended, and a stream that begins afterwards has it all. An error says that the rest cannot be had.
func (f *follower) follow(ctx context.Context, open openLog, over <-chan struct{}) error {
	pauses := pause.Series{First: firstPause, Longest: longestPause}
	for {
		last := closed(over)
		n, err := f.stream(ctx, open, !last)
		switch {
		case err == nil && last:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, errNoLog):
			return err
		case err == nil && closed(over):
			continue
		case n > 0:
			pauses = pause.Series{First: firstPause, Longest: longestPause}
		}
		if err := f.rest(ctx, &pauses, over); err != nil {
			return err
		}
	}
}

// rest waits between two streams, or until the container has ended.
func (f *follower) rest(ctx context.Context, pauses *pause.Series, over <-chan struct{}) error {
	if closed(over) {
		return pauses.Wait(ctx)
	}
	early, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-over:
			cancel()
		case <-early.Done():
		}
	}()
	_ = pauses.Wait(early)
	cancel()
	<-ended
	return context.Cause(ctx)
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// errNoLog says that a log is gone for good.
var errNoLog = errors.New("its log is gone")

// stream copies one stream and returns how many bytes of it were new.
func (f *follower) stream(ctx context.Context, open openLog, follow bool) (int64, error) {
	body, err := open(ctx, f.base, follow)
	if err != nil {
		return 0, err
	}
	defer func() { _ = body.Close() }()
	return f.copy(body)
}

// Lines of logs begin with a time of RFC 3339 and a space.
const longestTime = 40

// copy copies the lines of a stream that have not come before, and returns how many bytes of
// them are new.
func (f *follower) copy(r io.Reader) (copied int64, err error) {
	in := bufio.NewReaderSize(r, 32<<10)
	skip, fresh := f.lines, false
	for {
		at, err := lineTime(in)
		if err != nil {
			return copied, ignoreEOF(err)
		}
		if !fresh && (at.Before(f.base) || skip > 0 && !at.After(f.last)) {
			if !at.Before(f.base) {
				skip--
			}
			if _, err := f.line(in, nil); err != nil {
				return copied, ignoreEOF(err)
			}
			continue
		}
		if fresh || at.After(f.last) {
			f.length = 0 // not the line that we were in
		}
		fresh = true
		n, err := f.next(in, at)
		copied += n
		if err != nil {
			return copied, ignoreEOF(err)
		}
	}
}

// next copies the line of that time, from where we are in it.
func (f *follower) next(in *bufio.Reader, at time.Time) (copied int64, err error) {
	if second := at.Truncate(time.Second); second.After(f.base) {
		f.base, f.lines = second, 0
	}
	if at.After(f.last) {
		f.last = at
	}
	copied, err = f.line(in, &f.length)
	if at.Before(f.base) || err == nil {
		f.length = 0
	}
	if err == nil && !at.Before(f.base) {
		f.lines++
	}
	return copied, err
}

func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// lineTime reads the time that a line begins with.
func lineTime(in *bufio.Reader) (time.Time, error) {
	var text [longestTime]byte
	for n := range text {
		b, err := in.ReadByte()
		if err != nil {
			if n > 0 {
				err = io.ErrUnexpectedEOF
			}
			return time.Time{}, err
		}
		if b != ' ' {
			text[n] = b
			continue
		}
		at, err := time.Parse(time.RFC3339Nano, string(text[:n]))
		if err != nil {
			return time.Time{}, fmt.Errorf("log: a line begins with %q and no time", text[:n])
		}
		return at, nil
	}
	return time.Time{}, fmt.Errorf("log: a line begins with %q and no time", bytes.TrimRight(text[:], "\x00"))
}

// line copies the rest of a line, less the bytes of it that have come, which it counts on; or
// nothing if have is nil. io.EOF says that it has no end yet.
func (f *follower) line(in *bufio.Reader, have *int) (copied int64, err error) {
	read := 0
	for {
		piece, err := in.ReadSlice('\n')
		if have != nil {
			fresh := piece[min(max(*have-read, 0), len(piece)):]
			read += len(piece)
			*have = max(*have, read)
			copied += int64(len(fresh))
			f.write(fresh)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return copied, err
		}
	}
}

func (f *follower) write(p []byte) {
	if f.dropped || f.to == nil || len(p) == 0 {
		return
	}
	_, err := f.to.Write(p)
	f.dropped = err != nil
}
