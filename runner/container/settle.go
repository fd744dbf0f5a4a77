package container

import (
	"context"
	"sync"

	"github.com/navvy-run/navvy/internal/pause"
)

// settler gives Jobs whose results are kept their time to live, a few at once, and as often
// as it takes.
type settler struct {
	mu    sync.Mutex
	queue []string // tokens
	busy  int
}

// settleAtOnce is how many calls are under way.
const settleAtOnce = 8

// Settled implements driver.Settler.
func (d *Driver) Settled(token string) {
	s := &d.settling
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queue = append(s.queue, token)
	if s.busy < settleAtOnce && d.ctx.Err() == nil {
		s.busy++
		d.running.Go(func() { d.settleAll(d.ctx) })
	}
}

// settleAll works the queue off.
func (d *Driver) settleAll(ctx context.Context) {
	pauses := pause.Series{First: firstPause, Longest: longestPause}
	for {
		token, ok := d.settling.next(ctx)
		if !ok {
			return
		}
		for err := d.Settle(ctx, token); err != nil; err = d.Settle(ctx, token) {
			d.log.Warn("a Job is not told that it may go; it is tried again", "attempt", token, "err", err)
			if pauses.Wait(ctx) != nil {
				return
			}
		}
		pauses = pause.Series{First: firstPause, Longest: longestPause}
	}
}

// next takes the next token; whoever gets none is busy no longer.
func (s *settler) next(ctx context.Context) (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) == 0 || ctx.Err() != nil {
		s.busy--
		return "", false
	}
	token := s.queue[0]
	s.queue = s.queue[1:]
	return token, true
}
