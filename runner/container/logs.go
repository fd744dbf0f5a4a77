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

	// Where we are: in the line number lines of those of the time at, of which length bytes
	// have come. Times may be the same for several lines.
	at     time.Time
	lines  int
	length int
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
	body, err := open(ctx, f.at, follow)
	if err != nil {
		return 0, err
	}
	defer func() { _ = body.Close() }()
	return f.copy(body)
}

// Lines of logs begin with a time of RFC 3339 and a space.
const longestTime = 40

// copy copies the lines of a stream that have not come before.
func (f *follower) copy(r io.Reader) (int64, error) {
	in := bufio.NewReaderSize(r, 32<<10)
	var (
		copied int64
		skip   = f.lines  // whole lines of the time f.at that have come
		within = f.length // bytes of the line behind them that have come
		since  = f.at
	)
	f.lines, f.length = 0, 0
	for {
		at, err := lineTime(in)
		if errors.Is(err, io.EOF) {
			f.restore(since, skip, within)
			return copied, nil
		}
		if err != nil {
			f.restore(since, skip, within)
			return copied, err
		}
		switch {
		case at.Before(since):
			_, err = f.line(in, -1)
		case at.Equal(since) && skip > 0:
			_, err = f.line(in, -1)
			if skip--; err == nil {
				f.at, f.lines = at, f.lines+1
			}
		default:
			if !at.Equal(f.at) {
				f.at, f.lines = at, 0
			}
			drop := 0
			if at.Equal(since) {
				drop = within
			}
			within = 0
			var n int64
			n, err = f.line(in, drop)
			copied += n
			if err == nil {
				f.lines, f.length = f.lines+1, 0
			}
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				return copied, nil
			}
			return copied, err
		}
	}
}

// restore goes back to where we were, if the stream has ended before it came there.
func (f *follower) restore(since time.Time, skip, within int) {
	if f.at.Equal(since) {
		f.lines, f.length = f.lines+skip, max(f.length, within)
	}
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

// line copies the rest of a line, less its first drop bytes; nothing if drop is negative.
// io.EOF says that it has no end yet.
func (f *follower) line(in *bufio.Reader, drop int) (copied int64, err error) {
	for {
		piece, err := in.ReadSlice('\n')
		if drop >= 0 {
			f.length += len(piece)
			fresh := piece[min(drop, len(piece)):]
			drop -= len(piece) - len(fresh)
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
