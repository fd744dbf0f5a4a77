package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
)

// logsFlags are the flags of logs.
type logsFlags struct {
	follow, prefix bool
	attempt        string
	tail           int
}

func newLogs(a *app) *cobra.Command {
	f := &logsFlags{}
	cmd := &cobra.Command{
		Use: "logs [flags] ID[/INDEX]", Short: "what tasks wrote, from the first byte, live if they run",
		Long: `logs prints what a task wrote, or what each task of a job wrote, from its first
byte on: standard output to standard output, standard error to standard error.
With -f it waits for what is still to come. Output of attempts that failed is kept
as well: --attempt names one, navvy why lists them.`,
		Example: `  navvy logs 7k2/17
  navvy logs -f 7k2
  navvy logs --prefix --tail 20 7k2
  navvy logs --attempt 1.4 7k2/17`,
		Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeJobs,
		RunE: func(cmd *cobra.Command, args []string) error { return a.logs(cmd.Context(), f, args[0]) },
	}
	fs := cmd.Flags()
	fs.BoolVarP(&f.follow, "follow", "f", false, "wait for what is still to come")
	fs.BoolVar(&f.prefix, "prefix", false, "begin each line with the task's address")
	fs.StringVar(&f.attempt, "attempt", "", "the output of this attempt: NUMBER, or NUMBER.EPOCH as why shows it")
	f.tail = -1
	fs.Func("tail", "only the last so many `LINES` of each task", func(text string) error {
		n, err := strconv.ParseUint(text, 10, 31)
		if err != nil {
			return errors.New("want a number of lines, 0 or more")
		}
		f.tail = int(n)
		return nil
	})
	return cmd
}

// taskArg reads ID or ID/INDEX; the index is -1 if there is none.
func taskArg(arg string) (prefix string, index int64, err error) {
	prefix, text, single := strings.Cut(arg, "/")
	if !single {
		return prefix, -1, nil
	}
	index, err = strconv.ParseInt(text, 10, 64)
	if err != nil || index < 0 {
		return "", 0, usagef("%q: %q is no index of a task: they count from 0", arg, text)
	}
	return prefix, index, nil
}

func (a *app) logs(ctx context.Context, f *logsFlags, arg string) error {
	prefix, index, err := taskArg(arg)
	if err != nil {
		return err
	}
	if f.attempt != "" && index < 0 {
		return usagef("logs: --attempt goes with one task: ID/INDEX")
	}
	a.waits = f.follow
	l := &logPrinter{app: a, flags: f, single: index >= 0, next: max(index, 0)}
	return a.overHolders(ctx, prefix, func(c *conn, job *client.Job) error { return l.print(ctx, c, job) })
}

// overHolders calls fn with a job, and again with the next holder if one goes away
// meanwhile: fn goes on where it was.
func (a *app) overHolders(ctx context.Context, prefix string, fn func(*conn, *client.Job) error) error {
	for again := true; again; {
		err := a.with(ctx, needLook, func(c *conn) error {
			again = false
			job, err := c.job(ctx, prefix)
			if err != nil {
				return err
			}
			prefix = string(job.ID)
			err = fn(c, &job)
			if again = err != nil && c.lost(err); again {
				return nil // the next holder knows the rest
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// logPrinter prints the output of tasks, over as many connections as it takes.
type logPrinter struct {
	app    *app
	flags  *logsFlags
	single bool
	next   int64 // the task under way
	live   *liveOutput
	end    func() // closes what the task under way has left open
}

// print prints the output of one task, or of all from the next one on, in the
// order of the inputs; when following, each as soon as those before it have ended.
func (l *logPrinter) print(ctx context.Context, c *conn, job *client.Job) error {
	follow := l.flags.follow && c.holder == nil // without a holder nothing comes
	if l.single {
		return l.task(ctx, c, navvy.TaskID{Job: job.ID, Index: l.next}, follow)
	}
	for ; ; l.next++ {
		for l.next >= job.Status.Counts.Total() {
			if !follow || !job.Status.Open {
				return nil
			}
			var err error
			if *job, err = c.more(ctx, job.ID, l.next); err != nil {
				return err
			}
		}
		if err := l.task(ctx, c, navvy.TaskID{Job: job.ID, Index: l.next}, follow); err != nil {
			return err
		}
	}
}

// more waits until an open job has more than so many tasks, or no more to come.
func (c *conn) more(ctx context.Context, id navvy.JobID, tasks int64) (client.Job, error) {
	for st, err := range c.Watch(ctx, id, true) {
		if err != nil {
			return client.Job{}, err
		}
		if st.Counts.Total() > tasks || !st.Open {
			break
		}
	}
	return c.Get(ctx, id)
}

// task prints the output of one task, or the rest of it.
func (l *logPrinter) task(ctx context.Context, c *conn, task navvy.TaskID, follow bool) error {
	attempt, err := c.attempt(ctx, task, l.flags.attempt)
	if err != nil {
		return err
	}
	o := client.OutputOptions{Attempt: attempt, Follow: follow}
	if l.live == nil {
		l.begin(task)
		if l.flags.tail >= 0 {
			if err := l.tail(ctx, c, task, attempt); err != nil {
				return err
			}
			if !follow {
				return l.finish()
			}
		}
	}
	if err := c.Output(ctx, task, o, l.live.sink()); err != nil {
		return errors.Join(err, l.live.flush())
	}
	return l.finish()
}

// begin makes ready to print a task's output.
func (l *logPrinter) begin(task navvy.TaskID) {
	l.live = l.app.newLiveOutput()
	l.end = func() {}
	if !l.flags.prefix {
		return
	}
	l.live.through(func(w io.Writer) io.Writer {
		t := &tagger{w: w, tag: task.String()}
		end := l.end
		l.end = func() {
			end()
			t.end()
		}
		return t
	})
	l.live.another = func(navvy.AttemptID) { l.end() }
}

// finish ends a task's output.
func (l *logPrinter) finish() error {
	l.end()
	err := l.live.flush()
	l.live = nil
	return err
}

// tail prints the last lines of what there is by now.
func (l *logPrinter) tail(ctx context.Context, c *conn, task navvy.TaskID, attempt navvy.AttemptID) error {
	live := l.live
	stdout, stderr := &tailer{w: live.stdout.w, keep: l.flags.tail}, &tailer{w: live.stderr.w, keep: l.flags.tail}
	live.stdout.w, live.stderr.w = stdout, stderr
	err := c.Output(ctx, task, client.OutputOptions{Attempt: attempt}, live.sink())
	live.stdout.w, live.stderr.w = stdout.w, stderr.w
	if err != nil {
		l.live = nil // nothing was printed
		return err
	}
	return errors.Join(stdout.end(), stderr.end(), live.flush())
}

// attempt finds an attempt by number or by id; zero for an empty text.
func (c *conn) attempt(ctx context.Context, task navvy.TaskID, text string) (navvy.AttemptID, error) {
	if text == "" {
		return navvy.AttemptID{}, nil
	}
	if strings.Contains(text, ".") {
		id, err := navvy.ParseAttemptID(text)
		if err != nil {
			return id, &usageError{err}
		}
		return id, nil
	}
	number, err := strconv.ParseUint(text, 10, 32)
	if err != nil || number == 0 {
		return navvy.AttemptID{}, usagef("--attempt %s: want a number from 1, or NUMBER.EPOCH", text)
	}
	t, err := c.Task(ctx, task)
	if err != nil {
		return navvy.AttemptID{}, err
	}
	var found navvy.AttemptID
	for _, a := range attemptsOf(&t) {
		if a.ID.Number == uint32(number) {
			found = a.ID // the latest of that number
		}
	}
	if found.IsZero() {
		return found, fmt.Errorf("task %s has no attempt %d: %w", task, number, navvy.ErrNotFound)
	}
	return found, nil
}

// attemptsOf gives all attempts of a task, the one that runs and the one that won last.
func attemptsOf(t *client.Task) []navvy.Attempt {
	all := append([]navvy.Attempt(nil), t.Attempts...)
	if t.Running != nil {
		all = append(all, *t.Running)
	}
	if t.Result != nil {
		all = append(all, t.Result.Attempt)
	}
	return all
}
