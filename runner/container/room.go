package container

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/navvy-run/navvy/runner/driver"
)

// room bounds how many Jobs there are, as far as the watch knows: those that have ended count
// as long as they are there. Several workers of one instance may go over it together by what
// they make in the same moment.
type room struct {
	most     int           // 0: any number
	patience time.Duration // how long an attempt waits before its task is given back

	mu    sync.Mutex
	there map[string]bool // Jobs that the watch knows, by namespace and name
	made  map[string]bool // those that are about to be made, or were, of which the watch does not know yet
	line  []*guest        // who waits, in their order
}

// guest is an attempt that waits for room.
type guest struct {
	key, token string
	in         chan struct{} // closed when it may make its Job
}

// roomPatience is how long an attempt waits for room before its task is given back: slots
// that wait must not keep out the tasks whose Jobs have ended, and only need somebody to
// take their results.
const roomPatience = 30 * time.Second

func newRoom(most int) *room {
	return &room{most: most, patience: roomPatience, there: map[string]bool{}, made: map[string]bool{}}
}

func keyOf(namespace, name string) string { return namespace + "/" + name }

// enter waits until there may be one more Job, or the one of the name is there already. It is
// followed by leave, once the Job is known not to be there.
func (r *room) enter(ctx context.Context, key, token string) error {
	g := r.stand(key, token)
	if g == nil {
		return nil
	}
	timer := time.NewTimer(r.patience)
	defer timer.Stop()
	select {
	case <-g.in:
		return nil
	case <-ctx.Done():
		return r.giveUp(g, context.Cause(ctx))
	case <-timer.C:
		return r.giveUp(g, &driver.Away{Message: r.full()})
	}
}

// giveUp ends a wait; no error if it has just come to an end by itself.
func (r *room) giveUp(g *guest, why error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.Index(r.line, g)
	if i < 0 {
		return nil
	}
	r.line = slices.Delete(r.line, i, i+1)
	return why
}

// stand takes a place, or stands in line for one.
func (r *room) stand(key, token string) *guest {
	if r.most <= 0 {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.there[key] {
		return nil
	}
	if len(r.line) == 0 && r.hasLocked() {
		r.made[key] = true
		return nil
	}
	g := &guest{key: key, token: token, in: make(chan struct{})}
	r.line = append(r.line, g)
	return g
}

func (r *room) hasLocked() bool { return len(r.there)+len(r.made) < r.most }

// leave gives back the place of a Job that was not made, or is over.
func (r *room) leave(key string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.made[key] {
		delete(r.made, key)
		r.admitLocked()
	}
}

// heard takes note of a Job that a watch has told of, or that has gone. ctx ends when the watch
// does, before its Jobs are forgotten.
func (r *room) heard(ctx context.Context, key string, there bool) {
	if r.most <= 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if ctx.Err() != nil {
		return
	}
	if there {
		if r.there[key] {
			return
		}
		r.there[key] = true
		delete(r.made, key)
	} else {
		delete(r.there, key)
	}
	r.admitLocked()
}

// forget forgets the Jobs of a namespace that is watched no longer.
func (r *room) forget(namespace string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.DeleteFunc(r.there, func(key string, _ bool) bool { return strings.HasPrefix(key, keyOf(namespace, "")) })
	r.admitLocked()
}

// admitLocked lets in those whose Jobs are there, and as many others as there is room for.
func (r *room) admitLocked() {
	r.line = slices.DeleteFunc(r.line, func(g *guest) bool {
		switch {
		case r.there[g.key]:
		case r.hasLocked():
			r.made[g.key] = true
		default:
			return false
		}
		close(g.in)
		return true
	})
}

// waits tells whether somebody stands in line.
func (r *room) waits() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.line) > 0
}

// why tells what an attempt waits for that stands in line; empty if it does not.
func (r *room) why(token string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if slices.ContainsFunc(r.line, func(g *guest) bool { return g.token == token }) {
		return r.full()
	}
	return ""
}

func (r *room) full() string {
	return fmt.Sprintf("there are %d Jobs, and no more may be at once (NAVVY_KUBE_MAX_JOBS); those that have ended count until their results are kept", r.most)
}
