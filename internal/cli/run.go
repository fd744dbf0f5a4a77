package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/api"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/internal/input"
)

func newRun(a *app) *cobra.Command {
	f := &jobFlags{}
	var stdin, shell, quiet bool
	cmd := &cobra.Command{
		Use:   "run [flags] -- COMMAND [ARGS]",
		Short: "run one command: its output live, its exit code ours",
		Long: `run runs one command as a job of one task. What it writes appears at once,
standard output and standard error apart, and stays to be read with navvy logs.
It lasts until its process group is empty: also what it leaves in the background.

The exit code is the command's own; 124 if it ran into --timeout, 126 if it cannot
be run, 127 if it is not found, 128 + n if signal n ended it. Ctrl-C ends the
command and holds the job: navvy resume runs it again.

Limits go for each task with all that it starts. Where this machine cannot enforce
one, the job is refused: navvy status says what it can. With --isolate a task runs
in an empty directory of its own, which goes with it, unless --workdir names one;
a program named by a relative path is still the one that is here, while paths in
arguments and shell lines are those that the task sees.`,
		Example: `  navvy run --timeout 1h -- make world
  navvy run --retries 5 -- curl -fsS https://example.com/data
  navvy run --stdin -- psql mydb < query.sql
  navvy run --cpus 1.5 --memory 512M --isolate --network none -- ./untrusted
  id=$(navvy run -d -- ./nightly.sh); navvy logs -f $id`,
		RunE: func(cmd *cobra.Command, args []string) error {
			a.quiet = quiet
			return a.runRun(cmd.Context(), f, &navvy.Command{Args: args, Shell: shell, Stdin: stdin, Literal: true})
		},
	}
	fs := cmd.Flags()
	fs.SetInterspersed(false) // what stands behind the command's name is the command's
	f.add(cmd)
	_ = cmd.RegisterFlagCompletionFunc("queue", a.completeQueues)
	fs.BoolVarP(&shell, "shell", "S", false, "the command is one shell line")
	fs.BoolVar(&stdin, "stdin", false, "keep our standard input and give it to the command")
	fs.BoolVar(&quiet, "quiet", false, "say nothing but errors")
	return cmd
}

func (a *app) runRun(ctx context.Context, f *jobFlags, command *navvy.Command) error {
	if len(command.Args) == 0 && !f.noop && f.container.image == "" {
		return withHint(usagef("run: there is no command"), "see navvy run --help")
	}
	f.jobs = "1"
	job, err := f.job(a, command)
	if err != nil {
		return err
	}
	at := &attachment{job: &job, notIsolated: f.notIsolated(), one: []byte{}, detached: f.detach, print: &printFlags{output: "text", quiet: true}, interrupt: true}
	if command.Stdin {
		if at.one, err = io.ReadAll(io.LimitReader(a.in, input.MaxInput+1)); err != nil {
			return fmt.Errorf("read standard input: %w", err)
		}
		if len(at.one) > input.MaxInput {
			return usagef("run --stdin: more than %d MiB of input; give the command a file to read", input.MaxInput>>20)
		}
	}
	return a.watched(ctx, at, a.newLiveOutput(), func(r *navvy.Result) error { return a.runVerdict(r, command) })
}

// watched stays with a job of one task: it passes on what that writes, and judges its result.
func (a *app) watched(ctx context.Context, at *attachment, live *liveOutput, verdict func(*navvy.Result) error) error {
	var answer *client.Answer
	another := live.another
	at.watch = func(ctx context.Context, c *conn, id navvy.JobID) (err error) {
		live.another = func(now navvy.AttemptID) {
			a.say("attempt %d %s, this is attempt %d", live.attempt.Number, becameOf(ctx, c, id, live.attempt), now.Number)
			if another != nil {
				another(now)
			}
		}
		answer, err = watchRun(ctx, c.Client, id, live)
		return err
	}
	err := a.attach(ctx, at)
	if answer == nil || at.detached {
		return err
	}
	return verdict(&answer.Result)
}

// becameOf says in words how an attempt at the only task of a job ended, which another follows.
func becameOf(ctx context.Context, c *conn, id navvy.JobID, attempt navvy.AttemptID) string {
	t, err := c.Task(ctx, navvy.TaskID{Job: id})
	if err != nil {
		return "is over" // the next call says what is wrong
	}
	for i := range t.Attempts {
		if before := &t.Attempts[i]; before.ID == attempt {
			return ended(before)
		}
	}
	return "is over"
}

// ended says in words how an attempt ended that gave no answer. What its worker, or what runs
// it, has brought about is not called its failure.
func ended(a *navvy.Attempt) string {
	became := "is over"
	switch a.Outcome {
	case navvy.OutcomeFailed:
		return "failed"
	case navvy.OutcomeLost:
		became = "was lost"
	case navvy.OutcomeInterrupted:
		became = "was given back"
	case navvy.OutcomeSucceeded, navvy.OutcomeStale:
	}
	if a.Message == "" {
		return became
	}
	return fmt.Sprintf("%s (%s)", became, a.Message)
}

// watchRun passes the output on as it comes, and gives the answer; nil if there is none yet.
func watchRun(ctx context.Context, c *client.Client, id navvy.JobID, live *liveOutput) (*client.Answer, error) {
	if err := c.Output(ctx, navvy.TaskID{Job: id}, client.OutputOptions{Follow: true}, live.sink()); err != nil {
		return nil, err
	}
	var last *client.Answer
	for answer, err := range c.Results(ctx, id, client.ResultsOptions{MarkRead: true}) {
		if err != nil {
			return nil, err
		}
		last = &answer
	}
	return last, nil
}

// runVerdict turns the task's result into our exit code, and says what the
// command could not say itself.
func (a *app) runVerdict(r *navvy.Result, c *navvy.Command) error {
	if r.Reason == "" {
		return nil
	}
	if r.Reason == navvy.ReasonExit {
		return &exitError{code: runCode(r)}
	}
	err := errors.New(r.Message)
	if isLine(c, r.Reason) {
		err = withHint(err, lineHint)
	}
	return &exitError{code: runCode(r), err: err}
}

// runCode is the exit code of a task that has failed.
func runCode(r *navvy.Result) int {
	code := r.Exit.ShellCode()
	switch r.Reason {
	case navvy.ReasonTimeout:
		return api.ExitTimeout
	case navvy.ReasonNotFound:
		return api.ExitNotFound
	case navvy.ReasonSignal, navvy.ReasonOOM, navvy.ReasonExit:
		return code
	case navvy.ReasonOutput:
		return max(code, 1) // it may have ended well when it was asked to
	default:
		return api.ExitCannotRun
	}
}

// lineHint is for who gives a shell line as the name of a program.
const lineHint = "did you mean -S, for a shell line?"

// isLine tells whether a program that was not found looks like a shell line.
func isLine(c *navvy.Command, reason navvy.Reason) bool {
	return reason == navvy.ReasonNotFound && c != nil && !c.Shell && len(c.Args) > 0 && strings.Contains(c.Args[0], " ")
}
