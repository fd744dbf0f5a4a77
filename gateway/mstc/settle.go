package mstc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/gateway/records"
	"github.com/navvy-run/navvy/internal/pause"
)

// Pauses between tries of what the server cannot do now.
const (
	retryFirst   = 200 * time.Millisecond
	retryLongest = 10 * time.Second
)

// lastWord is for how long what is under way goes on when the gateway ends: what the broker
// has, and is not noted, it is sent once more.
const lastWord = 10 * time.Second

// settle has a request done, and answers it. What is done is durable step by step, so that
// whoever comes after a crash goes on where this one was.
func (g *Gateway) settle(ctx context.Context, in *intent) error {
	if in.Reply == nil || in.Cut {
		if err := g.conclude(ctx, in); err != nil {
			return err
		}
	}
	told, err := g.send(ctx, in)
	if err != nil {
		return err
	}
	ctx, cancel := outlive(ctx, lastWord)
	defer cancel(nil)
	err = g.persist(ctx, "forget an answer that was sent", func() error { return g.records.Apply(ctx, records.Removal(in.name)) })
	if told && in.Job != "" {
		g.markRead(ctx, in.Job)
	}
	return err
}

// conclude finds out what a client is told, and keeps it: it is told just that, whatever
// becomes of the job before the broker can be reached.
func (g *Gateway) conclude(ctx context.Context, in *intent) error {
	if err := g.begin(ctx, in); err != nil {
		return err
	}
	if in.Reply == nil || in.Cut {
		r, err := g.outcome(ctx, in.Request, in.Job)
		if err != nil {
			return err
		}
		if in.Cut && r.State != in.Reply.State { // the job has been removed since
			return nil
		}
		in.Reply, in.Cut = r, false
	}
	if len(in.ReplyTo) == 0 {
		return nil
	}
	record := in.concluded()
	err := g.persist(ctx, "keep an answer", func() error { return g.records.Apply(ctx, record) })
	if err != nil && ctx.Err() == nil { // it can be sent all the same
		g.logger.Warn("an answer cannot be kept", "request", in.name, "error", err)
		return nil
	}
	return err
}

// markRead notes that somebody has the result of a job.
func (g *Gateway) markRead(ctx context.Context, id navvy.JobID) {
	if err := g.client.MarkRead(ctx, id); err != nil {
		g.logger.Debug("the job stays as one whose result nobody has read", "job", id, "error", err)
	}
}

// begin makes the job of a request, if there is none. A job that is refused is an answer.
func (g *Gateway) begin(ctx context.Context, in *intent) error {
	if in.Job != "" {
		return nil
	}
	job := in.Request.job()
	job.Queue = g.opts.Queue
	job.IdempotencyKey = "mstc/" + in.name // of this one request, whatever others are like
	err := g.persist(ctx, "begin the job of a request", func() (err error) {
		in.Job, err = g.client.Begin(ctx, job, nil)
		return err
	})
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		in.Reply = trouble(err)
		g.logger.Warn("a request of an MSTC client is refused", "request", in.name, "error", err)
		return nil
	}
	g.logger.Info("a request of an MSTC client has a job", "request", in.name, "job", in.Job, "image", in.Request.Image)
	// Whoever removes the job does not have it run once more after a restart.
	return g.persist(ctx, "keep the job of a request", func() error { return g.records.Apply(ctx, write(in.name, in)) })
}

// outcome waits for the end of a job, and tells what a client is told of it.
func (g *Gateway) outcome(ctx context.Context, r *request, id navvy.JobID) (out *reply, err error) {
	err = g.persist(ctx, "wait for a job", func() error {
		out, err = g.ended(ctx, r, id)
		return err
	})
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case errors.Is(err, navvy.ErrNotFound):
		return r.replyStopped(id, "somebody has removed it"), nil
	case err != nil:
		return trouble(err), nil
	}
	return out, nil
}

// ended is outcome, with whatever error there is.
func (g *Gateway) ended(ctx context.Context, r *request, id navvy.JobID) (*reply, error) {
	held := pause.Series{First: retryFirst, Longest: retryLongest}
	for {
		a, err := g.answer(ctx, id)
		if err != nil {
			return nil, err
		}
		if a != nil {
			return g.told(ctx, r, a)
		}
		job, err := g.client.Get(ctx, id)
		if err != nil {
			return nil, err
		}
		if job.Status.State() == navvy.Stopped {
			return r.replyStopped(id, job.Status.Why), nil
		}
		if err := held.Wait(ctx); err != nil { // somebody may free it
			return nil, err
		}
	}
}

// answer is that of a job, for which it waits as long as the job goes on; nil if there is none.
func (g *Gateway) answer(ctx context.Context, id navvy.JobID) (*client.Answer, error) {
	for a, err := range g.client.Results(ctx, id, client.ResultsOptions{Follow: true, Limit: 1}) {
		return &a, err
	}
	return nil, nil //nolint:nilnil // there is none, as it says
}

// told is what a client is told of an answer: the first generation also has the log.
func (g *Gateway) told(ctx context.Context, r *request, a *client.Answer) (*reply, error) {
	out := r.reply(a)
	if !r.First {
		return out, nil
	}
	log, err := g.log(ctx, a)
	if err != nil {
		return nil, err
	}
	if out.ok() {
		out.Result = log
	} else {
		out.Result += "\n" + log
	}
	return out, nil
}

// errLarge says that the broker takes no message of this size.
var errLarge = errors.New("the broker takes no message so large")

// send sends an answer, as soon as the broker can be reached, and tells whether there was
// somebody to have it. A client that has left, and one that wanted none, is logged.
func (g *Gateway) send(ctx context.Context, in *intent) (told bool, err error) {
	log := g.logger.With("request", in.name, "job", in.Job, "state", in.Reply.State)
	if len(in.ReplyTo) == 0 {
		log.Info("a request of an MSTC client is done; nobody has asked for the answer", "result", echo([]byte(in.Reply.Result)))
		return false, nil
	}
	err = g.publish(ctx, in)
	if errors.Is(err, errLarge) {
		in.Reply = in.Reply.without("the log is too large for the broker: who runs this service has it, as that of job " + string(in.Job))
		err = g.publish(ctx, in)
	}
	switch {
	case err == nil:
		log.Info("a request of an MSTC client is answered")
		return true, nil
	case ctx.Err() != nil:
		return false, context.Cause(ctx)
	default:
		log.Warn("the answer to a request of an MSTC client is lost", "error", err, "result", echo([]byte(in.Reply.Result)))
		return false, nil
	}
}

// publish publishes an answer. It gives up only what nobody waits for and what is too large:
// all else may be mended.
func (g *Gateway) publish(ctx context.Context, in *intent) error {
	body := in.Reply.body()
	return g.persist(ctx, "send an answer", func() error {
		var s *session
		if err := g.until(ctx, func() bool { s = g.session; return s != nil }); err != nil {
			return err
		}
		err := s.publish(ctx, in.ReplyTo, in.Correlation, body)
		switch {
		case errors.Is(err, navvy.ErrConflict): // PRECONDITION_FAILED
			return errLarge
		case err == nil, errors.Is(err, errNobody), again(err):
			return err
		default:
			return fmt.Errorf("%w: %w", err, navvy.ErrUnavailable)
		}
	})
}
