package input

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"github.com/navvy-run/navvy"
)

// MaxInput bounds one line or record, in bytes.
const MaxInput = 64 << 20

// bufferSize is how much is read from a file at once, in bytes.
const bufferSize = 64 << 10

// values is a sequence of values. What next returns is valid until the next
// call; after the last one comes io.EOF.
type values interface {
	next() ([]byte, error)
	place() string // of the value that next gave last, for people
}

// words are values that the command line holds.
type words struct {
	rest  []string
	buf   []byte
	count int // of those that were given
}

func (w *words) place() string { return fmt.Sprintf(":::, value %d", w.count) }

func (w *words) next() ([]byte, error) {
	if len(w.rest) == 0 {
		return nil, io.EOF
	}
	w.buf = append(w.buf[:0], w.rest[0]...)
	w.rest = w.rest[1:]
	w.count++
	return w.buf, nil
}

// lines are what a reader holds between separators. The last one may lack its
// separator; a carriage return before it belongs to the line.
type lines struct {
	name      string
	in        *bufio.Reader
	separator byte
	max       int
	count     int64  // of lines that were read
	long      []byte // a line that does not fit in's buffer
}

func (l *lines) place() string { return fmt.Sprintf("%s: line %d", l.name, l.count) }

func (l *lines) next() ([]byte, error) {
	line, err := l.in.ReadSlice(l.separator)
	if errors.Is(err, bufio.ErrBufferFull) {
		line, err = l.collect(line)
	}
	switch {
	case err == nil:
		line = line[:len(line)-1]
	case !errors.Is(err, io.EOF):
		return nil, fmt.Errorf("%s, after line %d: %w", l.name, l.count, err)
	case len(line) == 0:
		return nil, io.EOF
	}
	l.count++
	if len(line) > l.max {
		return nil, tooLong(l.name, l.count, l.max)
	}
	return line, nil
}

// collect reads on until a long line ends, or is too long.
func (l *lines) collect(line []byte) ([]byte, error) {
	l.long = append(l.long[:0], line...)
	for {
		more, err := l.in.ReadSlice(l.separator)
		l.long = append(l.long, more...)
		if !errors.Is(err, bufio.ErrBufferFull) {
			return l.long, err
		}
		if len(l.long) > l.max {
			return l.long, nil
		}
	}
}

func tooLong(name string, line int64, limit int) error {
	return fmt.Errorf("%s: line %d is longer than %d bytes: %w", name, line, limit, navvy.ErrInvalid)
}
