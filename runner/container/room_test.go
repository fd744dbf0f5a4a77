package container

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
)

// No more Jobs are made than there may be, whether the watch knows of them yet or not; who
// waits comes in when one has gone, in order, and is told what it waits for.
func TestRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(2)
		for _, key := range []string{"a", "b"} {
			if err := r.enter(t.Context(), key, key); err != nil {
				t.Fatal(err)
			}
		}
		r.heard(t.Context(), "a", true)
		r.heard(t.Context(), "a", true)
		var in []string
		come := make(chan string, 2)
		enter := func(key string) {
			go func() {
				if err := r.enter(t.Context(), key, key); err != nil {
					t.Error(err)
				}
				come <- key
			}()
			synctest.Wait()
		}
		enter("c")
		enter("d")
		if r.why("c") == "" || r.why("d") == "" || r.why("b") != "" || !r.waits() || len(come) > 0 {
			t.Fatalf("c waits for %q, b for %q, %d are in", r.why("c"), r.why("b"), len(come))
		}
		r.heard(t.Context(), "b", true)
		r.heard(t.Context(), "b", false) // has gone
		in = append(in, <-come)
		synctest.Wait()
		r.leave("c") // was not made
		in = append(in, <-come)
		if !slices.Equal(in, []string{"c", "d"}) || r.waits() || r.why("d") != "" {
			t.Errorf("%v came in", in)
		}
	})
}

// A task whose Job is there never waits, also if the watch hears of that while it does.
func TestRoomAdopts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(1)
		r.heard(t.Context(), "a", true)
		if err := r.enter(t.Context(), "a", "1"); err != nil {
			t.Error(err)
		}
		done := make(chan error, 1)
		go func() { done <- r.enter(t.Context(), "b", "2") }()
		synctest.Wait()
		r.heard(t.Context(), "b", true)
		if err := <-done; err != nil {
			t.Error(err)
		}
		r.leave("b")
		r.heard(t.Context(), "a", false)
		if r.stand("c", "3") == nil {
			t.Error("b is there and yet there is room for c")
		}
	})
}

// A wait ends with its context, or gives the task back: its slot may be wanted by one whose
// Job has ended.
func TestRoomPatience(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(1)
		r.heard(t.Context(), "a", true)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.enter(ctx, "b", "1"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("ended with %v", err)
		}
		began := time.Now()
		err := r.enter(t.Context(), "b", "2")
		if _, is := errors.AsType[*driver.Away](err); !is || time.Since(began) != roomPatience {
			t.Errorf("ended with %v after %s", err, time.Since(began))
		}
		if r.waits() {
			t.Error("somebody still stands in line")
		}
		r.heard(t.Context(), "a", false)
		if r.stand("c", "3") != nil {
			t.Error("there is no room though all have gone")
		}
	})
}

// The Jobs of a namespace that is watched no longer do not count, also if its watch tells late.
func TestRoomForgets(t *testing.T) {
	t.Parallel()
	r := newRoom(2)
	ctx, cancel := context.WithCancel(t.Context())
	r.heard(ctx, keyOf("team", "a"), true)
	r.heard(ctx, keyOf("teams", "b"), true)
	cancel()
	r.forget("team")
	r.heard(ctx, keyOf("team", "a"), true)
	if r.stand("c", "1") != nil || r.stand("d", "2") == nil {
		t.Errorf("there are %v, and %v are made", r.there, r.made)
	}
}

func TestNoRoom(t *testing.T) {
	t.Parallel()
	r := newRoom(0)
	r.heard(t.Context(), "a", true)
	for range 100 {
		if err := r.enter(t.Context(), "a", "t"); err != nil {
			t.Fatal(err)
		}
	}
	if len(r.there)+len(r.made) > 0 {
		t.Error("a bound that is none is counted")
	}
}

// Handles say the namespace; those of an earlier version stand for the driver's own.
func TestHandles(t *testing.T) {
	t.Parallel()
	const uid = "0a1b2c3d-0000-8000-8000-000000000000"
	a := &attempt{name: "navvy-x", uid: uid, space: &space{cluster: &cluster{namespace: "team"}}}
	if len(a.Handle()) > driver.MaxHandle {
		t.Errorf("%s is too long", a.Handle())
	}
	for text, want := range map[string]handle{
		string(a.Handle()):           {"navvy-x", uid, "team"},
		"container/1 navvy-x " + uid: {"navvy-x", uid, ""},
	} {
		if h, err := parseHandle([]byte(text)); err != nil || h != want {
			t.Errorf("%s is %+v, %v", text, h, err)
		}
	}
	for _, text := range []string{"", "container/1 x " + uid + " ns", "container/2 x " + uid, "container/2 x short ns", "container/3 x " + uid + " ns", "container/2  " + uid + " ns"} {
		if h, err := parseHandle([]byte(text)); !errors.Is(err, navvy.ErrCorrupt) {
			t.Errorf("%q is %+v, %v", text, h, err)
		}
	}
}
