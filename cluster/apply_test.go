package cluster

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/cluster/config"
	"github.com/navvy-run/navvy/cluster/driver"
)

// scripted is a driver that compiles to wanted, and notes what it is asked to do.
type scripted struct {
	driver.Driver
	world driver.World
	fails map[driver.ID]error
	takes time.Duration
	lost  chan struct{}
	held  []*driver.HeldError // what the first calls of Lock are told

	mu          sync.Mutex
	did         []string
	now, atOnce int
	released    bool
}

func (s *scripted) Compile(context.Context, *config.Cluster, []byte) ([]driver.Resource, error) {
	return wanted(), nil
}

func (s *scripted) Observe(context.Context, string) (*driver.World, error) { return &s.world, nil }

func (s *scripted) Put(ctx context.Context, _ string, r *driver.Resource) error {
	return s.do(ctx, "put", r.ID)
}

func (s *scripted) Remove(ctx context.Context, _ string, o *driver.Observed) error {
	return s.do(ctx, "remove", o.ID)
}

func (s *scripted) do(ctx context.Context, what string, id driver.ID) error {
	s.mu.Lock()
	s.did = append(s.did, what+" "+id.String())
	s.now++
	s.atOnce = max(s.atOnce, s.now)
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.now--
		s.mu.Unlock()
	}()
	select {
	case <-time.After(s.takes):
		return s.fails[id]
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *scripted) Lock(context.Context, string, driver.Holder) (driver.Lock, error) {
	if len(s.held) > 0 {
		h := s.held[0]
		s.held = s.held[1:]
		return nil, h
	}
	return s, nil
}

func (s *scripted) Lost() <-chan struct{}         { return s.lost }
func (s *scripted) Release(context.Context) error { s.released = true; return nil }

var file = &config.Cluster{Name: "c"}

// What needs what has failed is left out, with its reason; the rest is made, and removals, too.
func TestApplyFails(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	s := &scripted{fails: map[driver.ID]error{queue: boom}, world: driver.World{Resources: []driver.Observed{{ID: id("share", "old")}}}}
	var told []string
	_, err := New(s, &Options{Tell: func(e Event) { told = append(told, string(e.Phase)+" "+e.Change.ID.String()) }}).Apply(t.Context(), file)
	failed, is := errors.AsType[*FailedError](err)
	if !is || !errors.Is(err, boom) || len(failed.Failed) != 1 || len(failed.Left) != 1 || failed.Left[0].Change.ID != worker || failed.Done != 3 {
		t.Errorf("it failed as %+v", failed)
	}
	if text := err.Error(); !strings.Contains(text, "queue q: boom") || !strings.Contains(text, "1 of 5") {
		t.Errorf("it says %q", text)
	}
	if want := []string{"put cluster c", "put server s", "put queue q", "remove share old"}; !slices.Equal(s.did, want) || !s.released {
		t.Errorf("it did %q, and gave its lock back: %t", s.did, s.released)
	}
	if !slices.Contains(told, "left out worker 1") || !slices.Contains(told, "failed queue q") {
		t.Errorf("it told %q", told)
	}
}

// Something of another's in the place of a resource is named.
func TestApplyForeign(t *testing.T) {
	t.Parallel()
	s := &scripted{fails: map[driver.ID]error{server: navvy.ErrExists}}
	if _, err := New(s, nil).Apply(t.Context(), file); !errors.Is(err, navvy.ErrExists) || !strings.Contains(err.Error(), "not made for this cluster") {
		t.Errorf("it failed with %v", err)
	}
}

// What would be lost is not, unless that is said.
func TestApplyLoses(t *testing.T) {
	t.Parallel()
	s := &scripted{world: driver.World{Resources: []driver.Observed{{ID: id("queue", "old"), Holds: "3 requests"}}}}
	_, err := New(s, nil).Apply(t.Context(), file)
	if loses, is := errors.AsType[*LoseError](err); !is || len(loses.Lost) != 1 || !strings.Contains(err.Error(), "queue old: 3 requests") || len(s.did) != 0 {
		t.Errorf("it failed with %v, and did %q", err, s.did)
	}
	if _, err := New(s, &Options{Lose: true}).Apply(t.Context(), file); err != nil || !slices.Contains(s.did, "remove queue old") {
		t.Errorf("it failed with %v, and did %q", err, s.did)
	}
}

// No more is made at once than is asked for, and all of it if there is room.
func TestApplyAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		many := make([]driver.Observed, 10)
		for i := range many {
			many[i].ID = id("old", string(rune('a'+i)))
		}
		for _, n := range []int{1, 4, 20} {
			s := &scripted{takes: time.Second, world: driver.World{Resources: many}}
			if _, err := New(s, &Options{AtOnce: n}).Destroy(t.Context(), "c"); err != nil || s.atOnce != min(n, len(many)) {
				t.Errorf("with %d at once there were %d, %v", n, s.atOnce, err)
			}
		}
	})
}

// Who has lost the right to change a cluster changes nothing more.
func TestApplyLostLock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &scripted{takes: time.Hour, lost: make(chan struct{})}
		time.AfterFunc(time.Minute, func() { close(s.lost) })
		_, err := New(s, nil).Apply(t.Context(), file)
		if !errors.Is(err, navvy.ErrConflict) || len(s.did) != 1 || !strings.Contains(err.Error(), "lost") {
			t.Errorf("it failed with %v, and did %q", err, s.did)
		}
	})
}

// Who finds somebody else waits as long as is asked for, and tells for whom.
func TestLockWaits(t *testing.T) {
	t.Parallel()
	held := &driver.HeldError{Holder: driver.Holder{Who: "anna@desk", What: "apply"}}
	synctest.Test(t, func(t *testing.T) {
		s := &scripted{held: []*driver.HeldError{held, held}}
		_, err := New(s, nil).Apply(t.Context(), file)
		if got, is := errors.AsType[*driver.HeldError](err); !is || got.Who != "anna@desk" || !errors.Is(err, navvy.ErrConflict) {
			t.Errorf("it is told %v", err)
		}
		told := 0
		s.held = []*driver.HeldError{held, held, held}
		if _, err := New(s, &Options{Wait: time.Minute, Waiting: func(h driver.Holder) { told++ }}).Apply(t.Context(), file); err != nil || told != 1 {
			t.Errorf("it waited, was told %d times, and %v", told, err)
		}
	})
}

// What is made waits also for what is made anew behind something that stays.
func TestApplyThroughSame(t *testing.T) {
	t.Parallel()
	s := &scripted{fails: map[driver.ID]error{server: errors.New("boom")}, world: driver.World{Resources: []driver.Observed{
		{ID: mark, Health: driver.HealthOK}, {ID: queue, Health: driver.HealthOK, Properties: driver.Properties{"service": "echo"}},
	}}}
	if _, err := New(s, nil).Apply(t.Context(), file); err == nil || !slices.Equal(s.did, []string{"put server s"}) {
		t.Errorf("it did %q, and failed with %v", s.did, err)
	}
}

// What holds something stays while what was to come in its place is not there, and so does what
// that needs; the rest goes.
func TestApplyKeeps(t *testing.T) {
	t.Parallel()
	old, under, other := id("queue", "old"), id("server", "old"), id("share", "old")
	s := &scripted{fails: map[driver.ID]error{queue: errors.New("boom")}, world: driver.World{Resources: []driver.Observed{
		{ID: under}, {ID: old, Needs: []driver.ID{under}, Holds: "3 requests"}, {ID: other},
	}}}
	_, err := New(s, &Options{Lose: true}).Apply(t.Context(), file)
	failed, is := errors.AsType[*FailedError](err)
	if !is || len(failed.Left) != 3 || slices.Contains(s.did, "remove queue old") || slices.Contains(s.did, "remove server old") || !slices.Contains(s.did, "remove share old") {
		t.Errorf("it did %q, and failed with %v", s.did, err)
	}
}
