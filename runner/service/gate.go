package service

import (
	"context"
	"sync"
)

// gate lets any number in, or one alone. Who wants to be alone goes before those who come
// later.
type gate struct {
	mu      sync.Mutex
	users   int
	alone   bool
	wanting int           // to be alone
	changed chan struct{} // closed when somebody leaves, or gives up; nil while nobody waits
}

// enter waits for its turn, or for ctx to end, and then gives its cause. leave ends the turn.
func (g *gate) enter(ctx context.Context, alone bool) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if alone {
		g.wanting++
		defer func() { g.wanting-- }()
	}
	for g.alone || alone && g.users > 0 || !alone && g.wanting > 0 {
		if g.changed == nil {
			g.changed = make(chan struct{})
		}
		changed := g.changed
		g.mu.Unlock()
		var err error
		select {
		case <-changed:
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		g.mu.Lock()
		if err != nil {
			g.tell()
			return err
		}
	}
	g.users++
	g.alone = alone
	return nil
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.users--
	g.alone = false
	g.tell()
}

// tell wakes who waits; mu is held.
func (g *gate) tell() {
	if g.changed != nil {
		close(g.changed)
		g.changed = nil
	}
}
