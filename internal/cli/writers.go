package cli

import (
	"bytes"
	"io"
)

// tailer keeps the last lines of what is written to it.
type tailer struct {
	w     io.Writer
	keep  int
	lines [][]byte
	open  bool // the last line is unfinished
}

// Write takes lines in, and forgets all but the last.
func (t *tailer) Write(p []byte) (int, error) {
	for line := range bytes.Lines(p) {
		if t.open {
			last := len(t.lines) - 1
			t.lines[last] = append(t.lines[last], line...)
		} else {
			t.lines = append(t.lines, bytes.Clone(line))
		}
		t.open = line[len(line)-1] != '\n'
		if len(t.lines) > t.keep {
			t.lines = t.lines[len(t.lines)-t.keep:]
			t.open = t.open && t.keep > 0
		}
	}
	return len(p), nil
}

// end writes the lines that were kept.
func (t *tailer) end() error {
	for _, line := range t.lines {
		if _, err := t.w.Write(line); err != nil {
			return err
		}
	}
	t.lines = nil
	return nil
}

// printing marks the errors of a writer that takes answers.
type printing struct{ w io.Writer }

// Write passes p on.
func (t printing) Write(p []byte) (int, error) {
	n, err := t.w.Write(p)
	if err != nil {
		err = &printError{err}
	}
	return n, err
}

// printError says that answers cannot be printed: who reads them has gone, or a disk is full.
type printError struct{ err error }

func (e *printError) Error() string { return "print answers: " + e.err.Error() }
func (e *printError) Unwrap() error { return e.err }

// tagger begins each line with a tag.
type tagger struct {
	w    io.Writer
	tag  string
	open bool // in the middle of a line
}

// Write passes p on, tagged.
func (t *tagger) Write(p []byte) (int, error) {
	written := 0
	for line := range bytes.Lines(p) {
		if !t.open {
			if _, err := io.WriteString(t.w, t.tag+"\t"); err != nil {
				return written, err
			}
		}
		n, err := t.w.Write(line)
		if written += n; err != nil {
			return written, err
		}
		t.open = line[len(line)-1] != '\n'
	}
	return written, nil
}

// end closes an unfinished line, so that the next tag begins one.
func (t *tagger) end() {
	if t.open {
		_, _ = io.WriteString(t.w, "\n") // the writer keeps its error
	}
}

// lastLine passes on what it is given, and ends it with a line feed.
type lastLine struct {
	w     io.Writer
	ended bool // of what was passed on; at first, whether nothing at all is as good as a line
}

// Write passes p on.
func (l *lastLine) Write(p []byte) (int, error) {
	n, err := l.w.Write(p)
	if n > 0 {
		l.ended = p[n-1] == '\n'
	}
	return n, err
}

// end adds the line feed, unless there is one.
func (l *lastLine) end() {
	if !l.ended {
		_, _ = io.WriteString(l.w, "\n") // the writer keeps its error
	}
}

// resumed passes on what it is given. When the same bytes come again from the
// start, after again, it leaves out those that it has passed on already.
type resumed struct {
	w            io.Writer
	passed, skip int64
}

// again says that the bytes come from the start once more.
func (r *resumed) again() { r.skip = r.passed }

// forget makes the bytes that come next new ones.
func (r *resumed) forget() { r.passed, r.skip = 0, 0 }

// Write passes on what of p is new.
func (r *resumed) Write(p []byte) (int, error) {
	old := int(min(r.skip, int64(len(p))))
	r.skip -= int64(old)
	n, err := r.w.Write(p[old:])
	r.passed += int64(n)
	return old + n, err
}
