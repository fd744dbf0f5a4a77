package worker

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/navvy-run/navvy"
)

func gpuSpec(n int64) *navvy.Spec {
	return &navvy.Spec{Resources: map[string]int64{navvy.ResourceGPU: n}}
}

// Who finds no room waits for its turn, and gets numbers that nobody has.
func TestRoomIsShared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(&navvy.Offer{Resources: map[string]int64{navvy.ResourceGPU: 3}})
		never := make(chan struct{})
		first, _ := r.enter(gpuSpec(2), nil, never)
		if got := r.environment(first); len(got) != 1 || got[0] != "CUDA_VISIBLE_DEVICES=0,1" {
			t.Errorf("the first has %q", got)
		}
		if got := r.environment(nil); len(got) != 1 || got[0] != "CUDA_VISIBLE_DEVICES=" {
			t.Errorf("one without has %q", got)
		}
		var order []string
		var all sync.WaitGroup
		wait := func(name string, n int64) {
			all.Go(func() {
				g, _ := r.enter(gpuSpec(n), nil, never)
				order = append(order, name+" "+r.environment(g)[0])
				r.leave(g)
			})
			synctest.Wait()
		}
		wait("big", 3)
		wait("small", 1)
		if len(order) > 0 {
			t.Errorf("%q came in before there was room, or before those ahead", order)
		}
		r.leave(first)
		all.Wait()
		if got := strings.Join(order, "; "); got != "big CUDA_VISIBLE_DEVICES=0,1,2; small CUDA_VISIBLE_DEVICES=0" {
			t.Errorf("they came in as %s", got)
		}
	})
}

// One that is told to end does not wait any more, and stands in nobody's way.
func TestStoppedOutside(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(&navvy.Offer{CPUs: 2000})
		never, stopped := make(chan struct{}), make(chan struct{})
		one, two := &navvy.Spec{Limits: navvy.Limits{CPUs: 1000}}, &navvy.Spec{Limits: navvy.Limits{CPUs: 2000}}
		first, _ := r.enter(one, nil, never)
		var in, out atomic.Int32
		var all sync.WaitGroup
		all.Go(func() {
			if _, ok := r.enter(two, nil, stopped); !ok {
				out.Add(1)
			}
		})
		synctest.Wait()
		all.Go(func() {
			g, _ := r.enter(one, nil, never)
			in.Add(1)
			r.leave(g)
		})
		synctest.Wait()
		if in.Load()+out.Load() > 0 {
			t.Error("they did not wait")
		}
		close(stopped)
		all.Wait()
		r.leave(first)
		if g, ok := r.enter(two, nil, never); !ok {
			t.Error("not all is free")
		} else {
			r.leave(g)
		}
	})
}

func TestNeverFits(t *testing.T) {
	t.Parallel()
	r := newRoom(&navvy.Offer{Resources: map[string]int64{navvy.ResourceGPU: 1}})
	if r.keepsOut(gpuSpec(2)) == "" || r.keepsOut(gpuSpec(1)) != "" || r.keepsOut(&navvy.Spec{}) != "" {
		t.Error("it does not know whom it has room for")
	}
	if none := newRoom(&navvy.Offer{}); none.environment(nil) != nil {
		t.Error("it hides processors that it does not know of")
	}
}

// What a worker cannot have is told before it connects.
func TestBadOffer(t *testing.T) {
	t.Parallel()
	for _, o := range []*Options{
		{Labels: map[string]string{"GPU": "x"}}, {Resources: map[string]int64{"gpu": 1 << 60}}, {CPUs: -1}, {Memory: -1, Dir: t.TempDir()},
	} {
		if err := New(nil, nil, o).Run(t.Context()); !errors.Is(err, navvy.ErrInvalid) || !errors.Is(o.Validate(), navvy.ErrInvalid) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// Where owners cannot be kept apart, nobody comes in beside what another one has left,
// and who waits comes in when all of it is gone.
func TestRoomHasOneOwner(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(&navvy.Offer{})
		never := make(chan struct{})
		ann, bob, spec := "ann", "bob", &navvy.Spec{}
		first, _ := r.enter(spec, &ann, never)
		second, _ := r.enter(spec, &ann, never)
		if _, ok := r.enter(spec, nil, never); !ok {
			t.Error("one that is no process waits")
		}
		var in atomic.Bool
		go func() {
			r.enter(spec, &bob, never)
			in.Store(true)
		}()
		for _, g := range []*guest{first, second} {
			if synctest.Wait(); in.Load() {
				t.Error("bob's comes in beside ann's")
			}
			r.leave(g)
		}
		if synctest.Wait(); !in.Load() {
			t.Error("bob's does not come in")
		}
	})
}
