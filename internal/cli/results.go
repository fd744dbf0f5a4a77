package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
)

func newResults(a *app) *cobra.Command {
	f := &printFlags{}
	var failed, follow bool
	cmd := &cobra.Command{
		Use: "results [flags] ID[/INDEX]", Short: "print the answers of a job, or of one task",
		Long: `results prints answers, each once, in the order of the inputs: what the tasks
wrote, or with -o everything about them. It can be called at any time.

In jsonl and csv, duration and what ends in _time are seconds, max_memory and what
ends in _bytes are bytes; what is not known is null, in csv empty. Where tasks run
in control groups (see navvy status), all that a task started is counted. Elsewhere
it is its main process and those that it waited for; then the kernel counts a peak
from that of navvy, which started it, so that max_memory is unknown for tasks that
stayed below some tens of megabytes, and max_pids and oom_kills for all.`,
		Example: `  navvy results 7k2 > answers.txt
  navvy results --failed -o jsonl 7k2
  navvy results --follow 7k2
  navvy results 7k2/17`,
		Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeJobs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return err
			}
			prefix, index, err := taskArg(args[0])
			if err != nil {
				return err
			}
			o := client.ResultsOptions{
				Failed: failed, Follow: follow, AsCompleted: f.asCompleted || !f.keepOrder, Inputs: f.inputs(),
				MarkRead: !failed && index < 0,
			}
			if index >= 0 {
				o = client.ResultsOptions{From: index, Limit: 1, Inputs: f.inputs()}
			}
			return a.results(cmd.Context(), f, prefix, o)
		},
	}
	fs := cmd.Flags()
	f.addOutput(cmd)
	fs.BoolVarP(&f.keepOrder, "keep-order", "k", true, "print answers in the order of the inputs")
	fs.BoolVar(&f.asCompleted, "as-completed", false, "print answers as they come")
	fs.BoolVar(&f.tag, "tag", false, "begin each line with the task's input and a tab")
	fs.BoolVar(&failed, "failed", false, "only tasks that failed")
	fs.BoolVarP(&follow, "follow", "f", false, "wait for answers that are still to come")
	return cmd
}

// results prints answers over as many holders as it takes.
func (a *app) results(ctx context.Context, f *printFlags, prefix string, o client.ResultsOptions) error {
	single, mark := o.Limit == 1, o.MarkRead
	o.MarkRead = false // only when all is printed
	var p *printer
	return a.overHolders(ctx, prefix, func(c *conn, job *client.Job) (err error) {
		if single {
			if err := hasResult(ctx, c, job.ID, o.From); err != nil {
				return err
			}
		}
		if p == nil {
			if p, err = newPrinter(a, f, &job.Job); err != nil {
				return err
			}
		}
		p.client = c.Client
		o.Follow = o.Follow && c.holder == nil // without a holder nothing comes
		return p.results(ctx, &o, mark && (o.Follow || job.Status.State().Final()))
	})
}

// hasResult tells why there is no answer to print, if so.
func hasResult(ctx context.Context, c *conn, id navvy.JobID, index int64) error {
	task := navvy.TaskID{Job: id, Index: index}
	t, err := c.Task(ctx, task)
	if err != nil {
		return err
	}
	if t.Result == nil {
		return withHint(fmt.Errorf("task %s has no answer yet: it is %s: %w", task, t.State, navvy.ErrConflict), "see navvy why %s", task)
	}
	return nil
}

// results prints what comes, and moves o.From on as it does. With mark the job then
// counts as read, if it has ended.
func (p *printer) results(ctx context.Context, o *client.ResultsOptions, mark bool) error {
	for batch, err := range p.client.ResultBatches(ctx, p.job.ID, *o) {
		if err == nil {
			err = p.batch(ctx, batch)
		}
		if err != nil {
			return err
		}
		if !o.AsCompleted {
			o.From = batch[len(batch)-1].Task.Index + 1
		}
	}
	if err := p.close(); err != nil || !mark {
		return err
	}
	return p.client.MarkRead(ctx, p.job.ID)
}
