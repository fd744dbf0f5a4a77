package input

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/navvy-run/navvy"
)

// Options say what the values of the sources look like.
type Options struct {
	// Null says that a zero byte ends each value of a file. Defaults to false: a line feed does.
	Null bool
	// ColumnSeparator parts each value into fields: a regular expression, or
	// one character. Defaults to none: a value is one field.
	ColumnSeparator string
	// Comma says that the one source is a CSV file whose first record names
	// the columns, and what parts its fields. Defaults to zero: it is not.
	Comma rune
	// Encode makes an input of each value of the only source, and appends it to dst. Its
	// error ends the reading, told with the place of the value. Defaults to none: the
	// value is the input.
	Encode func(dst, value []byte) ([]byte, error)
	// Salvage makes an input of a value that Encode has refused, in the same way, where a
	// source may make the reader wait: the tasks of what came before it may run already.
	// wrong names the place. Defaults to none: the reading ends there, too.
	Salvage func(dst []byte, wrong error) []byte
	// SkipBlank leaves out lines that hold nothing but white space. Defaults to false.
	SkipBlank bool
	// Stdin is what the file "-" stands for, and what is read if there are no
	// sources. If Close comes before its end, a Read of it that is under way
	// goes on until it returns by itself. Defaults to an empty reader.
	Stdin io.Reader
	// BatchInputs and BatchBytes bound what Batch returns, but one input it
	// may always hold. Default to 1000 and 256 KiB.
	BatchInputs, BatchBytes int
	// MaxInput bounds a line or record, in bytes. Defaults to MaxInput.
	MaxInput int
}

// Reader gives the inputs, encoded as its Format says. It reads ahead by one
// batch, and keeps in memory two, and all values of all sources but the first,
// with those that are linked to it. It is for one goroutine at a time.
type Reader struct {
	format    navvy.InputFormat
	columns   []string
	fields    int
	streaming bool
	options   Options

	files  []*os.File
	groups []group
	csv    *records
	split  func(string) []string // a value into fields; nil if it is one

	batches chan batch
	done    chan struct{} // closed by Close
	end     error         // what Batch returned at the end
	chunk   chunk         // being filled
}

// Open makes ready to read. The sources belong together as in GNU parallel: each
// value of one goes with each of the others, the last source varying fastest,
// unless it is linked. The error wraps navvy.ErrInvalid, or is that of the file
// system and names the file. The caller closes the Reader.
func Open(sources []Source, o *Options) (*Reader, error) {
	r := &Reader{batches: make(chan batch, 1), done: make(chan struct{})}
	if o != nil {
		r.options = *o
	}
	r.defaults()
	if len(sources) == 0 {
		sources = []Source{{File: "-"}}
	}
	err := r.check(sources)
	for i := 0; err == nil && i < len(sources); i++ {
		err = r.open(&sources[i])
	}
	if err != nil {
		return nil, errors.Join(err, r.closeFiles())
	}
	go r.read()
	return r, nil
}

func (r *Reader) defaults() {
	o := &r.options
	if o.Stdin == nil {
		o.Stdin = eof{}
	}
	if o.BatchInputs <= 0 {
		o.BatchInputs = 1000
	}
	if o.BatchBytes <= 0 {
		o.BatchBytes = 256 << 10
	}
	if o.MaxInput <= 0 {
		o.MaxInput = MaxInput
	}
}

// eof is an empty reader.
type eof struct{}

func (eof) Read([]byte) (int, error) { return 0, io.EOF }

// check looks at how sources and options fit together, and says what inputs will look like.
func (r *Reader) check(sources []Source) error {
	if err := checkSources(sources); err != nil {
		return err
	}
	o := &r.options
	switch {
	case o.Comma != 0 && (len(sources) > 1 || sources[0].File == ""):
		return fmt.Errorf("a CSV file goes with no other source of inputs: %w", navvy.ErrInvalid)
	case o.Comma != 0 && (o.Null || o.ColumnSeparator != ""):
		return fmt.Errorf("the records of a CSV file have their own separators: %w", navvy.ErrInvalid)
	}
	r.fields = len(sources)
	if len(sources) > 1 || o.Comma != 0 || o.ColumnSeparator != "" {
		r.format = navvy.InputFields
	}
	if o.Encode != nil && r.format != navvy.InputRaw {
		return fmt.Errorf("there is more than one source of inputs, or they have fields: want one, of whole values: %w", navvy.ErrInvalid)
	}
	if o.ColumnSeparator != "" {
		r.fields = 0
		var err error
		r.split, err = splitter(o.ColumnSeparator)
		return err
	}
	return nil
}

// open adds a source.
func (r *Reader) open(s *Source) error {
	var v values = &words{rest: s.Words}
	if s.File != "" {
		in, err := r.stream(s.File)
		if err != nil {
			return err
		}
		if r.options.Comma != 0 {
			if r.csv, err = newRecords(s.name(), in, r.options.Comma, r.options.MaxInput); err != nil {
				return err
			}
			r.columns, r.fields = r.csv.columns, len(r.csv.columns)
			return nil
		}
		v = &lines{name: s.name(), in: bufio.NewReaderSize(in, bufferSize), separator: '\n', max: r.options.MaxInput}
		if r.options.Null {
			v.(*lines).separator = 0
		}
	}
	if !s.Linked {
		r.groups = append(r.groups, group{})
	}
	g := &r.groups[len(r.groups)-1]
	g.names, g.members = append(g.names, s.name()), append(g.members, v)
	return nil
}

// stream opens a file for reading. Before a read that may have to wait, what was
// read so far is handed on.
func (r *Reader) stream(name string) (io.Reader, error) {
	in := r.options.Stdin
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		r.files = append(r.files, file)
		in = file
	}
	if file, ok := in.(*os.File); ok {
		info, err := file.Stat()
		if err != nil {
			return nil, err
		}
		if info.IsDir() {
			return nil, &os.PathError{Op: "read", Path: name, Err: syscall.EISDIR}
		}
		if info.Mode().IsRegular() {
			return in, nil
		}
	}
	r.streaming = true
	return eager{r: in, before: r.send}, nil
}

// read reads everything and hands it on, until the end or Close.
func (r *Reader) read() {
	defer close(r.batches)
	err := r.each()
	if err == nil {
		err = io.EOF
	}
	select {
	case r.batches <- batch{r.chunk.take(), err}:
	case <-r.done:
	}
}

// each adds all inputs.
func (r *Reader) each() error {
	if r.csv != nil {
		return r.csv.each(r.options.MaxInput, r.addFields)
	}
	if r.format == navvy.InputFields {
		return product(r.groups, r.addFields)
	}
	for one := r.groups[0].members[0]; ; {
		value, err := one.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, line := one.(*lines); line && r.options.SkipBlank && len(bytes.TrimSpace(value)) == 0 {
			continue
		}
		if value, err = r.encode(one, value); err != nil {
			return err
		}
		if err := r.add(value); err != nil {
			return err
		}
	}
}

// encode makes an input of the value that one gave last; it is good until the next call.
func (r *Reader) encode(one values, value []byte) ([]byte, error) {
	if r.options.Encode == nil {
		return value, nil
	}
	var err error
	if r.chunk.scratch, err = r.options.Encode(r.chunk.scratch[:0], value); err != nil {
		err = fmt.Errorf("%s: %w", one.place(), err)
		if r.options.Salvage == nil || !r.streaming {
			return nil, err
		}
		r.chunk.scratch = r.options.Salvage(r.chunk.scratch[:0], err)
	}
	return r.chunk.scratch, nil
}

// addFields adds an input of several fields.
func (r *Reader) addFields(fields []string) error {
	if r.split != nil {
		fields = columns(fields, r.split)
	}
	r.chunk.scratch = navvy.AppendFields(r.chunk.scratch[:0], fields...)
	return r.add(r.chunk.scratch)
}

// Format says how the inputs are encoded.
func (r *Reader) Format() navvy.InputFormat { return r.format }

// Columns names the fields of each input; nil if they have no names.
func (r *Reader) Columns() []string { return r.columns }

// Fields is how many fields each input has; 0 if that is not known.
func (r *Reader) Fields() int { return r.fields }

// Streaming tells whether a source may make the reader wait: a pipe, a terminal.
func (r *Reader) Streaming() bool { return r.streaming }

// Batch returns the next inputs: as many as a batch may hold, or, where a source
// would have to be waited for, what there is, but at least one. The last inputs
// may come with the error that follows them: io.EOF, or what is wrong with the
// next input, wrapping navvy.ErrInvalid, or with the file. That error then comes
// again. When ctx ends while Batch waits, it returns ctx's error and can be
// called again. The inputs belong to the caller.
func (r *Reader) Batch(ctx context.Context) ([][]byte, error) {
	if r.end != nil {
		return nil, r.end
	}
	select {
	case b, ok := <-r.batches:
		if !ok {
			b.err = navvy.ErrClosed
		}
		r.end = b.err
		return b.inputs, b.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Close ends the reading and closes the files. It may be called while Batch waits.
func (r *Reader) Close() error {
	select {
	case <-r.done:
	default:
		close(r.done)
	}
	return r.closeFiles()
}

func (r *Reader) closeFiles() error {
	var err error
	for _, file := range r.files {
		err = errors.Join(err, file.Close())
	}
	r.files = nil
	return err
}
