package holder

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/engine/driver"
	"github.com/navvy-run/navvy/engine/memory"
)

// fullStore is a store whose disk can be full: Apply then waits for space, the
// end of its context, or Close.
type fullStore struct {
	*memory.Store
	full    atomic.Bool
	waiting chan struct{} // told of each Apply that waits
	space   chan struct{} // closed when there is space again
	closed  chan struct{}
}

func (s *fullStore) Apply(ctx context.Context, b *driver.Batch) error {
	if s.full.Load() {
		select {
		case s.waiting <- struct{}{}:
		default:
		}
		select {
		case <-s.space:
		case <-s.closed:
			return navvy.ErrClosed
		case <-ctx.Done():
			return errors.Join(navvy.ErrUnavailable, ctx.Err())
		}
	}
	return s.Store.Apply(ctx, b)
}

func (s *fullStore) Close() error {
	close(s.closed)
	return s.Store.Close()
}

// A holder on a full disk leaves when its context ends, whatever waits for space.
func TestCloseOnFullDisk(t *testing.T) {
	t.Parallel()
	for name, write := range map[string]func(t *testing.T, h *Holder, fill func()){
		"an answer": func(t *testing.T, h *Holder, fill func()) {
			c, gate := client.New(h.Conn()), t.TempDir()+"/gate"
			id := submit(t, c, navvy.Job{Detached: true, Spec: shell("until test -e " + gate + "; do sleep 0.01; done")}, "x")
			awaitStatus(t, c, id, func(st *navvy.Status) bool { return st.Counts.Running == 1 })
			fill()
			touch(t, gate)
		},
		"a call": func(t *testing.T, h *Holder, fill func()) {
			c := client.New(dial(t, h.cfg.Dir))
			id := submit(t, c, navvy.Job{Detached: true, Spec: navvy.Spec{Noop: &navvy.Noop{}}}, "x")
			if _, err := c.Wait(t.Context(), id); err != nil {
				t.Fatal(err)
			}
			fill()
			called := make(chan struct{})
			go func() {
				defer close(called)
				if err := c.Printed(t.Context(), id, nil); err == nil {
					t.Error("it was written on a full disk")
				}
			}()
			t.Cleanup(func() { <-called })
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := testConfig(t)
			store := &fullStore{Store: memory.New(), waiting: make(chan struct{}, 1), space: make(chan struct{}), closed: make(chan struct{})}
			cfg.OpenStore = func(context.Context, func(bool), func(error)) (driver.Store, error) { return store, nil }
			lock, _, err := cfg.Dir.TryLock()
			if err != nil {
				t.Fatal(err)
			}
			h, err := Start(t.Context(), lock, cfg)
			if err != nil {
				t.Fatal(err)
			}
			write(t, h, func() { store.full.Store(true) })
			<-store.waiting
			closed := make(chan struct{})
			go func() {
				defer close(closed)
				ctx, cancel := context.WithCancel(context.Background())
				cancel()
				_, _ = h.Close(ctx, true) // what it could not do any more is no matter here
			}()
			select {
			case <-closed:
			case <-time.After(20 * time.Second):
				t.Error("it waits for space although it must leave")
				close(store.space)
				<-closed
			}
			again, pid, err := cfg.Dir.TryLock()
			if err != nil || again == nil {
				t.Fatalf("the lock is held by %d: %v", pid, err)
			}
			if err := again.Unlock(); err != nil {
				t.Error(err)
			}
		})
	}
}
