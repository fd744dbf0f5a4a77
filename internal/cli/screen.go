package cli

import (
	"io"
	"sync"
)

// screen is a terminal whose last line shows progress. What is written through
// it stands above that line. Its methods may be called at once.
type screen struct {
	mu     sync.Mutex
	w      io.Writer // the terminal
	line   string    // at the bottom; empty if there is none
	drawn  bool      // it is to be seen
	middle bool      // what was written last did not end its line, and must not be overwritten
}

// erase is what takes the line that the cursor is in off a terminal; see console_codes(4).
const erase = "\r\x1b[K"

// show puts another line at the bottom; an empty one takes it away.
func (s *screen) show(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.line = line
	s.draw()
}

// draw brings the line in sight. Progress that cannot be shown is no reason to stop.
func (s *screen) draw() {
	switch {
	case s.middle:
	case s.line != "":
		_, _ = io.WriteString(s.w, "\r"+s.line+"\x1b[K")
		s.drawn = true
	default:
		s.hide()
	}
}

func (s *screen) hide() {
	if s.drawn {
		_, _ = io.WriteString(s.w, erase)
		s.drawn = false
	}
}

// above gives a writer to something that appears on the same terminal.
func (s *screen) above(w io.Writer) io.Writer { return &aboveWriter{s, w} }

type aboveWriter struct {
	screen *screen
	w      io.Writer
}

// Write writes p above the line.
func (a *aboveWriter) Write(p []byte) (int, error) {
	s := a.screen
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hide()
	n, err := a.w.Write(p)
	if n > 0 {
		s.middle = p[n-1] != '\n'
	}
	s.draw()
	return n, err
}
