package cli

import (
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/internal/cli/format"
)

// bar shows progress on standard error: one line that changes where that is a
// terminal, else a line every so often if that was asked for. A nil bar shows
// nothing. Its methods may be called at once.
type bar struct {
	mu       sync.Mutex
	w        io.Writer
	terminal bool
	width    func() int
	started  time.Time
	shown    bool // the line is on the screen
	last     time.Time
	rate     rate
	line     string
}

// plainEvery is how often a line is written where there is no terminal.
const plainEvery = 10 * time.Second

// newBar makes the bar that the flags ask for; nil if none.
func (a *app) newBar(f *printFlags) *bar {
	file, ok := a.err.(*os.File)
	terminal := ok && term.IsTerminal(int(file.Fd())) && a.env("TERM") != "dumb"
	if f.quiet || !terminal && !f.progress {
		return nil
	}
	now := time.Now()
	return &bar{w: a.err, terminal: terminal, started: now, last: now, width: func() int {
		if !terminal {
			return 120
		}
		width, _, err := term.GetSize(int(file.Fd()))
		if err != nil {
			return 80
		}
		return width - 1
	}}
}

// show tells where the job stands now.
func (b *bar) show(st *navvy.Status) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	c := st.Counts
	b.rate.add(now, c.Answered())
	b.line = format.Progress{
		Succeeded: c.Succeeded, Failed: c.Failed, Running: c.Running, Total: c.Total(), Open: st.Open,
		PerSecond: b.rate.perSecond(), Elapsed: now.Sub(b.started),
	}.Line(b.width())
	switch {
	case b.terminal:
		b.write("\r" + b.line + "\x1b[K")
		b.shown = true
	case now.Sub(b.last) >= plainEvery:
		b.last = now
		b.write(b.line + "\n")
	}
}

// write shows a piece of text; progress that cannot be shown is no reason to stop.
func (b *bar) write(text string) { _, _ = io.WriteString(b.w, text) }

// clear takes the line off the screen, so that something else can be printed.
func (b *bar) clear() {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.shown {
		b.write("\r\x1b[K")
		b.shown = false
	}
}

// end leaves the last line, where lines are written.
func (b *bar) end() {
	b.clear()
	if b != nil && !b.terminal && b.line != "" {
		b.write(b.line + "\n")
	}
}

// rate is how many tasks end in a second, over the last half minute.
type rate struct{ marks []mark }

type mark struct {
	at   time.Time
	done int64
}

const rateWindow = 30 * time.Second

func (r *rate) add(at time.Time, done int64) {
	r.marks = append(r.marks, mark{at, done})
	for len(r.marks) > 2 && at.Sub(r.marks[0].at) > rateWindow {
		r.marks = r.marks[1:]
	}
}

func (r *rate) perSecond() float64 {
	if len(r.marks) < 2 {
		return 0
	}
	first, last := r.marks[0], r.marks[len(r.marks)-1]
	if !last.at.After(first.at) {
		return 0
	}
	return float64(last.done-first.done) / last.at.Sub(first.at).Seconds()
}
