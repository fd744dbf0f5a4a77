package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/internal/input"
	"github.com/navvy-run/navvy/placeholder"
)

// mapFlags are the flags of map.
type mapFlags struct {
	jobFlags
	printFlags
	shell, stdin, null bool
	files              []string
	csv, tsv           string
	colsep             string
	dryRun             bool
	fn                 string // the function to call in place of a command
	service            string // the service that answers in place of a command
	ownQueue           bool   // --queue was given, and names one of navvy's own
	spread             bool
	broker             brokerFlags
	moved              transferFlags
	hosts              string   // the file of those that this run alone gets workers on
	given              []string // names of the flags that were given
}

const mapHelp = `map runs a command once for each input: each line of standard input, of the
files given with -a, each word behind :::, or each record of a CSV file.

Placeholders in the command stand for the input:
  {}    the input              {#}   the task's number, from 1
  {.}   without its extension  {%}   the slot that the task runs in, from 1
  {/}   its base name          {1}   its first field, {2} the second, {-1} the last
  {//}  its directory          {1/}  the base name of the first field, and so on
  {/.}  base name without extension   {name}  the field of a CSV column
Without any of them the input is the last argument. Inputs are passed as
arguments: no shell sees them. With -S the command is a shell line, and each
placeholder's value is quoted in it.

A task lasts until its process group is empty: what it puts into the background
(sleep 60 &) keeps it running; what setsid detaches leaves it, but not with a limit
or --isolate.

Limits go for each task with all that it starts. Where this machine cannot enforce
one, the job is refused: navvy status says what it can. With --isolate a task runs
in an empty directory of its own, which goes with it, unless --workdir names one;
a program named by a relative path is still the one that is here, while paths in
arguments and shell lines are those that the task sees.

The answers are printed in the order of the inputs. All are kept until they
expire: see navvy results, navvy ls. The first Ctrl-C lets running tasks finish
and holds the job, the second stops them; navvy resume goes on where it stopped.

With --service a service of yours answers each input: a program that answers line by
line, a gRPC server, and so on; docs/services.md has the forms. It is started once on
each machine and asked many times at once; an answer that does not end with a line
feed gets one. With --queue NAME and no command it is the service of that queue.

With the URL of a broker's queue, --queue sends each input there as a request, and
prints the answers of this run, which workers of that queue (navvy worker start
--requests) send to the queue of --responses. Nothing of it is kept by navvy.

With --hosts the tasks run on other machines, which are reached by ssh and need no
navvy: a server of this run's own is started here, a worker on each host, and all of
it is removed when the run is over, also after Ctrl-C. So nothing is kept, and there
is nothing to resume: what was not printed has to be run anew.`

func newMap(a *app) *cobra.Command {
	f := &mapFlags{}
	cmd := &cobra.Command{
		Use:   "map [flags] -- COMMAND [ARGS] [::: WORDS | :::: FILES]",
		Short: "run a command once for each input",
		Long:  mapHelp,
		Example: `  navvy map -j 8 -- ./score.sh {} < inputs.txt > answers.txt
  navvy map -S 'gunzip -c {} | wc -l' ::: *.gz
  navvy map --csv people.csv -- greet {name} {city}
  navvy map --colsep , -- echo {2} {1} < pairs.txt
  navvy map --stdin -- wc -w < lines.txt
  navvy map -d --name nightly --retries 3 -a urls.txt -- curl -fsS -o {#}.html {}
  navvy map --memory 512M --pids-limit 64 --timeout 5m -- ./convert {} ::: *.raw
  navvy map -o jsonl -- ./score.sh < inputs.txt | jq .stdout
  navvy map --fn score --retries 2 < inputs.jsonl > values.jsonl
  navvy map --service 'lines:./score' < inputs.txt > answers.txt
  navvy map --queue scores < inputs.txt > answers.txt
  navvy map --hosts hosts.txt -- convert {} {.}.png ::: *.svg
  navvy map --queue amqp://mq/requests --responses amqp://mq/responses < inputs.txt`,
	}
	fs := cmd.Flags()
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		f.ownQueue = fs.Changed("queue") && !f.broker.wanted(f.queue)
		fs.Visit(func(flag *pflag.Flag) { f.given = append(f.given, flag.Name) })
		return a.runMap(cmd.Context(), f, args)
	}
	fs.SetInterspersed(false) // what stands behind the command's name is the command's
	f.jobFlags.add(cmd)
	f.container.addPack(cmd)
	_ = cmd.RegisterFlagCompletionFunc("queue", a.completeQueues)
	f.addMap(fs)
	f.printFlags.add(cmd)
	fs.BoolVarP(&f.shell, "shell", "S", false, "the command is one shell line; placeholders are quoted in it")
	fs.BoolVar(&f.stdin, "stdin", false, "write each input to the task's standard input")
	fs.BoolVarP(&f.null, "null", "0", false, "inputs end with a zero byte, not with a line feed")
	fs.StringArrayVarP(&f.files, "arg-file", "a", nil, "read inputs from this file; several are combined, each with each")
	fs.Func("csv", "inputs are the records of this CSV `FILE` (- for standard input); its first line names the columns", once(&f.csv))
	fs.Func("tsv", "the same with tabs between the fields of the `FILE`", once(&f.tsv))
	fs.Func("colsep", "split each input into fields at this regular `EXPRESSION`", once(&f.colsep))
	fs.BoolVar(&f.dryRun, "dry-run", false, "print the commands and run none")
	fs.StringVar(&f.fn, "fn", "", "call this registered function, NAME or NAME@VERSION, in place of a command; see navvy fn map")
	fs.StringVar(&f.service, "service", "", "have a service answer in place of a command: `FORM` is "+strings.Join(serviceForms(), ", "))
	f.addPackage(fs)
	completeForms(cmd)
	f.addSpread(fs)
	f.broker.add(fs)
	f.moved.add(fs)
	fs.StringVar(&f.hosts, "hosts", "", "run on the hosts of this `FILE`, [USER@]HOST[:PORT] a line, which are reached by ssh: each gets a worker for this run, which is removed at its end")
	_ = cmd.RegisterFlagCompletionFunc("fn", a.completeFunctions)
	return cmd
}

// once reads a flag that is given once at most, and never empty.
func once(to *string) func(string) error {
	return func(text string) error {
		switch {
		case text == "":
			return errors.New("want something, not nothing")
		case *to != "":
			return fmt.Errorf("want one only, there is %s already", *to)
		}
		*to = text
		return nil
	}
}

// fielded names the flag that gives inputs fields; empty if they have none.
func (f *mapFlags) fielded(sources int) string {
	switch {
	case f.csv != "":
		return "--csv"
	case f.tsv != "":
		return "--tsv"
	case f.colsep != "":
		return "--colsep"
	case sources > 1 && len(f.files) == sources:
		return "more than one -a"
	case sources > 1:
		return "more than one source (:::, ::::, -a)"
	}
	return ""
}

// sources says where the inputs are.
func (f *mapFlags) sources(behind []input.Source) ([]input.Source, rune, error) {
	if f.csv != "" && f.tsv != "" || (f.csv != "" || f.tsv != "") && len(f.files)+len(behind) > 0 {
		return nil, 0, usagef("map: --csv and --tsv go with no other inputs")
	}
	switch {
	case f.csv != "":
		return []input.Source{{File: f.csv}}, ',', nil
	case f.tsv != "":
		return []input.Source{{File: f.tsv}}, '\t', nil
	}
	var sources []input.Source
	for _, file := range f.files {
		sources = append(sources, input.Source{File: file})
	}
	return append(sources, behind...), 0, nil
}

func (a *app) runMap(ctx context.Context, f *mapFlags, args []string) error {
	command, behind, err := input.Split(args)
	if err != nil {
		return &usageError{err}
	}
	if err := f.belong(command); err != nil {
		return err
	}
	switch {
	case f.onHosts(command):
		return a.mapOnHosts(ctx, f, args)
	case f.broker.wanted(f.queue):
		return a.mapQueue(ctx, f, command, behind)
	case f.broker.given() != "":
		return withHint(usagef("map: %s goes with the URL of a broker's queue, and there is none", f.broker.given()), "--queue amqp://HOST/QUEUE, or --queue-file; docs/brokers.md has the forms")
	case f.answered(command):
		return a.mapService(ctx, f, command, behind)
	case f.fn != "":
		return a.mapFunction(ctx, f, command, behind)
	case f.spread:
		return usagef("map: --spread goes with --fn")
	case len(command) == 0 && !f.noop && f.container.image == "":
		return withHint(usagef("map: there is no command"), "see navvy map --help")
	}
	return a.mapCommand(ctx, f, command, behind)
}

// belong refuses flags that go with another kind of work.
func (f *mapFlags) belong(command []string) error {
	files := f.staging.any() || f.moved.any() || f.moved.cleanup
	switch {
	case files && (f.fn != "" || f.broker.wanted(f.queue) || f.answered(command)):
		return usagef("map: files go to commands alone, and not to functions and services")
	case f.pkg != "" && f.service == "":
		return usagef("map: --package goes with --service, and there is none")
	}
	return nil
}

// mapCommand runs a command once for each input.
func (a *app) mapCommand(ctx context.Context, f *mapFlags, command []string, behind []input.Source) error {
	sources, comma, err := f.sources(behind)
	if err != nil {
		return err
	}
	if err := f.check(); err != nil {
		return err
	}
	if with := f.fielded(len(sources)); f.stdin && with != "" {
		return usagef("map: --stdin does not go with %s: a task's standard input is one text, not fields", with)
	}
	a.quiet = f.quiet
	if err := f.moved.settle(); err != nil {
		return err
	}
	f.staging.moved = &f.moved
	stdin := func() io.Reader { return a.in }
	if len(f.moved.files) > 0 && ofStdin(sources) { // the files are copied before the job begins
		again, done, err := a.spooled()
		if err != nil {
			return err
		}
		defer func() { _ = done() }()
		stdin = again
	}
	open := func() (*input.Reader, error) {
		return input.Open(sources, &input.Options{Null: f.null, ColumnSeparator: f.colsep, Comma: comma, Stdin: stdin()})
	}
	in, err := open()
	if err != nil {
		return &usageError{err}
	}
	defer in.Close()
	job, template, err := a.mapJob(f, command, in)
	if err != nil {
		return err
	}
	if err := f.openJoblog(f.detach); err != nil {
		return err
	}
	if f.dryRun {
		return a.dryRun(ctx, in, template)
	}
	if f.moved.any() {
		return a.mapMoved(ctx, f, &job, in, open)
	}
	return a.mapOver(ctx, f, &job, in, open)
}

// mapMoved is mapOver for tasks to which files are copied from here, and back.
func (a *app) mapMoved(ctx context.Context, f *mapFlags, job *navvy.Job, in *input.Reader, open func() (*input.Reader, error)) error {
	files, err := open()
	if err != nil {
		return &usageError{err}
	}
	keyed := job.IdempotencyKey != "" // and not by attach, for a job that is accepted once in any case
	err = errors.Join(a.upload(ctx, f, job, files), files.Close())
	at := f.attachment(job, in, open)
	defer func() { _ = at.input.Close() }() // as in mapOver
	if err == nil {
		err = a.attach(ctx, at)
	}
	if at.id != "" && f.detach && job.Spec.Stage.Returns() {
		a.say("what its tasks leave is copied here by: navvy resume %s", at.id)
	}
	switch {
	case at.id != "" && keyed:
		return errors.Join(err, a.removeUnused(ctx, at.id, &job.Spec.Stage))
	case at.id != "":
		return err
	case at.inDoubt(err):
		a.say("the job may have been accepted, so what was copied for it stays, in share://default/%s; see navvy ls", job.Spec.Stage.TransferFolder())
		return err
	}
	return errors.Join(err, a.removeUploaded(ctx, &job.Spec.Stage))
}

// inDoubt tells whether a job whose id did not come may have been accepted all the same. An
// error tells of the last time that it was submitted, and not of one before.
func (at *attachment) inDoubt(err error) bool {
	return at.handed.Load() && (at.lost || !refused(err))
}

// refused tells whether an error says for certain that a job was not accepted.
func refused(err error) bool {
	_, usage := errors.AsType[*usageError](err)
	return usage || errors.Is(err, navvy.ErrInvalid) || errors.Is(err, navvy.ErrConflict) || errors.Is(err, navvy.ErrDenied) ||
		errors.Is(err, navvy.ErrUnsupported) || errors.Is(err, navvy.ErrExhausted) || errors.Is(err, navvy.ErrNotFound)
}

// attachment is that of a new job over its inputs, which open opens again.
func (f *mapFlags) attachment(job *navvy.Job, in *input.Reader, open func() (*input.Reader, error)) *attachment {
	at := &attachment{job: job, notIsolated: f.notIsolated(), input: in, print: &f.printFlags, detached: f.detach}
	if !in.Streaming() {
		at.reopen = open
	}
	return at
}

// mapOver runs a job over its inputs.
func (a *app) mapOver(ctx context.Context, f *mapFlags, job *navvy.Job, in *input.Reader, open func() (*input.Reader, error)) error {
	at := f.attachment(job, in, open)
	defer func() { _ = at.input.Close() }() // it was only read, and may be another one by then
	return a.attach(ctx, at)
}

// mapJob makes the job, and checks that the command fits the inputs.
func (a *app) mapJob(f *mapFlags, command []string, in *input.Reader) (navvy.Job, *placeholder.Template, error) {
	c := &navvy.Command{Args: command, Shell: f.shell, Stdin: f.stdin, Columns: in.Columns()}
	job, err := f.job(a, c)
	if err != nil {
		return job, nil, err
	}
	job.Format = in.Format()
	if err := checkBuckets(&job.Spec, in.Fields()); err != nil {
		return job, nil, err
	}
	if program := job.Spec.Program(); program == nil || len(program.Args) == 0 {
		return job, nil, nil
	}
	template, err := placeholder.Parse(c.Args, placeholderOptions(&job.Spec, in.Fields()))
	if err != nil {
		return job, nil, &usageError{err}
	}
	if err := checkStage(&job.Spec.Stage, c, in.Fields()); err != nil {
		return job, nil, err
	}
	if template.InScript() {
		a.say("warning: a placeholder in the script of a shell is executed by that shell; use -S 'LINE', which quotes it")
	}
	return job, template, nil
}

// dryRun prints the command of each task.
func (a *app) dryRun(ctx context.Context, in *input.Reader, template *placeholder.Template) error {
	if template == nil {
		return usagef("map: --dry-run has no command to print")
	}
	for n := int64(1); ; {
		inputs, err := in.Batch(ctx)
		for _, raw := range inputs {
			fields, err := in.Format().Fields(raw)
			if err != nil {
				return err
			}
			if _, err := fmt.Fprintln(a.out, template.Preview(placeholder.Values{Fields: fields, Seq: n, Slot: 1})); err != nil {
				return err
			}
			n++
		}
		switch {
		case errors.Is(err, io.EOF) && n == 1:
			return &usageError{errNoInput}
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return &usageError{err}
		}
	}
}
