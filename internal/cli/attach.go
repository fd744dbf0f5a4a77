package cli

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/internal/input"
)

// attachment is a client that stays with its job: map, run, resume, retry.
type attachment struct {
	// A new job and its inputs, or the id of one that goes on.
	job   *navvy.Job
	input *input.Reader
	one   []byte // the one input of a job that needs no reading: run
	// reopen opens the inputs again; nil if they can be read only once.
	reopen func() (*input.Reader, error)
	id     navvy.JobID

	print       *printFlags
	parallelism int  // for a job that goes on; 0 leaves it
	all         bool // print also what was printed before
	// watch, if not nil, takes the place of printing answers; it returns when the job rests.
	watch func(ctx context.Context, c *conn, id navvy.JobID) error
	// detached says that nobody waits for the job.
	detached bool
	// notIsolated says that the new job was asked not to be isolated.
	notIsolated bool
	// interrupt says that already the first signal ends what runs.
	interrupt bool

	app     *app
	printer *printer
	returns *returning  // nil unless files of tasks come here
	remote  bool        // over the network, where a job does not depend on who waits for it
	freed   bool        // the job that goes on was resumed
	again   bool        // it may have been submitted before, under the same key
	rested  atomic.Bool // nothing of the job runs any more
	bring   atomic.Bool // files of its tasks are on their way
	begun   bool        // a server has taken the job, so that it must not be submitted again
	wrong   atomic.Bool // the inputs are not what they should be
	told    bool        // that it has to wait
	conn    atomic.Pointer[conn]
	current atomic.Pointer[navvy.JobID] // id, for whoever catches signals
	signals atomic.Int32
	last    atomic.Int32            // the number of the last signal
	handed  atomic.Bool             // inputs were sent to whoever is to accept the job
	lost    bool                    // and the connection broke, so that it may have been accepted
	waived  atomic.Bool             // a signal does not wait for it to be accepted any more
	known   chan struct{}           // closed when the job has an id
	cancel  context.CancelCauseFunc // ends the attachment as a whole
	feeding context.Context         //nolint:containedctx // ends when no more inputs are to be read
	stop    context.CancelFunc      // ends feeding
	going   context.Context         //nolint:containedctx // ends when nothing of the job goes on here, so that there is nothing to hold
	over    context.CancelFunc      // ends going
	hurry   context.Context         //nolint:containedctx // ends when nothing is to be waited for
	now     context.CancelFunc      // ends hurry
	force   context.Context         //nolint:containedctx // ends when what runs is to be killed
	kill    context.CancelFunc      // ends force
}

// attach runs or resumes a job to its end, over as many holders as it takes, and
// returns an error that carries the exit code.
func (a *app) attach(ctx context.Context, at *attachment) error {
	at.app = a
	at.known = make(chan struct{})
	if at.id != "" {
		at.current.Store(&at.id)
		close(at.known)
	}
	t, err := a.target()
	if err != nil {
		return err
	}
	if at.remote = t != nil; at.remote {
		at.overNetwork()
	}
	if at.detached {
		return at.hinted(a.detach(ctx, at))
	}
	ctx, at.cancel = context.WithCancelCause(ctx)
	defer at.cancel(nil)
	at.feeding, at.stop = context.WithCancel(ctx)
	at.going, at.over = context.WithCancel(ctx)
	at.force, at.kill = context.WithCancel(context.WithoutCancel(ctx))
	defer at.kill()
	defer func() { at.returns.close() }()
	at.hurry, at.now = context.WithCancel(at.force)
	defer at.catchSignals()()
	err = at.overHolders(ctx)
	if cause, ok := errors.AsType[*exitError](context.Cause(ctx)); ok {
		return cause // a signal before the job was accepted
	}
	return at.hinted(err)
}

// hinted says where to look if a new job asks for more than can be done, or than there is.
func (at *attachment) hinted(err error) error {
	switch {
	case at.job == nil || at.id != "":
	case errors.Is(err, navvy.ErrUnsupported):
		return withHint(err, "navvy status shows which limits this machine can enforce")
	case at.job.Spec.Function != nil:
		return functionHint(err)
	case at.job.Spec.Service != nil:
		return serviceHint(at.job, err)
	}
	return err
}

// overHolders goes on with the next holder when one has gone.
func (at *attachment) overHolders(ctx context.Context) error {
	for {
		c, err := at.app.connect(ctx, needRun)
		if err != nil {
			return err
		}
		at.conn.Store(c)
		status, err := at.session(ctx, c)
		goesOn := err != nil && c.lost(err) && at.signals.Load() == 0 && (at.id != "" || !at.begun || at.mayRepeat())
		if !goesOn {
			at.over()
			return at.leave(ctx, c, status, err)
		}
		at.conn.Store(nil)
		at.lost = at.lost || at.handed.Load()
		at.app.logger().Debug("the holder is gone, look for another one", "error", err)
		if err := c.close(ctx); err != nil {
			return err
		}
		if at.id != "" || at.remote {
			if err := at.repeat(); err != nil {
				return err
			}
			continue
		}
		if err := at.pause(ctx); err != nil {
			return err
		}
	}
}

// session is the part of an attachment that one connection carries.
func (at *attachment) session(ctx context.Context, c *conn) (navvy.Status, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if c.holder != nil {
		go func(over <-chan struct{}) {
			select {
			case <-c.holder.Failed():
				cancel()
			case <-over:
			}
		}(ctx.Done())
	}
	bar := at.app.newBar(at.print)
	defer bar.end()
	// What begin opens must end when the answers cannot be printed.
	g, ctx := errgroup.WithContext(ctx)
	progress, closeSubmission, err := at.begin(ctx, c, bar)
	if err != nil {
		return navvy.Status{}, failureOf(c, err)
	}
	defer closeSubmission()
	showing, shown := context.WithCancel(ctx)
	defer shown()
	go bar.run(showing)
	var last navvy.Status
	g.Go(func() error {
		for st, err := range progress {
			if err != nil {
				return err
			}
			at.app.sayWaiting(at.id, &last, &st)
			last = st
			bar.show(&st)
		}
		at.rested.Store(true)
		return nil
	})
	g.Go(func() error { return at.answers(ctx, c) })
	err = g.Wait()
	return last, failureOf(c, err)
}

// failureOf prefers why the holder in this process failed.
func failureOf(c *conn, err error) error {
	if c.holder != nil && c.holder.Err() != nil {
		return c.holder.Err()
	}
	return err
}

// answers prints what comes, or watches instead.
func (at *attachment) answers(ctx context.Context, c *conn) error {
	if at.watch != nil {
		return at.watch(ctx, c, at.id)
	}
	if err := at.openPrinter(ctx, c); err != nil {
		return err
	}
	at.printer.client = c.Client
	err := at.printAndBring(ctx, c)
	if c.lost(err) {
		return err // the next holder is told what was printed
	}
	if err == nil {
		err = at.printer.close()
	}
	if err = errors.Join(err, at.printer.keep(context.WithoutCancel(ctx))); err != nil {
		return err
	}
	if at.returns != nil {
		if whole, err := at.brought(ctx, c); !whole || err != nil {
			return err
		}
	}
	return c.MarkRead(ctx, at.id)
}

// openPrinter makes what prints answers, and what brings files, once.
func (at *attachment) openPrinter(ctx context.Context, c *conn) error {
	if at.printer != nil {
		return nil
	}
	job, err := c.Get(ctx, at.id)
	if err != nil {
		return err
	}
	if at.returns, err = at.app.newReturning(&job.Job, at.job == nil); err != nil {
		return err
	}
	at.printer, err = newPrinter(at.app, at.print, &job.Job)
	if err == nil && at.returns != nil {
		at.printer.settled = at.returns.among
	}
	return err
}

// printAndBring prints answers, and brings the files that belong to them.
func (at *attachment) printAndBring(ctx context.Context, c *conn) error {
	if at.returns == nil {
		return at.printAll(ctx, c)
	}
	at.bring.Store(true)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return at.returns.run(ctx, at.hurry, c) })
	g.Go(func() error {
		err := at.printAll(ctx, c)
		if errors.Is(err, errNotHere) && at.hurry.Err() != nil {
			return nil // the rest is for who resumes
		}
		return err
	})
	return g.Wait()
}

// onlyFiles tells whether nothing of the job goes on but that its files are copied here.
func (at *attachment) onlyFiles() bool { return at.rested.Load() && at.bring.Load() }

// brought ends with the files of a job, and tells whether all are here.
func (at *attachment) brought(ctx context.Context, c *conn) (bool, error) {
	if at.all {
		if err := at.returns.absent(ctx, c); err != nil {
			return false, err
		}
	}
	if !at.returns.complete() {
		return false, nil
	}
	return true, at.returns.cleanUp(ctx, c)
}

func (at *attachment) printAll(ctx context.Context, c *conn) error {
	o := client.ResultsOptions{
		Follow: true, AsCompleted: at.print.asCompleted || !at.print.keepOrder, Inputs: at.print.inputs(),
		Unprinted: !at.all,
	}
	for batch, err := range c.ResultBatches(ctx, at.id, o) {
		if err != nil {
			return err
		}
		if err := at.printBatch(ctx, batch); err != nil {
			return err
		}
	}
	return nil
}

// printBatch prints answers that came together: each when its files are here, unless it was
// printed before. One whose files cannot be here is for who resumes.
func (at *attachment) printBatch(ctx context.Context, batch []client.Answer) error {
	if at.returns == nil || at.all {
		if err := at.printer.batch(ctx, batch); err != nil {
			return err
		}
		return at.printer.keepSoon(ctx)
	}
	for i := range batch {
		here, err := at.returns.await(ctx, batch[i].Task.Index)
		if err != nil {
			return err
		}
		if !here {
			continue // it comes with resume
		}
		if err := at.printer.batch(ctx, batch[i:i+1]); err != nil {
			return err
		}
		if err := at.printer.keep(ctx); err != nil { // whose files are here may change them
			return err
		}
	}
	return nil
}

// detach submits the job to a background process and prints its id.
func (a *app) detach(ctx context.Context, at *attachment) error {
	c, sub, err := at.submitBehind(ctx)
	if err != nil {
		return err
	}
	defer sub.Close()
	if err = at.feed(ctx, sub); err == nil {
		at.id, _, err = sub.Accepted(ctx)
	}
	if err == nil {
		_, err = fmt.Fprintln(a.out, at.id)
	}
	return errors.Join(err, c.close(ctx))
}

// submitBehind begins to submit the job to whoever holds the data, or else to a
// background process.
func (at *attachment) submitBehind(ctx context.Context) (*conn, *client.Submission, error) {
	for {
		c, err := at.app.connect(ctx, needBehind)
		if err != nil {
			return nil, nil, err
		}
		sub, err := c.Submit(ctx, *at.job, client.SubmitOptions{NotIsolated: at.notIsolated})
		if err == nil {
			return c, sub, nil
		}
		if closeErr := c.close(ctx); !c.lost(err) {
			return nil, nil, errors.Join(err, closeErr)
		}
		if at.remote {
			continue
		}
		if err := at.pause(ctx); err != nil {
			return nil, nil, err
		}
	}
}

// pause lets a holder leave that takes no more jobs.
func (at *attachment) pause(ctx context.Context) error {
	if !at.told {
		at.told = true
		at.app.say("the navvy that holds the data is about to end; waiting for it")
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(leavingPause):
		return nil
	}
}

// leavingPause is how long to wait before asking a holder that is leaving again.
const leavingPause = 100 * time.Millisecond
