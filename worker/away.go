package worker

import (
	"context"
	"errors"
)

// unreached is a kind of work that is done by what has not been reached yet.
type unreached struct {
	kind    string
	why     error
	reached <-chan struct{}
}

// errReached ends a session of a worker that can have more kinds of work done than it told.
var errReached = errors.New("what does a kind of work was reached")

// unreached finds out what cannot be reached. A worker that has one session tells the server of all
// that it is for.
func (w *Worker) unreached(ctx context.Context) (list []unreached) {
	if w.opts.Dir == "" {
		return nil
	}
	for kind, r := range w.runners {
		reached, why := r.Reach(ctx)
		if why == nil {
			continue
		}
		list = append(list, unreached{kind, why, reached})
		if w.away[kind] {
			continue
		}
		w.away[kind] = true
		w.log.Warn("this kind of work is not done here until what does it can be reached", "kind", kind, "error", why)
	}
	return list
}

// awaited gives errReached once it is reached.
func (a *unreached) awaited(ctx context.Context) error {
	select {
	case <-a.reached:
		return errReached
	case <-ctx.Done():
		return nil
	}
}
