package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"os/signal"
	"slices"
	"sync/atomic"
	"syscall"

	"github.com/RoaringBitmap/roaring/v2"
	"golang.org/x/sync/errgroup"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/api"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/internal/input"
)

// attachment is a client that stays with its job: map, run, resume, retry.
type attachment struct {
	// A new job and its inputs, or the id of one that goes on.
	job   *navvy.Job
	input *input.Reader
	one   []byte // the one input of a job that needs no reading: run
	id    navvy.JobID

	print       *printFlags
	parallelism int  // for a job that goes on; 0 leaves it
	all         bool // print also what was printed before
	// watch, if not nil, takes the place of printing answers; it returns when the job rests.
	watch func(ctx context.Context, c *conn, id navvy.JobID) error
	// interrupt says that already the first signal ends what runs.
	interrupt bool

	app     *app
	printed *roaring.Bitmap // what this process has printed
	conn    atomic.Pointer[conn]
	current atomic.Pointer[navvy.JobID] // id, for whoever catches signals
	signals atomic.Int32
}

// attach runs or resumes a job to its end, over as many holders as it takes, and
// returns an error that carries the exit code.
func (a *app) attach(ctx context.Context, at *attachment) error {
	at.app, at.printed = a, roaring.New()
	if at.id != "" {
		at.current.Store(&at.id)
	}
	if at.job != nil && at.job.Detached {
		return a.detach(ctx, at)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := at.catchSignals(ctx)
	defer stop()
	for {
		c, err := a.connect(ctx, needRun)
		if err != nil {
			return err
		}
		at.conn.Store(c)
		status, err := at.session(ctx, c)
		lost := err != nil && c.lost(err) && at.id != "" && at.signals.Load() == 0
		if !lost {
			return at.leave(ctx, c, status, err)
		}
		a.logger().Debug("the holder is gone, look for another one", "error", err)
		if err := c.close(ctx); err != nil {
			return err
		}
	}
}

// session is the part of an attachment that one connection carries.
func (at *attachment) session(ctx context.Context, c *conn) (navvy.Status, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if c.holder != nil {
		go func() {
			select {
			case <-c.holder.Failed():
				cancel()
			case <-ctx.Done():
			}
		}()
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
	var last navvy.Status
	g.Go(func() error {
		for st, err := range progress {
			if err != nil {
				return err
			}
			last = st
			bar.show(&st)
		}
		return nil
	})
	g.Go(func() error { return at.answers(ctx, c, bar) })
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

// begin submits the job, or goes on with it, and gives its progress.
func (at *attachment) begin(ctx context.Context, c *conn, bar *bar) (iter.Seq2[navvy.Status, error], func(), error) {
	if at.id != "" {
		return begun(c.Resume(ctx, at.id, client.ResumeOptions{Attach: true, Parallelism: at.parallelism, Progress: bar != nil}))
	}
	sub, err := c.Submit(ctx, *at.job, client.SubmitOptions{Stream: at.streams(), Progress: bar != nil})
	if err != nil {
		return nil, nil, err
	}
	fed := make(chan error, 1)
	go func() { fed <- at.feed(ctx, sub) }()
	id, existed, err := sub.Accepted(ctx)
	if err != nil {
		sub.Close()
		return nil, nil, errors.Join(firstOf(<-fed, err))
	}
	at.id = id
	at.current.Store(&id)
	if existed {
		at.app.say("job %s exists with this idempotency key; going on with it", id)
	}
	return withFeed(sub.Progress(ctx), fed), sub.Close, nil
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

// firstOf gives the error that came first, as the cause of the other.
func firstOf(first, second error) error {
	if first != nil {
		return first
	}
	return second
}

// withFeed ends a sequence with what became of the inputs.
func withFeed(progress iter.Seq2[navvy.Status, error], fed <-chan error) iter.Seq2[navvy.Status, error] {
	return func(yield func(navvy.Status, error) bool) {
		for st, err := range progress {
			if err != nil {
				select {
				case feedErr := <-fed:
					err = firstOf(feedErr, err)
				default:
				}
			}
			if !yield(st, err) {
				return
			}
		}
	}
}

// streams tells whether tasks start before all inputs are read.
func (at *attachment) streams() bool {
	return at.input != nil && at.input.Streaming() && at.job.Shuffle == 0
}

// feed sends the inputs.
func (at *attachment) feed(ctx context.Context, sub *client.Submission) error {
	if at.one != nil {
		if err := sub.Send([][]byte{at.one}); err != nil {
			return err
		}
		return sub.Seal()
	}
	for {
		inputs, err := at.input.Batch(ctx)
		if len(inputs) > 0 {
			if err := sub.Send(inputs); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return sub.Seal()
		case err != nil:
			sub.Abort(err.Error())
			return &usageError{err}
		}
	}
}

// answers prints what comes, or watches instead.
func (at *attachment) answers(ctx context.Context, c *conn, bar *bar) error {
	if at.watch != nil {
		return at.watch(ctx, c, at.id)
	}
	job, err := c.Get(ctx, at.id)
	if err != nil {
		return err
	}
	p, err := newPrinter(at.app, at.print, c.Client, &job.Job)
	if err != nil {
		return err
	}
	p.bar = bar
	err = at.printAll(ctx, c, p)
	return errors.Join(err, p.close(), p.keep(context.WithoutCancel(ctx)))
}

func (at *attachment) printAll(ctx context.Context, c *conn, p *printer) error {
	o := client.ResultsOptions{
		Follow: true, AsCompleted: at.print.asCompleted || !at.print.keepOrder, Inputs: at.print.inputs(),
		Unprinted: !at.all, MarkRead: true,
	}
	for batch, err := range c.ResultBatches(ctx, at.id, o) {
		if err != nil {
			return err
		}
		if err := p.batch(ctx, at.unprinted(batch)); err != nil {
			return fmt.Errorf("print answers: %w", err)
		}
		if err := p.keepSoon(ctx); err != nil {
			return err
		}
	}
	return nil
}

// unprinted leaves out what this process has printed, before another holder took over.
func (at *attachment) unprinted(batch []client.Answer) []client.Answer {
	return slices.DeleteFunc(batch, func(a client.Answer) bool { return !at.printed.CheckedAdd(uint32(a.Task.Index)) })
}

// leave ends the attachment: the job's status becomes the exit code.
func (at *attachment) leave(ctx context.Context, c *conn, st navvy.Status, err error) error {
	if errors.Is(err, syscall.EPIPE) {
		// Whoever read our answers has gone; what is not printed stays to be read.
		err = errors.Join(at.holdNow(ctx, c, "nobody reads its answers"), &exitError{code: 128 + int(syscall.SIGPIPE)})
	}
	if busy := busyElsewhere(c); busy > 0 {
		at.app.say("waiting for other terminals, whose work this process runs (%d tasks)", busy)
	}
	leaving, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	interrupt := at.signals.Load() > 1
	if interrupt {
		var stop context.CancelFunc
		leaving, stop = context.WithTimeout(leaving, handover)
		defer stop()
	}
	closeErr := c.leave(leaving, interrupt)
	if err != nil {
		return err
	}
	if closeErr != nil {
		return closeErr
	}
	return at.app.verdict(at.id, &st, int(at.signals.Load()))
}

func busyElsewhere(c *conn) int {
	if c.holder == nil {
		return 0
	}
	return c.holder.Busy()
}

// holdNow holds the job and ends what runs of it.
func (at *attachment) holdNow(ctx context.Context, c *conn, why string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), handover)
	defer cancel()
	if err := c.Hold(ctx, at.id, why, true); err != nil {
		return err
	}
	_, err := c.Wait(ctx, at.id)
	return err
}

// verdict turns where the job stands into the exit code, and says what can be done.
func (a *app) verdict(id navvy.JobID, st *navvy.Status, signals int) error {
	c := st.Counts
	switch {
	case st.Held && signals > 0:
		a.tell("navvy: job %s is held, %d of %d tasks have no answer yet\nresume with: navvy resume %s\n", id, c.Queued, c.Total(), id)
		return &exitError{code: api.ExitInterrupted}
	case st.Held:
		return &exitError{code: api.ExitFailed, err: withHint(fmt.Errorf("job %s is held: %s", id, st.Why), "go on with: navvy resume %s", id)}
	case st.Cut && c.Stopped == 0:
		return &exitError{code: api.ExitFailed, err: fmt.Errorf("job %s: %s", id, st.Why)}
	case c.Stopped > 0:
		return &exitError{code: api.ExitFailed, err: withHint(fmt.Errorf("job %s was stopped (%s): %d tasks failed, %d were stopped of %d", id, st.Why, c.Failed, c.Stopped, c.Total()),
			"see navvy why %s; run the rest with: navvy retry --failed %s", id, id)}
	case c.Failed > 0:
		return &exitError{code: api.ExitFailed, err: withHint(fmt.Errorf("%d of %d tasks failed", c.Failed, c.Total()),
			"see navvy why %s; run them again with: navvy retry --failed %s", id, id)}
	default:
		return nil
	}
}

// catchSignals lets the first Ctrl-C hold the job, and the second end what runs.
func (at *attachment) catchSignals(ctx context.Context) (stop func()) {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-done:
				return
			case s := <-signals:
				at.caught(ctx, s)
			}
		}
	}()
	return func() {
		signal.Stop(signals)
		close(done)
	}
}

// caught acts on one signal.
func (at *attachment) caught(ctx context.Context, s os.Signal) {
	n := at.signals.Add(1)
	interrupt := n > 1 || at.interrupt || s != os.Interrupt
	if interrupt {
		at.signals.Store(max(n, 2))
	}
	c := at.conn.Load()
	id := at.current.Load()
	switch {
	case c == nil || id == nil:
		at.app.say("interrupted before the job was accepted: nothing was started")
		os.Exit(api.ExitInterrupted)
	case n > 2:
		os.Exit(api.ExitInterrupted)
	case !interrupt:
		at.app.say("no further task starts, running ones finish; once more to end them")
	}
	go func() {
		ctx, cancel := context.WithTimeout(ctx, handover)
		defer cancel()
		if err := c.Hold(ctx, *id, "interrupted", interrupt); err != nil {
			at.app.say("cannot hold job %s: %v", *id, err)
		}
	}()
}

// detach submits the job to a background process and prints its id.
func (a *app) detach(ctx context.Context, at *attachment) error {
	c, err := a.connect(ctx, needBehind)
	if err != nil {
		return err
	}
	sub, err := c.Submit(ctx, *at.job, client.SubmitOptions{Stream: false})
	if err == nil {
		defer sub.Close()
		if err = at.feed(ctx, sub); err == nil {
			at.id, _, err = sub.Accepted(ctx)
		}
	}
	if err != nil {
		return errors.Join(err, c.close(ctx))
	}
	if _, err := fmt.Fprintln(a.out, at.id); err != nil {
		return errors.Join(err, c.close(ctx))
	}
	return c.close(ctx)
}
