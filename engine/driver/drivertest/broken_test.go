package drivertest

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine/driver"
	"github.com/navvy-run/navvy/engine/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A store of which nothing is broken, and that keeps its own record of what is
// durable, passes; so what the others fail for is what they break.
func TestSound(t *testing.T) {
	t.Parallel()
	if err := CheckCrash(t, lossy(faults{}), 1); err != nil {
		t.Error(err)
	}
}

// Each rule that the crash test checks is broken by a store that is otherwise
// sound, and found.
func TestCrashFindsBroken(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]faults{
		"acknowledges early":           {forget: 2},
		"acknowledges the last early":  {forget: 1},
		"tears a batch":                {tear: true},
		"shows what is not durable":    {showEarly: true},
		"conflicts before it is safe":  {conflictEarly: true},
		"loses a batch in the middle":  {skip: true},
		"reports logs synced too soon": {logNotSynced: true},
		"revives dropped logs":         {dropNothing: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// What is left to chance may hide a fault once, not forty times.
			for seed := range uint64(40) {
				if err := CheckCrash(t, lossy(f), seed); err != nil {
					t.Log(err)
					return
				}
			}
			t.Error("not found")
		})
	}
}

// Each rule of concurrent use is broken, and found.
func TestChecksFindBroken(t *testing.T) {
	t.Parallel()
	conditions := func(s driver.Store) error { return checkConditions(context.Background(), s) }
	winner := func(s driver.Store) error { return checkOneWinner(context.Background(), s) }
	counter := func(s driver.Store) error { return checkCounter(context.Background(), s) }
	transfers := func(s driver.Store) error { return checkTransfers(context.Background(), s, 1) }
	for name, test := range map[string]struct {
		make  func(driver.Store) driver.Store
		check func(driver.Store) error
	}{
		"no conditions":            {func(s driver.Store) driver.Store { return unconditional{s} }, conditions},
		"no conditions, claims":    {func(s driver.Store) driver.Store { return unconditional{s} }, winner},
		"no conditions, counter":   {func(s driver.Store) driver.Store { return unconditional{s} }, counter},
		"conditions judged before": {func(s driver.Store) driver.Store { return racy{s} }, winner},
		"one conflict named":       {func(s driver.Store) driver.Store { return terse{s} }, conditions},
		"scans in pieces":          {func(s driver.Store) driver.Store { return piecemeal{s} }, transfers},
		"torn batches":             {func(s driver.Store) driver.Store { return piecewise{s} }, transfers},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for range 20 {
				s := memory.New()
				err := test.check(test.make(s))
				_ = s.Close()
				if err != nil {
					t.Log(err)
					return
				}
			}
			t.Error("not found")
		})
	}
}

// unconditional ignores conditions.
type unconditional struct{ driver.Store }

func (s unconditional) Apply(ctx context.Context, b *driver.Batch) error {
	runtime.Gosched()
	return s.Store.Apply(ctx, &driver.Batch{Ops: b.Ops})
}

// racy judges the conditions, and later makes the changes.
type racy struct{ driver.Store }

func (s racy) Apply(ctx context.Context, b *driver.Batch) error {
	if err := s.Store.Apply(ctx, &driver.Batch{Conditions: b.Conditions}); err != nil {
		return err
	}
	runtime.Gosched()
	return s.Store.Apply(ctx, &driver.Batch{Ops: b.Ops})
}

// terse names only the first key of a conflict.
type terse struct{ driver.Store }

func (s terse) Apply(ctx context.Context, b *driver.Batch) error {
	err := s.Store.Apply(ctx, b)
	if conflict, ok := errors.AsType[*driver.ConflictError](err); ok {
		conflict.Keys = conflict.Keys[:1]
	}
	return err
}

// piecemeal scans one pair at a time.
type piecemeal struct{ driver.Store }

func (s piecemeal) Scan(ctx context.Context, r driver.Range, fn func(key, value []byte) error) error {
	for {
		r.Limit = 1
		n := 0
		err := s.Store.Scan(ctx, r, func(key, value []byte) error {
			n++
			if r.Reverse {
				r.End = slices.Clone(key)
			} else {
				r.Start = append(slices.Clone(key), 0)
			}
			return fn(key, value)
		})
		if err != nil || n == 0 {
			return err
		}
	}
}

// piecewise makes the changes of a batch one after the other.
type piecewise struct{ driver.Store }

func (s piecewise) Apply(ctx context.Context, b *driver.Batch) error {
	for i := range b.Ops {
		part := &driver.Batch{Ops: b.Ops[i : i+1]}
		if i == 0 {
			part.Conditions = b.Conditions
		}
		if err := s.Store.Apply(ctx, part); err != nil {
			return err
		}
	}
	return nil
}

// faults are what a lossy store does wrong.
type faults struct {
	forget        int  // a crash forgets so many of the last acknowledged batches
	tear          bool // a crash leaves half of a batch that is under way
	skip          bool // a crash loses a batch and keeps later ones
	showEarly     bool // batches can be read before they are durable
	conflictEarly bool // conflicts are told before the winner is durable
	logNotSynced  bool // Sync of a log does nothing
	dropNothing   bool // DropLogs does nothing durable
}

// lossyStore is a store in memory that records which batches are durable. A
// crash replays those.
type lossyStore struct {
	*memory.Store
	faults
	mu      sync.Mutex
	durable []*driver.Batch
	pending *driver.Batch // is applied and will never be durable
	crashed chan struct{}
}

func lossy(f faults) Harness {
	return Harness{
		New: func(testing.TB) driver.Store {
			return &lossyStore{Store: memory.New(), faults: f, crashed: make(chan struct{})}
		},
		Crash: func(t testing.TB, s driver.Store, _ uint64) driver.Store { return s.(*lossyStore).crash(t) },
	}
}

func (s *lossyStore) Apply(ctx context.Context, b *driver.Batch) error {
	s.mu.Lock()
	stuck := s.pending == nil && len(s.durable) > 15 && (s.tear || s.showEarly || s.conflictEarly && isClaim(b))
	if stuck {
		err := s.tryStuck(ctx, b)
		s.mu.Unlock()
		if err != nil {
			return err
		}
		<-s.crashed
		return navvy.ErrUnavailable
	}
	defer s.mu.Unlock()
	err := s.Store.Apply(ctx, b)
	if err == nil {
		s.durable = append(s.durable, &driver.Batch{Ops: b.Ops})
	}
	return err
}

// tryStuck applies a batch that is never acknowledged.
func (s *lossyStore) tryStuck(ctx context.Context, b *driver.Batch) error {
	if err := s.Store.Apply(ctx, &driver.Batch{Conditions: b.Conditions}); err != nil {
		return err
	}
	s.pending = b
	if s.tear {
		return nil
	}
	return s.Store.Apply(ctx, &driver.Batch{Ops: b.Ops})
}

func isClaim(b *driver.Batch) bool {
	return len(b.Ops) == 1 && len(b.Ops[0].Key) > 5 && string(b.Ops[0].Key[:5]) == "claim"
}

func (s *lossyStore) CreateLog(ctx context.Context, name string) (driver.LogWriter, error) {
	w, err := s.Store.CreateLog(ctx, name)
	if err == nil && s.logNotSynced {
		return unsynced{w}, nil
	}
	return w, err
}

type unsynced struct{ driver.LogWriter }

func (unsynced) Sync() error { return nil }

func (s *lossyStore) DropLogs(ctx context.Context, prefix string) error {
	if s.dropNothing {
		return nil
	}
	return s.Store.DropLogs(ctx, prefix)
}

// crash replays what is durable into a store with the logs of the old one.
func (s *lossyStore) crash(t testing.TB) driver.Store {
	s.mu.Lock()
	close(s.crashed)
	left := &lossyStore{Store: s.Store.Crash(), faults: s.faults, crashed: make(chan struct{})}
	left.durable = slices.Clone(s.durable[:max(0, len(s.durable)-s.forget)])
	if s.skip && len(left.durable) > 10 {
		left.durable = slices.Delete(left.durable, len(left.durable)-10, len(left.durable)-9)
	}
	if s.tear && s.pending != nil {
		left.durable = append(left.durable, &driver.Batch{Ops: s.pending.Ops[:len(s.pending.Ops)/2]})
	}
	s.mu.Unlock()
	all := new(driver.Batch)
	all.DeleteRange([]byte{0}, nil)
	for _, b := range left.durable {
		all.Append(b)
		if all.Size() > driver.MaxBatch/2 {
			apply(t, left.Store, all)
			all.Reset()
		}
	}
	apply(t, left.Store, all)
	return left
}
