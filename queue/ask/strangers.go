package ask

import (
	"context"
	"errors"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/internal/pause"
	"github.com/navvy-run/navvy/queue"
)

const (
	// longestAside is how long an answer to somebody else is out of the way at most.
	longestAside = 10 * time.Second
	// Between two rounds through nothing but answers to others.
	firstRest   = 10 * time.Millisecond
	longestRest = 2 * time.Second
	// moveTime is how long it may take to put one behind the others: what is cut off may be
	// there twice.
	moveTime = time.Minute
	// movesAtOnce is how many are on their way behind the others at once: so many a crash
	// leaves there twice.
	movesAtOnce = 32
	// mostKnown bounds what is remembered of a round.
	mostKnown = 1 << 20
)

// strangers are answers to other runs, in the same queue. They must not hide ours. Where the
// broker can wait with a message, those that have come before come later each time; one that
// is new is no reason to rest, since there may be many of them before ours. Where it
// cannot, one that is given back comes at once, before all others: there it is put behind
// them. A round is over when one comes again that was put there in it: whoever finds
// nothing but strangers in a round rests, longer each time and no shorter than the round
// took, so that two runs do not keep the broker busy with each other's answers.
type strangers struct {
	q     *queue.Queue
	acks  *sync.WaitGroup
	delay bool        // the broker can wait
	stuck atomic.Bool // nothing can be put behind the others: we may not send there
	moves chan struct{}

	seed  maphash.Seed
	known map[uint64]bool // of this round
	begun time.Time       // of the round
	again bool            // some came that come at once each time, or for the second time
	rests pause.Series
}

func newStrangers(q *queue.Queue, acks *sync.WaitGroup) *strangers {
	return &strangers{
		q: q, acks: acks, delay: q.Capabilities().Delay, moves: make(chan struct{}, movesAtOnce), seed: maphash.MakeSeed(), known: map[uint64]bool{}, begun: time.Now(),
		rests: pause.Series{First: firstRest, Longest: longestRest},
	}
}

// giveBack gives back an answer to somebody else. It waits while many are on their way,
// unless ctx ends.
func (s *strangers) giveBack(ctx context.Context, l *queue.Lease) {
	if s.delay || s.stuck.Load() {
		s.later(l)
		return
	}
	select {
	case s.moves <- struct{}{}:
	case <-ctx.Done():
		s.later(l)
		return
	}
	id := maphash.String(s.seed, l.Correlation()+"\x00"+l.ID())
	if s.known[id] || len(s.known) >= mostKnown {
		s.again = true
		clear(s.known)
	}
	s.known[id] = true
	s.acks.Go(func() {
		defer func() { <-s.moves }()
		ctx, cancel := context.WithTimeout(context.Background(), moveTime)
		defer cancel()
		err := l.Behind(ctx) // else it is given back
		if errors.Is(err, navvy.ErrDenied) || errors.Is(err, navvy.ErrUnsupported) || errors.Is(err, navvy.ErrInvalid) {
			s.stuck.Store(true)
		}
	})
}

// later gives one back to come later, if it came before and the broker can wait; else it may
// come again at once, and where the broker can wait that once only.
func (s *strangers) later(l *queue.Lease) {
	delay := time.Duration(0)
	switch n := l.Attempt(); {
	case s.delay && n > 1:
		delay = min(firstRest<<min(n-1, 10), longestAside)
	case !s.delay || n == 0: // it comes so each time
		s.again = true
	}
	s.acks.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), ackTime)
		defer cancel()
		_ = l.Nack(ctx, delay) // else it comes again when its lease is over
	})
}

// rest is called after each time that something was received, of ours or not. It waits if
// there is nothing to do but to look at the same ones again.
func (s *strangers) rest(ctx context.Context, mine bool) error {
	if mine {
		s.rests.Reset()
	}
	if !s.again {
		return nil
	}
	s.again = false
	took := time.Since(s.begun)
	defer func() { s.begun = time.Now() }()
	if mine {
		return nil
	}
	if err := s.rests.Wait(ctx); err != nil || s.delay || s.stuck.Load() {
		return err
	}
	return pause.For(ctx, min(took, longestRest))
}
