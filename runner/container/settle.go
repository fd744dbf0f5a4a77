package container

import (
	"context"
	"sync"
	"time"

	"github.com/navvy-run/navvy/internal/pause"
)

// settler gives Jobs whose results are kept their time to live, a few at once, and as often
// as it takes.
type settler struct {
	mu    sync.Mutex
	queue []string // tokens
	busy  int
	all   sync.WaitGroup
}

// settleAtOnce is how many calls are under way, lastSettling how long Close waits for them:
// a Job that is not told goes a week later.
const (
	settleAtOnce = 8
	lastSettling = 5 * time.Second
)

// Settled implements driver.Settler.
func (d *Driver) Settled(token string) {
	s := &d.settling
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queue = append(s.queue, token)
	if s.busy < settleAtOnce && d.ctx.Err() == nil {
		s.busy++
		s.all.Go(func() { d.settleAll(d.ctx) })
	}
}

// finishSettling waits until all are told, but not for a cluster that is away.
func (d *Driver) finishSettling() {
	told := make(chan struct{})
	d.running.Go(func() {
		defer close(told)
		d.settling.all.Wait()
	})
	timer := time.NewTimer(lastSettling)
	defer timer.Stop()
	select {
	case <-told:
	case <-timer.C:
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
