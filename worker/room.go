package worker

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/navvy-run/navvy"
)

// envGPUs is where a task finds which graphics processors are its own, as CUDA has it.
const envGPUs = "CUDA_VISIBLE_DEVICES"

// room shares out what a worker has. A server gives it no more than that; but an
// attempt that the server has given up may still be there when the next one comes,
// which then waits; also if it has another owner, whom the worker cannot keep apart. What
// others keep warm there has no place in the room: whoever is in ends it, see
// Worker.vacate. All methods may be called at once.
type room struct {
	offer navvy.Offer

	mu      sync.Mutex
	in      navvy.Room
	gpus    []int64 // the numbers that nobody has, the lowest first
	waiting []*guest
	owners  map[string]int // of the processes that are in, and how many, on a worker that cannot keep them apart
}

// guest is an attempt that wants to enter.
type guest struct {
	spec *navvy.Spec
	// owner is whose process it is, nil if it may be beside those of anybody.
	owner *string
	in    chan struct{} // closed when it may
	gpus  []int64       // that it was given
}

func newRoom(offer *navvy.Offer) *room {
	r := &room{offer: *offer, owners: map[string]int{}}
	r.in.Offer = &r.offer
	for i := range min(offer.Resources[navvy.ResourceGPU], navvy.MaxUnits) {
		r.gpus = append(r.gpus, i)
	}
	return r
}

// keepsOut says why an attempt could wait for ever; empty if it could not.
func (r *room) keepsOut(s *navvy.Spec) string {
	if r.offer.Fits(s) {
		return ""
	}
	return "this worker has not what the task asks for: it has labels " + fmt.Sprint(r.offer.Labels) + " and resources " + fmt.Sprint(r.offer.Resources)
}

// enter waits until there is room for an attempt, after those who came before, or
// until stopped is closed; ok tells whether it is in.
func (r *room) enter(s *navvy.Spec, owner *string, stopped <-chan struct{}) (g *guest, ok bool) {
	g = &guest{spec: s, owner: owner, in: make(chan struct{})}
	r.mu.Lock()
	r.waiting = append(r.waiting, g)
	r.admitLocked()
	r.mu.Unlock()
	select {
	case <-g.in:
		return g, true
	default:
	}
	select {
	case <-g.in:
		return g, true
	case <-stopped:
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	at := slices.Index(r.waiting, g)
	if at < 0 {
		return g, true // it was let in just now
	}
	r.waiting = slices.Delete(r.waiting, at, at+1)
	r.admitLocked() // who stood behind it may fit
	return nil, false
}

// leave gives back what an attempt had.
func (r *room) leave(g *guest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.in.Give(g.spec)
	if g.owner != nil {
		if r.owners[*g.owner]--; r.owners[*g.owner] == 0 {
			delete(r.owners, *g.owner)
		}
	}
	r.gpus = append(r.gpus, g.gpus...)
	slices.Sort(r.gpus)
	r.admitLocked()
}

// mayLocked tells whether a guest may come in.
func (r *room) mayLocked(g *guest) bool {
	return r.in.Has(g.spec) && (g.owner == nil || len(r.owners) == 0 || r.owners[*g.owner] > 0)
}

func (r *room) admitLocked() {
	for len(r.waiting) > 0 && r.mayLocked(r.waiting[0]) {
		g := r.waiting[0]
		r.waiting = slices.Delete(r.waiting, 0, 1)
		r.in.Take(g.spec)
		if g.owner != nil {
			r.owners[*g.owner]++
		}
		n := g.spec.Resources[navvy.ResourceGPU]
		g.gpus = slices.Clone(r.gpus[:n])
		r.gpus = slices.Delete(r.gpus, 0, int(n))
		close(g.in)
	}
}

// environment is what an attempt is told of what it has: on a worker with graphics
// processors which are its own, also if none is, or it would see those of others.
func (r *room) environment(g *guest) []string {
	if r.offer.Resources[navvy.ResourceGPU] == 0 {
		return nil
	}
	var numbers []string
	if g != nil {
		for _, n := range g.gpus {
			numbers = append(numbers, strconv.FormatInt(n, 10))
		}
	}
	return []string{envGPUs + "=" + strings.Join(numbers, ",")}
}
