package cli

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/spf13/cobra"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/internal/cli/format"
	"github.com/navvy-run/navvy/output"
	"github.com/navvy-run/navvy/placeholder"
)

// printFlags say how answers are printed, for map, resume and results.
type printFlags struct {
	output      string
	asCompleted bool
	keepOrder   bool
	tag         bool
	quiet       bool
	progress    bool
	joblog      string
	logFile     *os.File // joblog, once it is open
	log         *format.Joblog
}

func (f *printFlags) add(cmd *cobra.Command) {
	f.addOutput(cmd)
	fs := cmd.Flags()
	fs.BoolVarP(&f.keepOrder, "keep-order", "k", true, "print answers in the order of the inputs")
	fs.BoolVar(&f.asCompleted, "as-completed", false, "print answers as they come")
	fs.BoolVar(&f.tag, "tag", false, "begin each line with the task's input and a tab")
	fs.BoolVar(&f.quiet, "quiet", false, "say nothing but errors, show no progress")
	fs.BoolVar(&f.progress, "progress", false, "report progress also where standard error is no terminal")
	fs.StringVar(&f.joblog, "joblog", "", "append a line for each task to this file, in GNU parallel's columns")
}

// addOutput declares -o.
func (f *printFlags) addOutput(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&f.output, "output", "o", "text", "how answers are printed: text (what the tasks wrote), json, jsonl or csv")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"text", "json", "jsonl", "csv"}, cobra.ShellCompDirectiveNoFileComp))
}

// answerFormats are those that -o knows, beside text.
var answerFormats = map[string]format.Encoding{"json": format.JSON, "jsonl": format.JSONL, "csv": format.CSV}

func (f *printFlags) check() error {
	_, known := answerFormats[f.output]
	switch {
	case f.output == "text":
		return nil
	case !known:
		return usagef("-o %s: want text, json, jsonl or csv", f.output)
	case f.tag:
		return usagef("--tag goes with -o text only")
	}
	return nil
}

// checkSteering is check for verbs that steer a job and then print its answers:
// like others that steer, they know a table, which here is text.
func (f *printFlags) checkSteering() error {
	if f.output == "table" {
		f.output = "text"
	}
	return f.check()
}

// openJoblog opens the file of --joblog, before anything is done that could not be
// logged in it.
func (f *printFlags) openJoblog(detach bool) error {
	if f.joblog == "" {
		return nil
	}
	if detach {
		return withHint(usagef("--joblog and --detach exclude each other: nobody would write the log"), "write it later: navvy resume --all --joblog %s ID", f.joblog)
	}
	var err error
	f.logFile, err = os.OpenFile(f.joblog, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644) //nolint:gosec // others may read it, as any file that a command writes
	if err != nil {
		return usagef("--joblog: %w", err)
	}
	info, err := f.logFile.Stat()
	if err == nil {
		f.log, err = format.NewJoblog(f.logFile, info.Size() == 0)
	}
	if err != nil {
		return usagef("--joblog: %w", err)
	}
	return nil
}

// inputs tells whether answers are needed with their inputs.
func (f *printFlags) inputs() bool { return f.output != "text" || f.tag || f.joblog != "" }

// printer prints answers, and remembers which.
type printer struct {
	app      *app
	flags    *printFlags
	client   *client.Client
	job      *navvy.Job
	template *placeholder.Template // for the job log; nil if there is no command
	out, err *bufio.Writer
	answers  *format.Answers // for all but text
	closed   bool
	failures int             // tasks that could not say themselves why they failed
	half     *halfPrinted    // the text under way; nil if there is none
	seen     *roaring.Bitmap // what was printed
	printed  *roaring.Bitmap // and what of it the server has not been told of
	kept     time.Time
	// settled gives those of printed answers that need not come again; all if nil.
	settled func(*roaring.Bitmap) *roaring.Bitmap
}

// newPrinter opens what is printed to. It prints the answers of any number of
// connections, one after the other.
func newPrinter(a *app, f *printFlags, job *navvy.Job) (*printer, error) {
	p := &printer{
		kept: time.Now(),
		app:  a, flags: f, job: job, seen: roaring.New(), printed: roaring.New(),
		out: bufio.NewWriterSize(printing{a.out}, 64<<10), err: bufio.NewWriterSize(printing{a.err}, 4<<10),
	}
	var columns []string
	if command := job.Spec.Program(); command != nil && !command.Literal && len(command.Args) > 0 {
		columns = command.Columns
		var err error
		if p.template, err = placeholder.Parse(command.Args, placeholderOptions(&job.Spec, 0)); err != nil {
			return nil, err
		}
	}
	kind, ok := answerFormats[f.output]
	if !ok {
		return p, nil // text
	}
	var err error
	p.answers, err = format.NewAnswers(p.out, kind, columns, job.Spec.Function != nil)
	return p, err
}

// close ends what is printed, once.
func (p *printer) close() error {
	if p.closed {
		return nil
	}
	p.closed = true
	var err error
	if p.answers != nil {
		err = p.answers.Close()
	}
	err = cmp.Or(err, p.out.Flush(), p.err.Flush())
	if file := p.flags.logFile; file != nil {
		err = errors.Join(err, file.Close())
	}
	return err
}

// batch prints answers that came together, less those that it has printed
// before, and flushes. Only what has got through counts as printed.
func (p *printer) batch(ctx context.Context, answers []client.Answer) error {
	done := roaring.New()
	err := p.each(ctx, answers, done)
	var flushErr error
	if p.answers != nil {
		flushErr = p.answers.Flush()
	}
	if flushErr = cmp.Or(flushErr, p.out.Flush(), p.err.Flush()); flushErr != nil {
		return flushErr
	}
	p.seen.Or(done)
	p.printed.Or(done)
	return err
}

func (p *printer) each(ctx context.Context, answers []client.Answer, done *roaring.Bitmap) error {
	for i := range answers {
		index := uint32(answers[i].Task.Index)
		if p.seen.Contains(index) {
			continue
		}
		if err := p.answer(ctx, &answers[i]); err != nil {
			return err
		}
		done.Add(index)
	}
	return nil
}

// keepEvery is how often the server is told what was printed.
const keepEvery = 200 * time.Millisecond

// keepSoon tells the server what was printed, if it has not been told lately.
func (p *printer) keepSoon(ctx context.Context) error {
	if time.Since(p.kept) < keepEvery {
		return nil
	}
	return p.keep(ctx)
}

// keep tells the server what was printed, so that a resume leaves it out.
func (p *printer) keep(ctx context.Context) error {
	if p.printed.IsEmpty() {
		return nil
	}
	told := p.printed
	if p.settled != nil {
		told = p.settled(p.printed)
	}
	if told.IsEmpty() {
		return nil
	}
	told.RunOptimize()
	indexes, err := told.ToBytes()
	if err != nil {
		return fmt.Errorf("printed: %w", err)
	}
	if err := p.client.Printed(ctx, p.job.ID, indexes); err != nil {
		return err
	}
	p.printed, p.kept = roaring.AndNot(p.printed, told), time.Now()
	return nil
}

func (p *printer) answer(ctx context.Context, a *client.Answer) error {
	if err := p.print(ctx, a); err != nil || p.flags.log == nil {
		return err
	}
	if err := p.flags.log.Write(&a.Result, p.command(a)); err != nil {
		return &printError{fmt.Errorf("--joblog: %w", err)}
	}
	return nil
}

func (p *printer) print(ctx context.Context, a *client.Answer) error {
	if p.answers == nil {
		return p.text(ctx, a)
	}
	var stdout, stderr, value bytes.Buffer
	if err := p.read(ctx, a, to(&stdout, &stderr, &value)); err != nil {
		return err
	}
	answer := &format.Answer{
		Result: &a.Result, Format: p.job.Format, Input: a.Input,
		Stdout: orEmpty(stdout.Bytes()), Stderr: orEmpty(stderr.Bytes()),
	}
	if f := p.job.Spec.Function; f != nil {
		answer.Value, answer.Encoding = value.Bytes(), f.Encoding
	}
	return p.answers.Write(answer)
}

func orEmpty(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// command is the task's command, for the job log.
func (p *printer) command(a *client.Answer) string {
	if f := p.job.Spec.Function; f != nil {
		return functionText(f) + "(" + inputForPeople(p.job, a.Input) + ")"
	}
	if s := p.job.Spec.Service; s != nil {
		return commandOf(p.job)
	}
	fields, err := p.job.Format.Fields(a.Input)
	if c := p.job.Spec.Container; c != nil && err == nil && p.template == nil {
		return imageText(c) + " " + wordsText(fields)
	}
	if err != nil || p.template == nil {
		return p.job.Spec.Kind()
	}
	return p.template.Preview(placeholder.Values{Fields: fields, Seq: a.Task.Index + 1, Slot: a.Slot})
}

// halfPrinted is a task's output on its way, so that it can go on where it was
// if the connection breaks.
type halfPrinted struct {
	task                  int64
	attempt               navvy.AttemptID
	stdout, stderr, value resumed
	end                   func()
}

// text prints what the task wrote, and why it failed if it could not even say so itself.
// Of a function that speaks JSON, standard output is for the value.
func (p *printer) text(ctx context.Context, a *client.Answer) error {
	if h := p.half; h != nil && h.task == a.Task.Index && h.attempt == a.ID {
		h.stdout.again()
		h.stderr.again()
		h.value.again()
	} else {
		p.half = p.begin(a)
	}
	if err := p.read(ctx, a, to(&p.half.stdout, &p.half.stderr, &p.half.value)); err != nil {
		return err
	}
	p.half.end()
	p.half = nil
	// A command that exits with a code has said why.
	if a.State == navvy.Failed && (a.Reason != navvy.ReasonExit || p.job.Spec.Function != nil) && !p.flags.quiet {
		return p.failed(a)
	}
	return nil
}

// failedTold is of how many tasks why they failed is told while answers are printed.
const failedTold = 5

// failed tells why a task failed, and after some of them only where to look.
func (p *printer) failed(a *client.Answer) error {
	text := ""
	switch p.failures++; {
	case p.failures <= failedTold:
		text = fmt.Sprintf("navvy: task %s failed: %s\n", a.Task, a.Message)
	case p.failures == failedTold+1:
		text = fmt.Sprintf("navvy: more tasks failed; see navvy why %s\n", a.Task.Job)
	}
	if p.failures == 1 && isLine(p.job.Spec.Command, a.Reason) {
		text += "hint: " + lineHint + "\n"
	}
	_, err := p.err.WriteString(text)
	return err
}

// begin makes ready to print a task's output.
func (p *printer) begin(a *client.Answer) *halfPrinted {
	h := &halfPrinted{task: a.Task.Index, attempt: a.ID, end: func() {}}
	var out, err io.Writer = p.out, p.err
	if p.flags.tag {
		tag := inputForPeople(p.job, a.Input)
		tagged, errTagged := &tagger{w: p.out, tag: tag}, &tagger{w: p.err, tag: tag}
		out, err = tagged, errTagged
		h.end = func() {
			tagged.end()
			errTagged.end()
		}
	}
	h.stdout.w, h.stderr.w, h.value.w = out, err, io.Discard
	if p.job.Spec.Service != nil {
		answer, untagged := &lastLine{w: out, ended: a.State != navvy.Succeeded}, h.end
		h.stdout.w = answer
		h.end = func() {
			answer.end()
			untagged()
		}
	}
	if printsValue(p.job) {
		h.stdout.w = err
		if a.State == navvy.Succeeded {
			untagged := h.end
			h.value.w = out
			h.end = func() {
				_, _ = io.WriteString(out, "\n") // the buffer behind it keeps its error
				untagged()
			}
		}
	}
	return h
}

// read gives an answer's output to a function.
func (p *printer) read(ctx context.Context, a *client.Answer, write func(output.Stream, []byte) error) error {
	if a.Output.Logged {
		return p.client.Output(ctx, a.Task, client.OutputOptions{Attempt: a.ID}, client.OutputSink{Write: write})
	}
	var split output.Decoder
	return split.Decode(a.Output.Inline, write)
}
