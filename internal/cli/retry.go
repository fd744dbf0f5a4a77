package cli

import (
	"context"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/navvy-run/navvy/client"
)

func newRetry(a *app) *cobra.Command {
	f := &printFlags{}
	var failed, detach bool
	cmd := &cobra.Command{
		Use:   "retry [flags] ID[/INDEX] [INDEX…]",
		Short: "run tasks of a job again",
		Long: `retry makes tasks pending again: all of a job, those that did not succeed
(--failed), or single ones. Their earlier answers stay in the job's history. It
then goes on as resume does, unless somebody else waits for the job.`,
		Example: `  navvy retry --failed 7k2
  navvy retry 7k2/17
  navvy retry -d 7k2 3 5 8`,
		Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.completeJobs,
		RunE: func(cmd *cobra.Command, args []string) error {
			a.quiet = f.quiet
			if err := f.checkSteering(); err != nil {
				return err
			}
			return a.retry(cmd.Context(), f, args, failed, detach)
		},
	}
	fs := cmd.Flags()
	f.add(cmd)
	fs.BoolVar(&failed, "failed", false, "only tasks that failed or were stopped")
	fs.BoolVarP(&detach, "detach", "d", false, "run them in the background")
	return cmd
}

func (a *app) retry(ctx context.Context, f *printFlags, args []string, failed, detach bool) error {
	prefix, indexes, err := retryIndexes(args)
	if err != nil {
		return err
	}
	if failed && len(indexes) > 0 {
		return usagef("retry: --failed and single tasks exclude each other")
	}
	if err := f.openJoblog(detach); err != nil {
		return err
	}
	id, job, err := a.lookUp(ctx, prefix)
	if err != nil {
		return err
	}
	var n int64
	served := false // by whoever holds the data
	err = a.with(ctx, needLook, func(c *conn) error {
		served = c.remote != nil && !job.Status.State().Final() && !job.Status.Held
		n, _, err = c.Retry(ctx, id, client.RetryOptions{Indexes: indexes, Failed: failed})
		return err
	})
	if err != nil {
		return err
	}
	if n == 0 {
		a.say("no task of job %s needs to run again", id)
		return nil
	}
	a.say("%s of job %s to run again", count(n, "task"), id)
	switch {
	case detach:
		return a.resumeBehind(ctx, f, id, 0)
	case served:
		return nil // whoever runs the job goes on with these
	default:
		return a.attach(ctx, &attachment{id: id, print: f})
	}
}

// retryIndexes reads ID/INDEX, or ID and indexes behind it.
func retryIndexes(args []string) (prefix string, indexes []int64, err error) {
	prefix, first, single := strings.Cut(args[0], "/")
	rest := args[1:]
	if single {
		rest = append([]string{first}, rest...)
	}
	for _, text := range rest {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 0 {
			return "", nil, usagef("retry: %q is no index of a task: they count from 0", text)
		}
		indexes = append(indexes, n)
	}
	return prefix, indexes, nil
}
