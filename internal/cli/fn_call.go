package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/api"
	"github.com/navvy-run/navvy/internal/cli/format"
	"github.com/navvy-run/navvy/internal/input"
)

func newFnCall(a *app) *cobra.Command {
	f := &jobFlags{}
	kwargs, output, quiet := "", "", false
	cmd := &cobra.Command{
		Use: "call [flags] NAME[@VERSION] [JSON | KEY=JSON | KEY=- | -]…", Short: "call a function once: its value in JSON on standard output",
		Long: `call calls a function with arguments in JSON, and prints the value as JSON. What the
function prints itself comes on standard error, so that standard output has the
value alone. One argument may be -, which is what standard input holds. Flags stand
before the function's name.

With -o json or jsonl standard output has one object, whether the call succeeded or
not: id, job, state, value, or reason, message and exception (type, message and
traceback), duration in seconds, and the rest of what navvy results -o jsonl shows.

The exit code is 0 if the function returned, and 1 if it raised an exception, which
is told with its traceback; otherwise as with navvy run: 124 if it ran into --timeout,
126 if it cannot be called, 128 + n if signal n ended its process. Ctrl-C ends the
call and holds the job: navvy resume makes it again.`,
		Example: `  navvy fn call score 3
  navvy fn call score@2 '[1, 2]' low=0.5 'name="ann"' | jq .
  navvy fn call --timeout 10s --kwargs '{"low": 1}' score 3
  navvy fn call score - < big.json
  navvy fn call -o json score 3 | jq .duration`,
		Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.completeFunctions,
		RunE: func(cmd *cobra.Command, args []string) error {
			if output != "text" && output != "json" && output != "jsonl" {
				return usagef("-o %s: want text, json or jsonl", output)
			}
			a.quiet = quiet
			return a.callFunction(cmd.Context(), f, output, args[0], args[1:], kwargs)
		},
	}
	fs := cmd.Flags()
	fs.SetInterspersed(false) // what stands behind the name are arguments, -1 for one
	f.addJob(cmd)
	_ = cmd.RegisterFlagCompletionFunc("queue", a.completeQueues)
	fs.StringVar(&kwargs, "kwargs", "", "further arguments by their names, an object in `JSON`")
	fs.BoolVar(&quiet, "quiet", false, "say nothing but errors")
	fs.StringVarP(&output, "output", "o", "text", "how the answer is printed: text (the value), json or jsonl (an object with all that is known)")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"text", "json", "jsonl"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (a *app) callFunction(ctx context.Context, f *jobFlags, output, name string, args []string, kwargs string) error {
	function, err := functionOf(name)
	if err != nil {
		return err
	}
	stdin := func() ([]byte, error) {
		text, err := io.ReadAll(io.LimitReader(a.in, input.MaxInput+1))
		if err == nil && len(text) > input.MaxInput {
			err = usagef("fn call: more than %d MiB of input; give the function a file to read", input.MaxInput>>20)
		}
		return text, err
	}
	one, err := callFromArgs(args, kwargs, stdin)
	if err != nil {
		return err
	}
	f.jobs = "1"
	job, _, err := f.base(a)
	if err != nil {
		return err
	}
	job.Spec.Function = function
	at := &attachment{job: &job, notIsolated: f.notIsolated(), one: one, detached: f.detach, print: &printFlags{output: "text", quiet: true}, interrupt: true}
	var value bytes.Buffer
	live := newLiveOutput(a.err, a.err)
	live.value.w = &value
	live.another = func(navvy.AttemptID) { value.Reset() }
	return a.watched(ctx, at, live, func(r *navvy.Result) error {
		if output == "text" {
			return a.callVerdict(r, value.Bytes())
		}
		return a.callObject(output, &format.Answer{
			Result: r, Format: job.Format, Input: one, Value: value.Bytes(), Encoding: function.Encoding,
		})
	})
}

// callObject prints all that is known of a call as JSON. What failed is told by it, and
// by our exit code.
func (a *app) callObject(output string, answer *format.Answer) error {
	object, err := answer.Call()
	if err == nil {
		err = (&listFlags{output: output}).one(printing{a.out}, object)
	}
	if err != nil || answer.Result.Reason == "" {
		return err
	}
	return &exitError{callCode(answer.Result), errors.New(answer.Result.Message)}
}

// callVerdict prints the value, or what the function raised.
func (a *app) callVerdict(r *navvy.Result, value []byte) error {
	switch r.Reason { //nolint:exhaustive // the others have no value
	case "":
		if len(value) == 0 {
			return nil
		}
		_, err := printing{a.out}.Write(append(value, '\n'))
		return err
	case navvy.ReasonException:
		var raised struct{ Traceback string }
		if json.Unmarshal(value, &raised) == nil && raised.Traceback != "" {
			a.tell("%s\n", strings.TrimSuffix(strings.TrimSpace(raised.Traceback), "\n"+r.Message))
		}
	}
	return &exitError{callCode(r), errors.New(r.Message)}
}

// callCode is the exit code of a call that failed.
func callCode(r *navvy.Result) int {
	switch r.Reason {
	case navvy.ReasonException, navvy.ReasonOutput: // its process may have been ended or not
		return api.ExitFailed
	case navvy.ReasonExit: // of its process, which no function ends in peace
		return max(r.Exit.ShellCode(), api.ExitFailed)
	default:
		return runCode(r)
	}
}

// addSpread declares how calls take their inputs.
func (f *mapFlags) addSpread(fs *pflag.FlagSet) {
	fs.BoolVar(&f.spread, "spread", false, "each input of a function is an array of its arguments, not its only argument")
}

func newFnMap(a *app) *cobra.Command {
	f := &mapFlags{}
	cmd := &cobra.Command{
		Use: "map [flags] NAME[@VERSION] [::: JSON… | :::: FILE]", Short: "call a function once for each input, a value in JSON",
		Long: `map calls a function once for each line of standard input, or of the file given with
-a, or for each word behind :::, each of which is a value in JSON: its only argument,
or with --spread the array of its arguments. It prints the values in the order of the
inputs, one a line; what functions print themselves comes on standard error. A call
that fails prints no value: with -o jsonl there is an object for each. Blank lines are
left out.

A line that is no JSON is told by its number. Of a file, or behind :::, nothing is run
then, and the exit code is 2. From a pipe, where calls begin before all is read, it is
a call that fails, and all others are made.

It is navvy map --fn NAME, and behaves as navvy map does: all answers are kept until
they expire, Ctrl-C holds the job, navvy resume goes on.`,
		Example: `  navvy fn map score < inputs.jsonl > values.jsonl
  navvy fn map -j 4 --retries 2 score@2 -a inputs.jsonl -o jsonl
  navvy fn map score ::: 1 2 3
  navvy fn map --spread power ::: '[2, 10]' '[3, 3]'`,
		ValidArgsFunction: a.completeFunctions,
		RunE: func(cmd *cobra.Command, args []string) error {
			command, behind, err := input.Split(args)
			if err != nil {
				return &usageError{err}
			}
			if len(command) != 1 {
				return withHint(usagef("fn map: want the name of one function, not %d", len(command)), "see navvy fn map --help")
			}
			f.fn = command[0]
			return a.mapFunction(cmd.Context(), f, nil, behind)
		},
	}
	fs := cmd.Flags()
	f.addJob(cmd)
	_ = cmd.RegisterFlagCompletionFunc("queue", a.completeQueues)
	f.addMap(fs)
	f.printFlags.add(cmd)
	f.addSpread(fs)
	fs.StringArrayVarP(&f.files, "arg-file", "a", nil, "read inputs from this file")
	return cmd
}

// forCommands names a flag that was given and that only commands have.
func (f *mapFlags) forCommands() string {
	for _, flag := range []struct {
		name  string
		given bool
	}{
		{"--shell", f.shell}, {"--stdin", f.stdin}, {"--csv", f.csv != ""}, {"--tsv", f.tsv != ""}, {"--colsep", f.colsep != ""},
		{"--dry-run", f.dryRun}, {"--workdir", f.workdir != ""}, {"--env", f.env != nil}, {"--env-from", f.envFrom != nil}, {"--noop", f.noop},
	} {
		if flag.given {
			return flag.name
		}
	}
	return ""
}

// mapFunction calls f.fn once for each input.
func (a *app) mapFunction(ctx context.Context, f *mapFlags, command []string, behind []input.Source) error {
	function, err := functionOf(f.fn)
	if err != nil {
		return err
	}
	switch flag := f.forCommands(); {
	case len(command) > 0:
		return withHint(usagef("map: --fn takes the place of a command, and there is %q", command[0]), "inputs stand behind :::, or in a file that -a names")
	case flag != "":
		return usagef("map: %s is for commands, and does not go with --fn", flag)
	}
	sources, _, err := f.sources(behind)
	if err != nil {
		return err
	}
	if err := f.check(); err != nil {
		return err
	}
	a.quiet = f.quiet
	open := func() (*input.Reader, error) {
		o := &input.Options{Null: f.null, SkipBlank: true, Stdin: a.in, Encode: func(dst, value []byte) ([]byte, error) {
			return appendCall(dst, value, f.spread)
		}}
		if !f.shuffle {
			o.Salvage = appendWrong
		}
		return input.Open(sources, o)
	}
	in, err := open()
	if err != nil {
		return &usageError{err}
	}
	defer in.Close()
	job, _, err := f.base(a)
	if err != nil {
		return err
	}
	job.Spec.Function, job.Format = function, in.Format()
	if err := f.openJoblog(f.detach); err != nil {
		return err
	}
	return a.mapOver(ctx, f, &job, in, open)
}
