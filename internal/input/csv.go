package input

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/navvy-run/navvy"
)

// records are those of a CSV file, RFC 4180, less its first, which names the
// columns. Each has as many fields as that. Empty lines are passed over.
type records struct {
	name    string
	csv     *csv.Reader
	limit   *limited
	columns []string
	line    int // on which the last record began
}

// limited ends a reader with errRecord when more than left bytes are read.
type limited struct {
	r    io.Reader
	left int
}

var errRecord = errors.New("the record is too long; is a quote not closed?")

func (l *limited) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, errRecord
	}
	n, err := l.r.Read(p)
	l.left -= n
	return n, err
}

// newRecords reads the names of the columns.
func newRecords(name string, in io.Reader, comma rune, limit int) (*records, error) {
	r := &records{name: name, limit: &limited{r: in, left: limit}}
	buffer := bufio.NewReaderSize(r.limit, bufferSize)
	if mark, err := buffer.Peek(3); err == nil && string(mark) == "\ufeff" {
		_, _ = buffer.Discard(3) // what was peeked at is there
	}
	r.csv = csv.NewReader(buffer)
	r.csv.Comma = comma
	r.csv.ReuseRecord = true
	header, err := r.csv.Read()
	switch {
	case errors.Is(err, io.EOF):
		return nil, fmt.Errorf("%s is empty: its first line must name the columns: %w", name, navvy.ErrInvalid)
	case err != nil:
		return nil, r.explain(err, nil)
	}
	for i, column := range header {
		if column == "" {
			return nil, fmt.Errorf("%s: column %d has no name: %w", name, i+1, navvy.ErrInvalid)
		}
		if slices.Contains(header[:i], column) {
			return nil, fmt.Errorf("%s: two columns are called %q: %w", name, column, navvy.ErrInvalid)
		}
	}
	r.columns = slices.Clone(header)
	return r, nil
}

// each calls emit for each record; fields is emit's only until it returns.
func (r *records) each(limit int, emit func(fields []string) error) error {
	for {
		r.limit.left = limit
		fields, err := r.csv.Read()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return r.explain(err, fields)
		}
		r.line, _ = r.csv.FieldPos(0)
		if err := emit(fields); err != nil {
			return err
		}
	}
}

// explain says where an error is; fields are those of the record, if it could be read.
func (r *records) explain(err error, fields []string) error {
	parse, ok := errors.AsType[*csv.ParseError](err)
	switch {
	case !ok && errors.Is(err, errRecord):
		return fmt.Errorf("%s, after line %d: %w: %w", r.name, r.line, err, navvy.ErrInvalid)
	case !ok:
		return fmt.Errorf("%s: %w", r.name, err)
	case errors.Is(err, csv.ErrFieldCount):
		return fmt.Errorf("%s: line %d has a wrong number of fields: %d, but the first line has %d: %w", r.name, parse.StartLine, len(fields), len(r.columns), navvy.ErrInvalid)
	default:
		return fmt.Errorf("%s: line %d, column %d: %w: %w", r.name, parse.Line, parse.Column, parse.Err, navvy.ErrInvalid)
	}
}
