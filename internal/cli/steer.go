package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/internal/cli/format"
	"github.com/navvy-run/navvy/quantity"
)

func newStop(a *app) *cobra.Command {
	f := &listFlags{}
	var why string
	cmd := &cobra.Command{
		Use: "stop [flags] ID…", Aliases: []string{"cancel"}, Short: "end jobs: what has no answer is stopped",
		Long: `stop ends jobs. Running tasks get SIGTERM and, after their grace, SIGKILL; what has
no answer yet is stopped. Answers stay. navvy retry --failed runs the rest again.`,
		Example: `  navvy stop 7k2
  navvy stop --why "wrong parameters" 7k2 x9p`,
		Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.completeJobs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return err
			}
			return a.with(cmd.Context(), needSteer, func(c *conn) error {
				return a.each(cmd.Context(), c, f, args, func(job *client.Job) error {
					if _, err := c.Stop(cmd.Context(), job.ID, why); err != nil {
						return err
					}
					_, err := c.Wait(cmd.Context(), job.ID)
					return err
				})
			})
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&why, "why", "", "the reason, for those who look later (default: who stopped it)")
	return cmd
}

// each does something to each job, and prints where it stands afterwards.
func (a *app) each(ctx context.Context, c *conn, f *listFlags, prefixes []string, do func(*client.Job) error) (err error) {
	out := f.objects(a.out)
	defer func() { err = errors.Join(err, out.close()) }()
	for _, prefix := range prefixes {
		job, err := c.job(ctx, prefix)
		if err != nil {
			return err
		}
		if err := do(&job); err != nil {
			return err
		}
		if job, err = c.Get(ctx, job.ID); err != nil {
			return err
		}
		if f.output == "table" {
			a.say("job %s %s: %s done", job.ID, stateWord(&job.Status), done(&job.Status))
			continue
		}
		if err := out.add(newJobObject(&job)); err != nil {
			return err
		}
	}
	return nil
}

func newRm(a *app) *cobra.Command {
	f := &listFlags{}
	force := false
	cmd := &cobra.Command{
		Use: "rm [flags] ID…", Short: "remove jobs with their answers",
		Example: `  navvy rm 7k2
  navvy rm --force 7k2`,
		Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.completeJobs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return err
			}
			return a.with(cmd.Context(), needSteer, func(c *conn) error { return a.remove(cmd.Context(), c, f, args, force) })
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVarP(&force, "force", "f", false, "stop jobs that have not ended; remove also damaged ones")
	return cmd
}

func (a *app) remove(ctx context.Context, c *conn, f *listFlags, prefixes []string, force bool) (err error) {
	out := f.objects(a.out)
	defer func() { err = errors.Join(err, out.close()) }()
	for _, prefix := range prefixes {
		id, err := removable(ctx, c, prefix, force)
		if err != nil {
			return err
		}
		if err := c.Remove(ctx, id, force); err != nil {
			return err
		}
		if f.output == "table" {
			a.say("removed job %s", id)
		} else if err := out.add(map[string]any{"id": id, "removed": true}); err != nil {
			return err
		}
	}
	return nil
}

// removable finds a job that has ended, or with force any one, be it damaged.
func removable(ctx context.Context, c *conn, prefix string, force bool) (navvy.JobID, error) {
	if force {
		return c.find(ctx, prefix)
	}
	job, err := c.job(ctx, prefix)
	if err == nil && !job.Status.State().Final() {
		err = withHint(fmt.Errorf("job %s has not ended: %w", job.ID, navvy.ErrConflict), "stop it first, or remove it with --force")
	}
	return job.ID, err
}

func newWhy(a *app) *cobra.Command {
	f := &listFlags{}
	cmd := &cobra.Command{
		Use: "why [flags] ID[/INDEX]", Short: "why a task waits or failed, and on which attempt",
		Long: `why tells what a task waits for, or how each of its attempts ended. Without an index
it tells that of a job's failed tasks, or of its first task that has no answer.`,
		Example: `  navvy why 7k2
  navvy why 7k2/17 -o json`,
		Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeJobs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return err
			}
			prefix, index, err := taskArg(args[0])
			if err != nil {
				return err
			}
			return a.with(cmd.Context(), needLook, func(c *conn) error { return a.why(cmd.Context(), c, f, prefix, index) })
		},
	}
	f.add(cmd)
	return cmd
}

// whyTasks is how many failed tasks of a job why tells of.
const whyTasks = 20

func (a *app) why(ctx context.Context, c *conn, f *listFlags, prefix string, index int64) (err error) {
	job, err := c.job(ctx, prefix)
	if err != nil {
		return err
	}
	indexes := []int64{index}
	if index < 0 {
		if indexes, err = interesting(ctx, c, &job); err != nil {
			return err
		}
	}
	calls := ""
	if f.output == "table" {
		calls = functionNeeds(ctx, c, &job.Job)
	}
	out := f.objects(a.out)
	defer func() { err = errors.Join(err, out.close()) }()
	for _, i := range indexes {
		t, err := c.Task(ctx, navvy.TaskID{Job: job.ID, Index: i})
		if err != nil {
			return err
		}
		if f.output == "table" {
			err = a.explain(&job, &t, calls)
		} else {
			err = out.add(newTaskObject(&job, &t))
		}
		if err != nil {
			return err
		}
	}
	if f.output == "table" {
		a.explainJob(&job, len(indexes))
	}
	return nil
}

// interesting gives the failed tasks of a job and the first that has no answer.
func interesting(ctx context.Context, c *conn, job *client.Job) ([]int64, error) {
	var indexes []int64
	for answer, err := range c.Results(ctx, job.ID, client.ResultsOptions{Failed: true, Limit: whyTasks}) {
		if err != nil {
			return nil, err
		}
		indexes = append(indexes, answer.Task.Index)
	}
	pending, err := firstPending(ctx, c, job)
	if err == nil && pending >= 0 {
		indexes = append(indexes, pending)
	}
	return indexes, err
}

// firstPending is the first task without an answer; -1 if there is none.
func firstPending(ctx context.Context, c *conn, job *client.Job) (int64, error) {
	counts := job.Status.Counts
	if counts.Answered() == counts.Total() {
		return -1, nil
	}
	next := int64(0)
	for answer, err := range c.Results(ctx, job.ID, client.ResultsOptions{}) {
		if err != nil {
			return 0, err
		}
		if answer.Task.Index != next {
			break
		}
		next++
	}
	return next, nil
}

// explain prints one task; of a call, with what its function needs.
func (a *app) explain(job *client.Job, t *client.Task, calls string) error {
	if _, err := fmt.Fprintf(a.out, "task %s: %s\n", t.ID, t.State); err != nil {
		return err
	}
	rows := [][]string{{"input", short(inputForPeople(&job.Job, t.Input))}}
	if calls != "" {
		rows = append(rows, []string{"function", calls})
	}
	if t.Waiting != "" {
		rows = append(rows, []string{"waits", t.Waiting})
	}
	for _, at := range attemptsOf(t) {
		rows = append(rows, []string{"attempt " + at.ID.String(), attemptText(&at, t)})
	}
	return format.Table(a.out, nil, rows)
}

// attemptText is how an attempt ended, in words.
func attemptText(at *navvy.Attempt, t *client.Task) string {
	if t.Running != nil && t.Running.ID == at.ID {
		return fmt.Sprintf("runs on %s in slot %d since %s", at.Worker, at.Slot, moment(at.Started))
	}
	parts := []string{at.Outcome.String()}
	if at.Message != "" {
		parts = append(parts, at.Message)
	}
	parts = append(parts, "after "+format.Duration(at.Finished.Sub(at.Started)))
	if at.Worker != "" {
		parts = append(parts, "on "+at.Worker)
	}
	return strings.Join(append(parts, usageWords(&at.Usage)...), ", ")
}

// usageWords is what an attempt used, as far as it is known and not nothing.
func usageWords(u *navvy.Usage) []string {
	var words []string
	add := func(n int64, format string, args ...any) {
		if n > 0 {
			words = append(words, fmt.Sprintf(format, args...))
		}
	}
	add(u.MaxMemory, "peak memory %s", quantity.Size(u.MaxMemory))
	add(int64(u.CPU()), "cpu %s (user %s, system %s)", format.Duration(u.CPU()), format.Duration(u.User), format.Duration(u.System))
	add(int64(u.Throttled), "throttled for %s", format.Duration(u.Throttled))
	add(u.Read, "read %s", quantity.Size(u.Read))
	add(u.Written, "wrote %s to disk", quantity.Size(u.Written))
	add(u.MaxPIDs, "at most %s at once", count(u.MaxPIDs, "thread"))
	add(u.OOMKills, "%s for want of memory", count(u.OOMKills, "kill"))
	return words
}

// explainJob says about the job what its tasks do not.
func (a *app) explainJob(job *client.Job, shown int) {
	s := &job.Status
	switch {
	case s.Why != "":
		a.say("job %s %s: %s", job.ID, stateWord(s), s.Why)
	case shown == 0:
		a.say("job %s %s: all tasks did their work", job.ID, stateWord(s))
	case s.Counts.Failed > whyTasks:
		a.say("%d tasks failed; see all with navvy results --failed -o jsonl %s", s.Counts.Failed, job.ID)
	}
}
