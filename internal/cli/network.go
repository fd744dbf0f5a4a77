package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"iter"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
)

// A job of a server does not depend on whoever waits for it: a connection breaks
// easily, and that must not hold the job. So to the server it is detached, and
// who waits for it watches it, over as many connections as it takes. Ctrl-C holds
// it by a call of its own.

// overNetwork prepares an attachment to a job of a server.
func (at *attachment) overNetwork() {
	at.app.waits = !at.detached
	if at.job == nil {
		return
	}
	at.job.Detached = true
	if at.job.IdempotencyKey == "" && (at.one != nil || at.reopen != nil) {
		// If the connection breaks before the server says that it has the job, it is
		// submitted once more, and must be the same one.
		at.job.IdempotencyKey = "once-" + rand.Text()
		at.again = true
	}
}

// mayRepeat tells whether the job can be submitted again that may have been accepted.
func (at *attachment) mayRepeat() bool {
	return at.remote && at.job.IdempotencyKey != "" && (at.one != nil || at.reopen != nil)
}

// repeat makes ready to submit the job again, if it has been submitted and nobody
// knows whether it was accepted.
func (at *attachment) repeat() error {
	if at.id != "" || !at.begun || at.reopen == nil {
		return nil
	}
	in, err := at.reopen()
	if err != nil {
		return err
	}
	_ = at.input.Close() // it was only read
	at.input = in
	return nil
}

// beginRemote is begin with a server: it submits the job, or frees it, or goes on
// watching it.
func (at *attachment) beginRemote(ctx context.Context, c *conn, bar *bar) (iter.Seq2[navvy.Status, error], func(), error) {
	if at.id == "" {
		return at.submitRemote(ctx, c, bar)
	}
	if at.job == nil && !at.freed {
		for _, err := range c.Resume(ctx, at.id, client.ResumeOptions{Parallelism: at.parallelism}) {
			if err != nil {
				return nil, nil, err
			}
		}
	}
	at.freed = true
	return c.Watch(ctx, at.id, bar != nil), func() {}, nil
}

func (at *attachment) submitRemote(ctx context.Context, c *conn, bar *bar) (iter.Seq2[navvy.Status, error], func(), error) {
	sub, err := c.Submit(ctx, *at.job, client.SubmitOptions{Stream: at.streams(), NotIsolated: at.notIsolated})
	if err != nil {
		return nil, nil, err
	}
	f, err := at.accepted(ctx, sub)
	if err != nil {
		return nil, nil, err
	}
	watching, end := context.WithCancelCause(ctx)
	go func() {
		<-f.done
		if f.failure != nil {
			end(f.failure)
		}
	}()
	progress := func(yield func(navvy.Status, error) bool) {
		for st, err := range c.Watch(watching, at.id, bar != nil) {
			if cause := context.Cause(watching); err != nil && cause != nil && ctx.Err() == nil {
				err = cause // the inputs cannot be sent
			}
			if !yield(st, err) {
				return
			}
		}
	}
	return f.with(progress), func() {
		f.end()
		sub.Close()
		end(errors.New("the attachment is over"))
	}, nil
}
