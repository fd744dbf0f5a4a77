package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/output"
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
	fs.IntVar(&f.tail, "tail", -1, "only the last so many lines of each task")
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
	return a.with(ctx, needLook, func(c *conn) error {
		job, err := c.job(ctx, prefix)
		if err != nil {
			return err
		}
		follow := f.follow && c.holder == nil
		if index < 0 && job.Status.Counts.Total() == 1 {
			index = 0
		}
		if index >= 0 {
			return a.taskLog(ctx, c, f, navvy.TaskID{Job: job.ID, Index: index}, follow)
		}
		return a.jobLogs(ctx, c, f, &job, follow)
	})
}

// jobLogs prints the output of all tasks of a job, in the order of the inputs;
// when following, each as soon as those before it have ended.
func (a *app) jobLogs(ctx context.Context, c *conn, f *logsFlags, job *client.Job, follow bool) error {
	for index := int64(0); ; index++ {
		for index >= job.Status.Counts.Total() {
			if !follow || !job.Status.Open {
				return nil
			}
			var err error
			if *job, err = c.more(ctx, job.ID, index); err != nil {
				return err
			}
		}
		if err := a.taskLog(ctx, c, f, navvy.TaskID{Job: job.ID, Index: index}, follow); err != nil {
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

func (a *app) taskLog(ctx context.Context, c *conn, f *logsFlags, task navvy.TaskID, follow bool) error {
	attempt, err := c.attempt(ctx, task, f.attempt)
	if err != nil {
		return err
	}
	stdout, stderr := bufio.NewWriter(a.out), bufio.NewWriter(a.err)
	var out, errs io.Writer = stdout, stderr
	if f.prefix {
		outTag, errTag := &tagger{w: out, tag: task.String()}, &tagger{w: errs, tag: task.String()}
		defer outTag.end()
		defer errTag.end()
		out, errs = outTag, errTag
	}
	if f.tail >= 0 {
		outTail, errTail := &tailer{w: out, keep: f.tail}, &tailer{w: errs, keep: f.tail}
		defer func() { _ = errors.Join(outTail.end(), errTail.end(), stdout.Flush(), stderr.Flush()) }()
		out, errs = outTail, errTail
		if follow {
			if err := a.copyLog(ctx, c, task, attempt, false, out, errs); err != nil {
				return err
			}
			return usagef("logs: --tail and -f exclude each other for now")
		}
	}
	err = a.copyLog(ctx, c, task, attempt, follow, out, errs)
	return errors.Join(err, stdout.Flush(), stderr.Flush())
}

// copyLog writes one task's output, each piece at once.
func (a *app) copyLog(ctx context.Context, c *conn, task navvy.TaskID, attempt navvy.AttemptID, follow bool, stdout, stderr io.Writer) error {
	return c.Output(ctx, task, client.OutputOptions{Attempt: attempt, Follow: follow}, client.OutputSink{
		Write: func(s output.Stream, p []byte) error {
			w := stdout
			if s == output.Stderr {
				w = stderr
			}
			if _, err := w.Write(p); err != nil {
				return err
			}
			if b, ok := w.(*bufio.Writer); ok {
				return b.Flush()
			}
			return nil
		},
	})
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
