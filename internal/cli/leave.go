package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/api"
	"github.com/navvy-run/navvy/internal/cli/format"
)

// leave ends the attachment: the job's status becomes the exit code.
func (at *attachment) leave(ctx context.Context, c *conn, st navvy.Status, err error) error {
	if _, ok := errors.AsType[*printError](err); ok {
		err = at.unread(ctx, c, err)
	}
	closeErr := at.close(ctx, c)
	switch {
	case err != nil && at.force.Err() != nil && at.id != "":
		at.app.tell("%s\n", at.app.goOn("resume with: navvy resume %s", at.id))
		return &exitError{code: at.interrupted()}
	case err != nil:
		return err
	case closeErr != nil:
		return closeErr
	}
	err = at.app.verdict(at.id, &st, at.interrupted())
	if at.returns != nil {
		err = at.returns.verdict(err, at.interrupted())
	}
	return err
}

// close gives the connection up. A holder waits for what it does for others,
// until it is told to hurry: then that is ended, to run again elsewhere.
func (at *attachment) close(ctx context.Context, c *conn) error {
	ctx = context.WithoutCancel(ctx)
	if c.holder != nil && at.hurry.Err() == nil {
		_ = c.holder.AwaitCalls(at.hurry) // our own are over: what goes on is others'
		if busy := c.holder.Busy(); busy > 0 {
			at.app.say("waiting for other terminals, whose work this process runs (%s); Ctrl-C to leave it to them", count(int64(busy), "task"))
		}
		_ = c.holder.Drain(at.hurry) // if it is not over, the rest is ended below
	}
	interrupt := at.hurry.Err() != nil
	if interrupt {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(at.force, at.app.patience)
		defer stop()
	}
	return c.leave(ctx, interrupt)
}

// unread holds the job because its answers cannot be printed: whoever read them has
// gone, or the disk is full. What is not printed stays to be read.
func (at *attachment) unread(ctx context.Context, c *conn, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), at.app.patience)
	defer cancel()
	over, why := &exitError{exitCode(cause), cause}, "its answers could not be printed"
	if errors.Is(cause, syscall.EPIPE) {
		over, why = &exitError{code: exitPipe}, "nobody reads its answers"
	}
	if err := c.Hold(ctx, at.id, why, true); err != nil {
		return errors.Join(err, over)
	}
	st, err := c.Wait(at.hurry, at.id) // what runs ends after its grace
	if err != nil {
		return errors.Join(err, over)
	}
	if !st.Held {
		return over
	}
	if over.err == nil {
		at.app.say("nobody reads the answers")
	} else {
		at.app.complain(over.err)
	}
	at.app.tellHeld(at.id, &st)
	return &exitError{code: over.code}
}

// tellHeld says how to go on with a job that is held.
func (a *app) tellHeld(id navvy.JobID, st *navvy.Status) {
	have := "have"
	if st.Counts.Queued == 1 {
		have = "has"
	}
	a.tell("navvy: job %s is held, %s of %s %s no answer yet\n", id, format.Count(st.Counts.Queued), count(st.Counts.Total(), "task"), have)
	if st.Cut {
		a.tell("navvy: further inputs were not read\n")
	}
	a.tell("%s\n", a.goOn("resume with: navvy resume %s", id))
}

// goOn says how to go on with a job; one whose server goes with the run nobody can.
func (a *app) goOn(format string, args ...any) string {
	if a.passing {
		return "what was not printed has to be run anew: the server of this run goes with it"
	}
	return fmt.Sprintf(format, args...)
}

// verdict turns where the job stands into the exit code, and says what can be done.
// interrupted is the exit code if a signal has ended it, else 0.
func (a *app) verdict(id navvy.JobID, st *navvy.Status, interrupted int) error {
	c := st.Counts
	exit := &exitError{code: api.ExitFailed}
	if interrupted > 0 && (st.Held || st.Cut) {
		exit.code = interrupted
	}
	switch {
	case st.Held && interrupted > 0:
		a.tellHeld(id, st)
	case st.Held:
		exit.err = withHint(fmt.Errorf("job %s is held: %s", id, st.Why), "%s", a.goOn("go on with: navvy resume %s", id))
	case c.Stopped > 0:
		exit.err = withHint(fmt.Errorf("job %s was stopped (%s): %s of %s failed, %s stopped", id, st.Why, format.Count(c.Failed), count(c.Total(), "task"), format.Count(c.Stopped)),
			"%s", a.goOn("see navvy why %s; run the rest with: navvy retry --failed %s", id, id))
	case st.Cut:
		exit.err = fmt.Errorf("job %s: %s", id, st.Why)
	case c.Failed > 0:
		exit.err = withHint(fmt.Errorf("%s of %s failed", format.Count(c.Failed), count(c.Total(), "task")),
			"%s", a.goOn("see navvy why %s; run again what failed with: navvy retry --failed %s", id, id))
	default:
		return nil
	}
	return exit
}

// interrupted is the exit code of who was ended by the last signal; 0 if none came.
func (at *attachment) interrupted() int {
	if n := at.last.Load(); n > 0 {
		return 128 + int(n)
	}
	return 0
}

// catchSignals lets the first Ctrl-C hold the job, the second end what runs, and
// the third kill it.
func (at *attachment) catchSignals() (stop func()) {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	at.app.catching.Store(true)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-done:
				return
			case s := <-signals:
				at.caught(s)
			}
		}
	}()
	return func() {
		at.app.catching.Store(false)
		signal.Stop(signals)
		close(done)
	}
}

// acceptTime is how long a signal waits for a job that is being accepted, so that it is
// held, and its id told.
const acceptTime = time.Second

// caughtEarly acts on a signal before the job has an id.
func (at *attachment) caughtEarly(s os.Signal, n int32) {
	if n == 1 && at.handed.Load() && !at.waived.Load() {
		go at.whenKnown(s)
		return
	}
	at.cancel(&exitError{at.interrupted(), errors.New("interrupted before the job was accepted")})
}

// whenKnown acts on the first signal, which came while the job was being accepted.
func (at *attachment) whenKnown(s os.Signal) {
	timer := time.NewTimer(acceptTime)
	defer timer.Stop()
	select {
	case <-at.known:
	case <-at.going.Done():
	case <-timer.C:
		at.waived.Store(true)
	}
	if at.signals.CompareAndSwap(1, 0) || at.signals.CompareAndSwap(2, 0) {
		at.caught(s)
	}
}

// caught acts on one signal.
func (at *attachment) caught(s os.Signal) {
	n := at.signals.Add(1)
	if number, ok := s.(syscall.Signal); ok {
		at.last.Store(int32(number))
	}
	over := at.going.Err() != nil
	interrupt := n > 1 || over || at.interrupt || s != os.Interrupt
	if interrupt {
		at.signals.Store(max(n, 2))
		at.now()
	}
	c, id := at.conn.Load(), at.current.Load()
	if id == nil && !over {
		at.caughtEarly(s, n)
		return
	}
	switch {
	case n > 2:
		at.kill()
		at.cancel(nil)
		return
	case over:
		return // the connection is being given up: there is but that to hurry
	case c == nil && at.remote:
		at.cancel(&exitError{at.interrupted(), withHint(fmt.Errorf("interrupted while the server is away: job %s goes on there", *id), "%s", at.app.goOn("see navvy status %s, or go on waiting with: navvy resume %s", *id, *id))})
		return
	case c == nil:
		at.cancel(&exitError{at.interrupted(), withHint(fmt.Errorf("interrupted, and job %s is held", *id), "%s", at.app.goOn("go on with: navvy resume %s", *id))})
		return
	case at.onlyFiles():
		at.now() // there is nothing to hold
		return
	case !interrupt:
		at.app.say("no further task starts, running ones finish; once more to end them")
	}
	at.stop()
	go at.hold(c, *id, interrupt)
}

// hold holds the job because of a signal; with interrupt what runs of it ends.
func (at *attachment) hold(c *conn, id navvy.JobID, interrupt bool) {
	ctx, cancel := context.WithTimeout(at.going, at.app.patience)
	defer cancel()
	if err := c.Hold(ctx, id, "interrupted", interrupt); err != nil && ctx.Err() == nil {
		at.app.say("cannot hold job %s: %v", id, err)
	}
}
