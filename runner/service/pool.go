package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
)

// pool is the services of a driver that are open, one for each key.
type pool struct {
	rest time.Duration // how long one may be idle
	room int           // how many may be
	log  *slog.Logger

	mu     sync.Mutex
	byKey  map[string]*instanceOf
	live   map[*instanceOf]bool // those of byKey, and those that are being disposed of
	idle   []*instanceOf        // the one that has been idle for longest is the first
	timer  *time.Timer          // while it runs, some service is idle
	closed bool
	all    sync.WaitGroup // of what opens and disposes
}

// instanceOf is one open service of an owner.
type instanceOf struct {
	key, owner string
	came       chan struct{} // closed when it is open, or could not be opened
	service    Service       // then
	err        error         // then: why not
	quit       context.CancelFunc
	gone       chan struct{} // closed when nothing of it is left
	left       error         // then: what did not end

	// The pool's.
	users int
	since time.Time // idle
	over  bool      // it is disposed of, and serves nobody else
}

// take gives the service of a key, opened if need be, until give. The error of one that
// cannot be opened is a *driver.Refusal, or a *driver.Away.
func (p *pool) take(ctx context.Context, key, owner string, open func(context.Context) (Service, error)) (*instanceOf, error) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, fmt.Errorf("service: the worker ends: %w", navvy.ErrClosed)
	}
	i := p.byKey[key]
	if i == nil {
		i = p.beginLocked(key, owner, open)
	}
	if i.users++; i.users == 1 {
		p.idle = slices.DeleteFunc(p.idle, func(other *instanceOf) bool { return other == i })
	}
	p.mu.Unlock()
	select {
	case <-i.came:
		if i.err == nil {
			return i, nil
		}
		p.give(i)
		return nil, i.err
	case <-ctx.Done():
		p.give(i)
		return nil, context.Cause(ctx)
	}
}

// beginLocked begins to open a service.
func (p *pool) beginLocked(key, owner string, open func(context.Context) (Service, error)) *instanceOf {
	if p.byKey == nil {
		p.byKey, p.live = map[string]*instanceOf{}, map[*instanceOf]bool{}
	}
	i := &instanceOf{key: key, owner: owner, came: make(chan struct{}), gone: make(chan struct{})}
	ctx, quit := context.WithCancel(context.Background())
	i.quit = quit
	p.byKey[key], p.live[i] = i, true
	p.all.Go(func() {
		service, err := open(ctx)
		quit()
		p.mu.Lock()
		defer p.mu.Unlock()
		i.service, i.err = service, refusalOf(err)
		close(i.came)
		if err != nil {
			p.disposeLocked(i)
		}
	})
	return i
}

// refusalOf tells whose fault it is that a service cannot be opened: it is the task's, but
// for what the host could not do.
func refusalOf(err error) error {
	if err == nil {
		return nil
	}
	if refusal, ok := errors.AsType[*driver.Refusal](err); ok {
		return refusal
	}
	if away, ok := errors.AsType[*driver.Away](err); ok {
		return away
	}
	return &driver.Refusal{Reason: navvy.ReasonStart, Message: navvy.Shorten(err.Error())}
}

// give gives back what take gave. Nobody waits for a service that is still being opened
// then: that is given up.
func (p *pool) give(i *instanceOf) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i.users--; i.users > 0 || i.over {
		return
	}
	select {
	case <-i.came:
	default:
		p.disposeLocked(i)
		return
	}
	i.since = time.Now()
	if p.idle = append(p.idle, i); len(p.idle) > p.room {
		p.disposeLocked(p.idle[0])
	}
	if p.timer == nil {
		p.timer = time.AfterFunc(p.rest, p.tidy)
	}
}

// tidy disposes of those that have been idle for long.
func (p *pool) tidy() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timer = nil
	now := time.Now()
	for len(p.idle) > 0 && !p.closed {
		if left := p.idle[0].since.Add(p.rest).Sub(now); left > 0 {
			p.timer = time.AfterFunc(left, p.tidy)
			return
		}
		p.disposeLocked(p.idle[0])
	}
}

// disposeLocked disposes of a service, in the background. Whoever wants one of its key
// meanwhile gets another.
func (p *pool) disposeLocked(i *instanceOf) {
	if i.over {
		return
	}
	i.over = true
	if p.byKey[i.key] == i {
		delete(p.byKey, i.key)
	}
	p.idle = slices.DeleteFunc(p.idle, func(other *instanceOf) bool { return other == i })
	i.quit()
	p.all.Go(func() {
		<-i.came
		if i.service != nil {
			i.left = i.service.Close(context.Background())
		}
		if i.left != nil {
			p.log.Warn("a service is not wholly disposed of", "owner", i.owner, "err", i.left)
		}
		p.mu.Lock()
		delete(p.live, i)
		p.mu.Unlock()
		close(i.gone)
	})
}

// vacate disposes of the services of all owners but one, and gives those that are not yet
// gone. None of them is invoked.
func (p *pool) vacate(owner string) []*instanceOf {
	p.mu.Lock()
	defer p.mu.Unlock()
	var ending []*instanceOf
	for i := range p.live {
		if i.owner != owner {
			p.disposeLocked(i)
			ending = append(ending, i)
		}
	}
	return ending
}

// close disposes of all services.
func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	if p.timer != nil {
		p.timer.Stop()
	}
	for i := range p.live {
		p.disposeLocked(i)
	}
}
