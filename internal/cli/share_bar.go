package cli

import (
	"io"
	"sync"
	"time"

	"github.com/navvy-run/navvy/internal/cli/format"
)

// copyBar shows how far the copying of files has come: on the last line of a terminal,
// or in a line every so often if that was asked for. A nil bar shows nothing. Its methods
// may be called at once.
type copyBar struct {
	screen  *screen // nil if there is no terminal
	w       io.Writer
	width   func() int
	started time.Time

	mu    sync.Mutex
	now   format.Transfer
	rate  rate
	drawn time.Time
	over  bool
}

// drawEvery is how often a bar of bytes is drawn at most.
const drawEvery = 100 * time.Millisecond

// newCopyBar makes the bar that the flags ask for; nil if none.
func (a *app) newCopyBar(f *copyFlags) *copyBar {
	a.quiet = f.quiet
	if f.quiet || a.screen == nil && !f.progress {
		return nil
	}
	return &copyBar{screen: a.screen, w: a.err, width: a.width, started: time.Now(), drawn: time.Now()}
}

// expect adds to what is to come; bytes below zero are not known.
func (b *copyBar) expect(files, bytes int64) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now.TotalFiles += files
	if bytes < 0 || b.now.TotalBytes < 0 {
		b.now.TotalBytes = -1
	} else {
		b.now.TotalBytes += bytes
	}
}

// add adds to what is done.
func (b *copyBar) add(bytes, files int64) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now.Bytes += bytes
	b.now.Files += files
	now, every := time.Now(), drawEvery
	if b.screen == nil {
		every = plainEvery
	}
	if !b.over && now.Sub(b.drawn) >= every {
		b.drawn = now
		b.draw(now)
	}
}

func (b *copyBar) draw(now time.Time) {
	b.rate.add(now, b.now.Bytes)
	b.now.PerSecond, b.now.Elapsed = b.rate.perSecond(), now.Sub(b.started)
	if b.now.PerSecond == 0 { // the first line, which may be the last
		b.now.PerSecond = float64(b.now.Bytes) / max(b.now.Elapsed.Seconds(), 1e-3)
	}
	line := b.now.Line(b.width())
	if b.screen != nil {
		b.screen.show(line)
	} else {
		_, _ = io.WriteString(b.w, line+"\n") // progress that cannot be shown is no reason to stop
	}
}

// end takes the bar away, and leaves the last line where lines are written. It may be
// called again.
func (b *copyBar) end() {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over {
		return
	}
	b.over = true
	if b.screen != nil {
		b.screen.show("")
	} else {
		b.draw(time.Now())
	}
}
