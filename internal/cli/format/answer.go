package format

import (
	"bufio"
	"encoding/csv"
	"encoding/json"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/navvy-run/navvy"
)

// Answer is a result with its input and its output.
type Answer struct {
	Result *navvy.Result
	Format navvy.InputFormat
	Input  []byte
	// Stdout and Stderr are left out of JSON if they are nil.
	Stdout, Stderr []byte
	// Value is what a function returned, or what it raised if it failed, as Encoding
	// says; nil for what is no function.
	Value    []byte
	Encoding navvy.Encoding
}

// Encoding is how answers are written.
type Encoding uint8

// The encodings.
const (
	JSONL Encoding = iota // one JSON object a line
	JSON                  // one JSON array of objects
	CSV                   // RFC 4180, with a header; output as its bytes are
)

// Answers writes answers one after the other. It is for one goroutine at a time.
type Answers struct {
	encoding Encoding
	buffer   *bufio.Writer
	json     *json.Encoder
	csv      *csv.Writer
	columns  []string // names of the inputs' fields
	inputs   int      // columns of the input, in CSV
	values   bool     // answers are of a function
	count    int
}

// NewAnswers makes a writer of answers. columns names the fields of the inputs;
// in CSV each has a column of its own, and inputs without names share one. values says
// that the answers are of a function: in CSV, what it returned has a column.
func NewAnswers(w io.Writer, encoding Encoding, columns []string, values bool) (*Answers, error) {
	a := &Answers{encoding: encoding, columns: columns, values: values, buffer: bufio.NewWriterSize(w, 64<<10)}
	a.json = json.NewEncoder(a.buffer)
	a.json.SetEscapeHTML(false)
	if encoding != CSV {
		return a, nil
	}
	a.csv = csv.NewWriter(a.buffer)
	header := []string{"index"}
	if len(columns) == 0 {
		header = append(header, "input")
	}
	for _, name := range columns {
		header = append(header, "input."+name)
	}
	a.inputs = len(header) - 1
	header = append(header, "state", "exit_code", "signal", "reason", "stdout", "stderr")
	if values {
		header = append(header, "value")
	}
	header = append(header, "duration", "attempts", "worker")
	return a, a.csv.Write(append(header, usageColumns...))
}

// Write adds an answer. The error is the underlying writer's, or wraps
// navvy.ErrInvalid: the input is not what its format says.
func (a *Answers) Write(answer *Answer) error {
	a.count++
	switch a.encoding {
	case CSV:
		row, err := a.row(answer)
		if err != nil {
			return err
		}
		return a.csv.Write(row)
	case JSON:
		lead := ","
		if a.count == 1 {
			lead = "[\n"
		}
		if _, err := a.buffer.WriteString(lead); err != nil {
			return err
		}
	case JSONL:
	}
	object, err := answer.object(a.columns)
	if err != nil {
		return err
	}
	return a.json.Encode(object)
}

// Flush hands all that was written to the underlying writer.
func (a *Answers) Flush() error {
	if a.csv != nil {
		a.csv.Flush()
	}
	return a.buffer.Flush()
}

// Close ends the array of JSON and flushes. It does not close the underlying writer.
func (a *Answers) Close() error {
	if a.encoding == JSON {
		tail := "]\n"
		if a.count == 0 {
			tail = "[]\n"
		}
		if _, err := a.buffer.WriteString(tail); err != nil {
			return err
		}
	}
	return a.Flush()
}

// object is an answer in JSON. Bytes that are not UTF-8 are in base 64 (RFC 4648,
// section 4) under another name.
type object struct {
	Index       int64   `json:"index"`
	Input       *string `json:"input,omitempty"`
	InputBase64 []byte  `json:"input_base64,omitempty"`
	// Of an input of several fields, which Input holds with spaces between them.
	Fields       []string          `json:"fields,omitempty"`
	FieldsBase64 [][]byte          `json:"fields_base64,omitempty"`
	Columns      map[string]string `json:"columns,omitempty"` // by name, if they have names
	State        string            `json:"state"`
	ExitCode     *int              `json:"exit_code,omitempty"`
	Signal       int               `json:"signal,omitempty"`
	Reason       string            `json:"reason,omitempty"`
	Message      string            `json:"message,omitempty"`
	Stdout       *string           `json:"stdout,omitempty"`
	StdoutBase64 []byte            `json:"stdout_base64,omitempty"`
	Stderr       *string           `json:"stderr,omitempty"`
	StderrBase64 []byte            `json:"stderr_base64,omitempty"`
	valueObject
	Duration  float64 `json:"duration"` // seconds
	Attempts  uint32  `json:"attempts"`
	Worker    string  `json:"worker"`
	MaxMemory *int64  `json:"max_memory"` // bytes; null if it is not known
	CPUTime   float64 `json:"cpu_time"`   // seconds
	Usage
}

func (a *Answer) object(columns []string) (*object, error) {
	r := a.Result
	o := &object{
		Index: r.Task.Index, State: r.State.String(), Signal: r.Exit.Signal, Reason: string(r.Reason), Message: r.Message,
		Duration: seconds(r.Finished.Sub(r.Started)), Attempts: r.Attempts, Worker: r.Worker, CPUTime: seconds(r.Usage.CPU()), Usage: NewUsage(&r.Usage),
	}
	if code, ok := exitCode(r); ok {
		o.ExitCode = &code
	}
	if r.Usage.MaxMemory > 0 {
		o.MaxMemory = &r.Usage.MaxMemory
	}
	o.Stdout, o.StdoutBase64 = text(a.Stdout)
	o.Stderr, o.StderrBase64 = text(a.Stderr)
	o.valueObject = a.value()
	return o, o.input(a, columns)
}

// input sets the fields that show the answer's input.
func (o *object) input(a *Answer, columns []string) error {
	if a.Format == navvy.InputRaw {
		o.Input, o.InputBase64 = text(append([]byte{}, a.Input...))
		return nil
	}
	fields, err := a.Format.Fields(a.Input)
	if err != nil {
		return err
	}
	o.Input, o.InputBase64 = text([]byte(strings.Join(fields, " ")))
	if slices.ContainsFunc(fields, func(s string) bool { return !utf8.ValidString(s) }) {
		for _, field := range fields {
			o.FieldsBase64 = append(o.FieldsBase64, []byte(field))
		}
		return nil
	}
	o.Fields = fields
	if len(columns) == 0 {
		return nil
	}
	o.Columns = make(map[string]string, len(columns))
	for i, name := range columns[:min(len(columns), len(fields))] {
		o.Columns[name] = fields[i]
	}
	return nil
}

// row is an answer in CSV.
func (a *Answers) row(answer *Answer) ([]string, error) {
	r := answer.Result
	fields, err := answer.Format.Fields(answer.Input)
	if err != nil {
		return nil, err
	}
	if a.inputs == 1 {
		fields = []string{strings.Join(fields, " ")}
	}
	row := append(make([]string, 0, a.inputs+10+len(usageColumns)), strconv.FormatInt(r.Task.Index, 10))
	for i := range a.inputs {
		row = append(row, "")
		if i < len(fields) {
			row[i+1] = fields[i]
		}
	}
	code, signal := "", ""
	if n, ok := exitCode(r); ok {
		code = strconv.Itoa(n)
	}
	if r.Exit.Signal != 0 {
		signal = strconv.Itoa(r.Exit.Signal)
	}
	row = append(row, r.State.String(), code, signal, string(r.Reason), string(answer.Stdout), string(answer.Stderr))
	if a.values {
		row = append(row, answer.valueText())
	}
	row = append(row, decimal(r.Finished.Sub(r.Started)), strconv.FormatUint(uint64(r.Attempts), 10), r.Worker)
	return append(row, usageRow(&r.Usage)...), nil
}

// text is b as a string if it is UTF-8, and as it is if not.
func text(b []byte) (*string, []byte) {
	switch {
	case b == nil:
		return nil, nil
	case utf8.Valid(b):
		s := string(b)
		return &s, nil
	default:
		return nil, b
	}
}

// exitCode is the code that the task's process exited with, if it ran and was
// not ended by a signal.
func exitCode(r *navvy.Result) (int, bool) {
	if r.Exit.Signal != 0 {
		return 0, false
	}
	switch r.Reason {
	case navvy.ReasonNotFound, navvy.ReasonPermission, navvy.ReasonInput, navvy.ReasonStart, navvy.ReasonLost, navvy.ReasonStopped, navvy.ReasonSignal, navvy.ReasonException,
		navvy.ReasonService, navvy.ReasonRefused, navvy.ReasonAway:
		return 0, false
	default:
		return r.Exit.Code, true
	}
}
