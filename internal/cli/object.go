package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/internal/cli/format"
	"github.com/navvy-run/navvy/placeholder"
)

// listFlags say how a looking verb prints.
type listFlags struct{ output string }

func (f *listFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&f.output, "output", "o", "table", "how it is printed: table, json or jsonl")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json", "jsonl"}, cobra.ShellCompDirectiveNoFileComp))
}

func (f *listFlags) check() error {
	switch f.output {
	case "table", "json", "jsonl":
		return nil
	default:
		return usagef("-o %s: want table, json or jsonl", f.output)
	}
}

// objects prints values as JSON, one a line or as one array.
type objects struct {
	w     io.Writer
	array bool
	n     int
}

// objects makes the printer that -o asks for; for a table, one that prints nothing.
func (f *listFlags) objects(w io.Writer) *objects { return &objects{w: w, array: f.output == "json"} }

func (o *objects) add(v any) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return err
	}
	lead := ""
	switch {
	case o.array && o.n == 0:
		lead = "["
	case o.array:
		lead = ",\n "
	}
	o.n++
	end := "\n"
	if o.array {
		end = ""
	}
	_, err := fmt.Fprintf(o.w, "%s%s%s", lead, bytes.TrimSpace(b.Bytes()), end)
	return err
}

func (o *objects) close() error {
	if !o.array {
		return nil
	}
	text := "]\n"
	if o.n == 0 {
		text = "[]\n"
	}
	_, err := io.WriteString(o.w, text)
	return err
}

// one prints a single object: JSON either way.
func (f *listFlags) one(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	if f.output == "json" {
		e.SetIndent("", "  ")
	}
	return e.Encode(v)
}

// jobObject is a job as -o json shows it.
type jobObject struct {
	ID        navvy.JobID `json:"id"`
	Name      string      `json:"name,omitempty"`
	Queue     string      `json:"queue,omitempty"` // unless it is the default one
	Priority  int32       `json:"priority,omitempty"`
	State     string      `json:"state"`
	Held      bool        `json:"held"`
	Open      bool        `json:"open,omitempty"`
	Cut       bool        `json:"cut,omitempty"`
	Detached  bool        `json:"detached"`
	Total     int64       `json:"total"`
	Queued    int64       `json:"queued"`
	Running   int64       `json:"running"`
	Succeeded int64       `json:"succeeded"`
	Failed    int64       `json:"failed"`
	Stopped   int64       `json:"stopped"`
	Why       string      `json:"why,omitempty"`
	Waiting   string      `json:"waiting,omitempty"`
	Owner     string      `json:"owner"`
	Command   string      `json:"command"`
	Package   string      `json:"package,omitempty"` // of a service: NAME@VERSION
	Read      bool        `json:"read"`
	Accepted  time.Time   `json:"accepted"`
	Finished  *time.Time  `json:"finished,omitempty"`
	Expires   *time.Time  `json:"expires,omitempty"`

	Limits  *limitsObject `json:"limits,omitempty"`
	Isolate bool          `json:"isolate,omitempty"`
	Network string        `json:"network,omitempty"`

	Namespace   string `json:"namespace,omitempty"`    // of a container, if its job or queue says so
	PodTemplate string `json:"pod_template,omitempty"` // likewise

	Labels    map[string]string `json:"labels,omitempty"` // that its workers must have
	Resources map[string]int64  `json:"resources,omitempty"`
	Usage     *jobUsageObject   `json:"usage,omitempty"`
}

// jobUsageObject is what the attempts of a job used, together or at most.
type jobUsageObject struct {
	Attempts  int64   `json:"attempts"` // how many
	CPU       float64 `json:"cpu_time"`
	MaxMemory *int64  `json:"max_memory"` // bytes, of one attempt; null if the kernel cannot tell
	format.Usage
}

// newJobUsage is nil as long as no attempt has ended.
func newJobUsage(s *navvy.Status) *jobUsageObject {
	if s.Attempts == 0 {
		return nil
	}
	o := &jobUsageObject{Attempts: s.Attempts, CPU: s.Usage.CPU().Round(time.Microsecond).Seconds(), Usage: format.NewUsage(&s.Usage)}
	if s.Usage.MaxMemory > 0 {
		o.MaxMemory = &s.Usage.MaxMemory
	}
	return o
}

func newJobObject(j *client.Job) jobObject {
	s, c := &j.Status, j.Status.Counts
	namespace, template := podsOf(&j.Job)
	return jobObject{
		ID: j.ID, Name: j.Name, Queue: queueOf(j), Priority: j.Priority, State: s.State().String(), Held: s.Held, Open: s.Open, Cut: s.Cut, Detached: j.Detached,
		Total: c.Total(), Queued: c.Queued, Running: c.Running, Succeeded: c.Succeeded, Failed: c.Failed, Stopped: c.Stopped,
		Why: s.Why, Waiting: s.Waiting, Owner: j.Owner, Command: commandOf(&j.Job), Package: packageOf(&j.Job), Read: s.Read,
		Accepted: j.Accepted, Finished: orNil(s.Finished), Expires: orNil(s.Expires),
		Limits: newLimitsObject(&j.Spec.Limits), Isolate: j.Spec.Isolate, Network: j.Spec.Network,
		Usage: newJobUsage(s), Namespace: namespace, PodTemplate: template,
		Labels: j.Spec.Labels, Resources: j.Spec.Resources,
	}
}

func orNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// packageOf is the package that the job's service starts in; empty if there is none.
func packageOf(j *navvy.Job) string {
	if j.Spec.Service == nil || j.Spec.Service.Package == nil {
		return ""
	}
	return j.Spec.Service.Package.String()
}

// commandOf is what the job runs, as its user wrote it.
func commandOf(j *navvy.Job) string {
	c := j.Spec.Command
	switch {
	case j.Spec.Function != nil:
		return functionText(j.Spec.Function) + "(…)"
	case j.Spec.Service != nil:
		return j.Spec.Service.Form
	case j.Spec.Container != nil:
		return imageText(j.Spec.Container)
	case c == nil:
		return j.Spec.Kind()
	case c.Shell:
		return c.Args[0]
	}
	return wordsText(c.Args)
}

// podsOf is where the containers of a job run, and what is merged over their pods.
func podsOf(j *navvy.Job) (namespace, template string) {
	if c := j.Spec.Container; c != nil {
		return c.Namespace, string(c.Template)
	}
	return "", ""
}

// imageText is a container as its user wrote it.
func imageText(c *navvy.Container) string {
	words := append([]string{c.Image}, c.Entrypoint...)
	if c.Command.Shell {
		return wordsText(words) + " " + placeholder.Quote(c.Command.Args[0])
	}
	return wordsText(append(words, c.Command.Args...))
}

// wordsText are words as a shell would take them, with placeholders.
func wordsText(list []string) string {
	words := make([]string, len(list))
	for i, arg := range list {
		words[i] = arg
		if !strings.Contains(arg, "{") || strings.ContainsAny(arg, " \t\n'\"$") {
			words[i] = placeholder.Quote(arg)
		}
	}
	return strings.Join(words, " ")
}

// attemptObject is an attempt as -o json shows it.
type attemptObject struct {
	ID        string     `json:"id"`
	Outcome   string     `json:"outcome,omitempty"`
	Reason    string     `json:"reason,omitempty"`
	Message   string     `json:"message,omitempty"`
	ExitCode  *int       `json:"exit_code,omitempty"`
	Signal    int        `json:"signal,omitempty"`
	Worker    string     `json:"worker,omitempty"`
	Slot      int        `json:"slot,omitempty"`
	Started   time.Time  `json:"started"`
	Finished  *time.Time `json:"finished,omitempty"`
	CPU       float64    `json:"cpu_time"`
	MaxMemory *int64     `json:"max_memory"` // bytes; null if the kernel cannot tell
	Stdout    int64      `json:"stdout_bytes"`
	Stderr    int64      `json:"stderr_bytes"`
	format.Usage
}

func newAttemptObject(a *navvy.Attempt) attemptObject {
	o := attemptObject{
		ID: a.ID.String(), Reason: string(a.Reason), Message: a.Message, Signal: a.Exit.Signal,
		Worker: a.Worker, Slot: a.Slot, Started: a.Started, Finished: orNil(a.Finished),
		CPU: a.Usage.CPU().Seconds(), Stdout: a.Output.Stdout, Stderr: a.Output.Stderr, Usage: format.NewUsage(&a.Usage),
	}
	if a.Usage.MaxMemory > 0 {
		o.MaxMemory = &a.Usage.MaxMemory
	}
	if a.Outcome != 0 {
		o.Outcome = a.Outcome.String()
	}
	if a.Outcome == navvy.OutcomeSucceeded || a.Reason == navvy.ReasonExit {
		o.ExitCode = &a.Exit.Code
	}
	return o
}

// taskObject is a task as -o json shows it.
type taskObject struct {
	Job         navvy.JobID     `json:"job"`
	Index       int64           `json:"index"`
	State       string          `json:"state"`
	Input       *string         `json:"input,omitempty"`
	InputBase64 []byte          `json:"input_base64,omitempty"`
	Fields      []string        `json:"fields,omitempty"`
	Waiting     string          `json:"waiting,omitempty"`
	Running     *attemptObject  `json:"running,omitempty"`
	Result      *attemptObject  `json:"result,omitempty"`
	Attempts    []attemptObject `json:"attempts,omitempty"`
}

func newTaskObject(j *client.Job, t *client.Task) taskObject {
	o := taskObject{Job: t.ID.Job, Index: t.ID.Index, State: t.State.String(), Waiting: t.Waiting}
	if fields, err := j.Format.Fields(t.Input); err == nil && len(fields) > 1 {
		o.Fields = fields
	}
	text := inputText(&j.Job, t.Input)
	if utf8.ValidString(text) {
		o.Input = &text
	} else {
		o.InputBase64 = []byte(text)
	}
	if t.Running != nil {
		a := newAttemptObject(t.Running)
		o.Running = &a
	}
	if t.Result != nil {
		a := newAttemptObject(&t.Result.Attempt)
		o.Result = &a
	}
	for i := range t.Attempts {
		o.Attempts = append(o.Attempts, newAttemptObject(&t.Attempts[i]))
	}
	return o
}

// inputText is an input in one piece.
func inputText(j *navvy.Job, input []byte) string {
	fields, err := j.Format.Fields(input)
	if err != nil {
		return string(input)
	}
	return strings.Join(fields, " ")
}
