package engine

import (
	"context"
	"sync"
	"time"
)

// settler removes containers whose results are kept, a few at once, and as often as it takes.
type settler struct {
	mu    sync.Mutex
	queue []string // ids
	busy  int
	all   sync.WaitGroup
}

// settleAtOnce is how many calls are under way, lastSettling how long Close waits for them: a
// container that stays goes a week later.
const (
	settleAtOnce = 4
	lastSettling = 5 * time.Second
)

// Settled implements driver.Settler.
func (d *Driver) Settled(token string) {
	id := d.held.drop(token)
	if id == "" {
		return
	}
	s := &d.settling
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queue = append(s.queue, id)
	if s.busy < settleAtOnce && d.ctx.Err() == nil {
		s.busy++
		s.all.Go(func() { d.settleAll(d.ctx) })
	}
}

// settleAll works the queue off.
func (d *Driver) settleAll(ctx context.Context) {
	for {
		id, ok := d.settling.next(ctx)
		if !ok {
			return
		}
		again := pauses()
		for err := d.discard(ctx, id); err != nil; err = d.discard(ctx, id) {
			d.log.Warn("a container is not removed; it is tried again", "container", id, "err", err)
			if again.Wait(ctx) != nil {
				return
			}
		}
	}
}

// next takes the next id; whoever gets none is busy no longer.
func (s *settler) next(ctx context.Context) (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) == 0 || ctx.Err() != nil {
		s.busy--
		return "", false
	}
	id := s.queue[0]
	s.queue = s.queue[1:]
	return id, true
}

// finishSettling waits until all are gone, but not for an engine that is away.
func (d *Driver) finishSettling() {
	done := make(chan struct{})
	d.running.Go(func() {
		defer close(done)
		d.settling.all.Wait()
	})
	timer := time.NewTimer(lastSettling)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	}
}
