package cli

import (
	"context"
	"errors"
	"io"
	"iter"
	"sync/atomic"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
)

// begin submits the job, or goes on with it, and gives its progress.
func (at *attachment) begin(ctx context.Context, c *conn, bar *bar) (iter.Seq2[navvy.Status, error], func(), error) {
	if at.remote {
		return at.beginRemote(ctx, c, bar)
	}
	if at.id != "" {
		return begun(c.Resume(ctx, at.id, client.ResumeOptions{Attach: true, Parallelism: at.parallelism, Progress: bar != nil}))
	}
	sub, err := c.Submit(ctx, *at.job, client.SubmitOptions{Stream: at.streams(), Progress: bar != nil, NotIsolated: at.notIsolated})
	if err != nil {
		return nil, nil, err
	}
	f, err := at.accepted(ctx, sub)
	if err != nil {
		return nil, nil, err
	}
	return f.with(sub.Progress(ctx)), func() {
		f.end()
		sub.Close()
	}, nil
}

// accepted sends the inputs until the job is durable, and further in the background.
func (at *attachment) accepted(ctx context.Context, sub *client.Submission) (*feeder, error) {
	at.begun = true
	f := at.startFeed(ctx, sub)
	id, existed, err := sub.Accepted(ctx)
	if err != nil {
		f.end()
		sub.Close()
		return nil, f.cause(err)
	}
	at.id = id
	if at.current.Swap(&id) == nil {
		close(at.known)
	}
	if existed {
		f.end() // its inputs are not wanted
		if !at.again {
			at.all = true // whoever called before, this call wants its answers
			at.app.say("job %s exists with this idempotency key; going on with it", id)
		}
	}
	return f, nil
}

// begun waits for the first status of a job that goes on: before that, whoever
// asks for its answers may still see it held.
func begun(progress iter.Seq2[navvy.Status, error]) (iter.Seq2[navvy.Status, error], func(), error) {
	next, stop := iter.Pull2(progress)
	st, err, ok := next()
	if err != nil || !ok {
		stop()
		return nil, nil, err
	}
	return func(yield func(navvy.Status, error) bool) {
		for ok && yield(st, err) {
			st, err, ok = next()
		}
	}, stop, nil
}

// streams tells whether tasks start before all inputs are read.
func (at *attachment) streams() bool {
	return at.input != nil && at.input.Streaming() && at.job.Shuffle == 0
}

// feeder sends the inputs of a submission in the background.
type feeder struct {
	end     context.CancelFunc
	wrong   *atomic.Bool // the inputs are; failure says how, soon
	done    chan struct{}
	failure error // good when done is closed
}

func (at *attachment) startFeed(ctx context.Context, sub *client.Submission) *feeder {
	f := &feeder{wrong: &at.wrong, done: make(chan struct{})}
	ctx, f.end = context.WithCancel(ctx)
	go func() {
		defer close(f.done)
		f.failure = at.feed(ctx, sub)
	}()
	return f
}

// cause is err, or what was wrong with the inputs if that is behind it.
func (f *feeder) cause(err error) error {
	if !f.wrong.Load() {
		return err
	}
	<-f.done
	return f.failure
}

// with is a sequence that tells what was wrong with the inputs.
func (f *feeder) with(progress iter.Seq2[navvy.Status, error]) iter.Seq2[navvy.Status, error] {
	return func(yield func(navvy.Status, error) bool) {
		for st, err := range progress {
			if err != nil {
				err = f.cause(err)
			}
			if !yield(st, err) {
				return
			}
		}
	}
}

var errNoInput = errors.New("there is no input")

// feed sends the inputs until there are no more, somebody wants no more, or ctx ends.
func (at *attachment) feed(ctx context.Context, sub *client.Submission) error {
	if at.one != nil {
		at.handed.Store(true)
		if err := sub.Send([][]byte{at.one}); err != nil {
			return err
		}
		return sub.Seal()
	}
	reading, cancel := context.WithCancel(ctx)
	defer cancel()
	if at.feeding != nil {
		defer context.AfterFunc(at.feeding, cancel)()
	}
	for sent := false; ; sent = true {
		inputs, err := at.input.Batch(reading)
		if len(inputs) == 0 && !sent && errors.Is(err, io.EOF) {
			err = errNoInput
		}
		if len(inputs) > 0 {
			at.handed.Store(true)
			if err := sub.Send(inputs); err != nil {
				return err
			}
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			return sub.Seal()
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case reading.Err() != nil:
			return sub.Cut()
		default:
			at.wrong.Store(true)
			sub.Abort(err.Error())
			return &usageError{err}
		}
	}
}
