package engine

import (
	"context"
	"errors"
	"io"
	"time"
)

// logCopy copies the log of a container to an attempt's output, in the background.
type logCopy struct {
	cancel context.CancelFunc
	over   chan struct{} // closed when the container has ended
	copied chan error    // how copying ended
}

// copyLog begins to copy the log from its first byte.
func (a *attempt) copyLog(ctx context.Context) *logCopy {
	ctx, cancel := context.WithCancel(ctx)
	l := &logCopy{cancel: cancel, over: make(chan struct{}), copied: make(chan error, 1)}
	stdout, stderr := &outlet{to: a.task.Stdout}, &outlet{to: a.task.Stderr}
	go func() {
		l.copied <- follow(ctx, l.over, stdout, stderr, func() (bool, error) {
			return a.driver.backend.logs(ctx, a.id, l.over, stdout, stderr)
		})
	}()
	return l
}

// follow reads a log, again and again from its beginning, until it has seen all of it.
func follow(ctx context.Context, over <-chan struct{}, stdout, stderr *outlet, read func() (bool, error)) error {
	for again := pauses(); ; {
		stdout.again()
		stderr.again()
		whole, err := read()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, errGone), err == nil && whole:
			return err
		case err != nil:
			if again.Wait(ctx) != nil {
				return err
			}
			continue
		}
		timer := time.NewTimer(again.Next()) // the stream may have broken without a word
		select {
		case <-over:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// stop ends the copying.
func (l *logCopy) stop() { l.cancel() }

// restPatience bounds the wait for the rest of a log that no result needs.
const restPatience = 10 * time.Second

// rest waits for the rest of the log of a container that has ended.
func (l *logCopy) rest(ctx context.Context, needed bool) error {
	close(l.over)
	var enough <-chan time.Time
	if !needed {
		enough = time.After(restPatience)
	}
	select {
	case err := <-l.copied:
		if needed {
			return err
		}
	case <-enough:
	case <-ctx.Done():
	}
	return nil
}

// outlet passes on what was not passed on yet, of a stream that is read from its beginning
// again. Once nobody wants it any more it drops the rest.
type outlet struct {
	to     io.Writer
	passed int64 // how much was passed on
	skip   int64 // how much of what comes was
}

func (o *outlet) again() { o.skip = o.passed }

// Write implements io.Writer.
func (o *outlet) Write(p []byte) (int, error) {
	n := len(p)
	known := min(int64(n), o.skip)
	o.skip -= known
	p = p[known:]
	if len(p) == 0 {
		return n, nil
	}
	o.passed += int64(len(p))
	if o.to != nil {
		if _, err := o.to.Write(p); err != nil {
			o.to = nil
		}
	}
	return n, nil
}
