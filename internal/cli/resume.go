package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
)

func newResume(a *app) *cobra.Command {
	f := &printFlags{}
	var jobs string
	var all, detach bool
	cmd := &cobra.Command{
		Use:   "resume [flags] ID",
		Short: "go on with a job that was held or interrupted",
		Long: `resume goes on with a job where it stopped: after Ctrl-C, a crash or a reboot. It
prints the answers that were not printed yet, in order, and exits as map does.
A job that has ended already just has its answers printed. Files that map --return asked
for come into the current directory, as far as they have not come yet. After a kill -9 of
who printed them, answers of its last moment may be printed once more: nothing is missing.`,
		Example: `  navvy resume 7k2
  navvy resume --all 7k2 > answers.txt
  navvy resume -d 7k2`,
		Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeJobs,
		RunE: func(cmd *cobra.Command, args []string) error {
			a.quiet = f.quiet
			parallel := 0
			if jobs != "" {
				var err error
				if parallel, err = parallelism(jobs); err != nil {
					return err
				}
			}
			if err := f.checkSteering(); err != nil {
				return err
			}
			if err := f.openJoblog(detach); err != nil {
				return err
			}
			id, job, err := a.lookUp(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if detach {
				return a.resumeBehind(cmd.Context(), f, id, parallel)
			}
			all = all || job.Status.State().Final() && job.Status.Read
			return a.attach(cmd.Context(), &attachment{id: id, print: f, parallelism: parallel, all: all})
		},
	}
	fs := cmd.Flags()
	f.add(cmd)
	fs.StringVarP(&jobs, "jobs", "j", "", "tasks at once from now on (default: as before)")
	fs.BoolVar(&all, "all", false, "print all answers, also those that were printed before")
	fs.BoolVarP(&detach, "detach", "d", false, "go on in the background")
	return cmd
}

// lookUp finds a job by the beginning of its id.
func (a *app) lookUp(ctx context.Context, prefix string) (navvy.JobID, client.Job, error) {
	var job client.Job
	err := a.with(ctx, needLook, func(c *conn) (err error) {
		job, err = c.job(ctx, prefix)
		return err
	})
	return job.ID, job, err
}

// resumeBehind frees the job for a background process.
func (a *app) resumeBehind(ctx context.Context, f *printFlags, id navvy.JobID, parallel int) error {
	return a.with(ctx, needBehind, func(c *conn) error {
		for st, err := range c.Resume(ctx, id, client.ResumeOptions{Parallelism: parallel}) {
			if err != nil {
				return err
			}
			a.sayWaiting(id, &navvy.Status{}, &st)
		}
		if f.output != "json" && f.output != "jsonl" {
			_, err := fmt.Fprintln(a.out, id)
			return err
		}
		job, err := c.Get(ctx, id)
		if err != nil {
			return err
		}
		return (&listFlags{output: f.output}).one(a.out, newJobObject(&job))
	})
}

// with calls fn with a connection, and closes it. If the holder leaves before fn
// has printed anything, fn is called again with the next one.
func (a *app) with(ctx context.Context, n need, fn func(*conn) error) error {
	for {
		c, err := a.connect(ctx, n)
		if err != nil {
			return err
		}
		before := a.wrote.Load()
		err = failureOf(c, fn(c))
		again := err != nil && c.lost(err) && a.wrote.Load() == before
		if closeErr := c.close(ctx); !again {
			return errors.Join(err, closeErr)
		}
	}
}
