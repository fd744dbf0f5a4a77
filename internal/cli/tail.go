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
