package cli

import (
	"context"
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
	screen  *screen   // nil if there is no terminal
	w       io.Writer // then this takes the lines
	width   func() int
	started time.Time

	mu    sync.Mutex
	last  *navvy.Status // nil before the first
	rate  rate
	wrote time.Time // the last line
}

// How often the bar is redrawn though nothing changes, and how often a line is
// written where there is no terminal.
const (
	redrawEvery = time.Second
	plainEvery  = 10 * time.Second
)

// useTerminal lets progress be shown on standard error if that is a terminal
// that can, and all else above it.
func (a *app) useTerminal(stdout, stderr *os.File) {
	if !term.IsTerminal(int(stderr.Fd())) || a.env("TERM") == "dumb" {
		return
	}
	a.terminal, a.screen = stderr, &screen{w: stderr}
	a.err = a.screen.above(stderr)
	if term.IsTerminal(int(stdout.Fd())) {
		a.out = &counter{w: a.screen.above(stdout), n: &a.wrote}
	}
}

// newBar makes the bar that the flags ask for; nil if none.
func (a *app) newBar(f *printFlags) *bar {
	if f.quiet || a.screen == nil && !f.progress {
		return nil
	}
	now := time.Now()
	return &bar{screen: a.screen, w: a.err, started: now, wrote: now, width: a.width}
}

// width is how many columns a line of progress may have.
func (a *app) width() int {
	if a.terminal == nil {
		return 120
	}
	width, _, err := term.GetSize(int(a.terminal.Fd()))
	if err != nil {
		return 80
	}
	return width - 1
}

// run keeps what is shown up to date until ctx ends.
func (b *bar) run(ctx context.Context) {
	if b == nil {
		return
	}
	tick := time.NewTicker(redrawEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			b.draw(now)
		}
	}
}

// show tells where the job stands now.
func (b *bar) show(st *navvy.Status) {
	if b == nil {
		return
	}
	b.mu.Lock()
	b.last = st
	b.mu.Unlock()
	b.draw(time.Now())
}

func (b *bar) draw(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.last == nil {
		return
	}
	line := b.line(now)
	if b.screen != nil {
		b.screen.show(line)
	} else if now.Sub(b.wrote) >= plainEvery {
		b.wrote = now
		b.write(line)
	}
}

func (b *bar) line(now time.Time) string {
	c := b.last.Counts
	b.rate.add(now, c.Answered())
	return format.Progress{
		Succeeded: c.Succeeded, Failed: c.Failed, Running: c.Running, Total: c.Total(), Open: b.last.Open,
		PerSecond: b.rate.perSecond(), Elapsed: now.Sub(b.started),
	}.Line(b.width())
}

// write leaves a line; progress that cannot be shown is no reason to stop.
func (b *bar) write(line string) { _, _ = io.WriteString(b.w, line+"\n") }

// end takes the bar away, and leaves the last line where lines are written.
func (b *bar) end() {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.screen != nil {
		b.screen.show("")
	} else if b.last != nil {
		b.write(b.line(time.Now()))
	}
	b.last = nil
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
