package sim

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine/driver"
)

// breaks are the rules that a simulation breaks on purpose.
type breaks struct {
	lies       func(file string) bool           // files whose Sync does nothing
	deaf       bool                             // workers do not hear that they should stop
	forgetHold bool                             // a hold does nothing
	longer     time.Duration                    // how much longer than agreed a lease is honoured
	change     func(*driver.Batch)              // what becomes of a batch on its way to the store
	fail       func(writes int) (instead error) // an error that comes from nowhere
}

func (s *sim) leaseOf() time.Duration { return lease + s.longer }

func (s *sim) wrap(store driver.Store) driver.Store {
	if s.change == nil && s.fail == nil {
		return store
	}
	return &brokenStore{Store: store, breaks: &s.breaks}
}

// brokenStore is a store that does something else than it was told.
type brokenStore struct {
	driver.Store
	*breaks
	writes int
}

func (b *brokenStore) Apply(ctx context.Context, batch *driver.Batch) error {
	b.writes++
	if b.fail != nil {
		if err := b.fail(b.writes); err != nil {
			return err
		}
	}
	other := &driver.Batch{}
	other.Append(batch)
	if b.change != nil {
		b.change(other)
	}
	return b.Store.Apply(ctx, other)
}

// loses leaves out what a batch puts into a table.
func loses(table byte) func(*driver.Batch) {
	return func(b *driver.Batch) {
		b.Ops = slices.DeleteFunc(slices.Clone(b.Ops), func(op driver.Op) bool {
			return op.Kind == driver.OpPut && op.Key[0] == table
		})
	}
}

// forgets drops each batch that puts something into a table.
func forgets(table byte) func(*driver.Batch) {
	return func(b *driver.Batch) {
		if slices.ContainsFunc(b.Ops, func(op driver.Op) bool { return op.Kind == driver.OpPut && op.Key[0] == table }) {
			b.Reset()
		}
	}
}

// TestBrokenPromises breaks each rule on purpose, and sees that the simulation
// says so, by that rule's name: a check that cannot fail checks nothing. The
// letters of the tables are those of docs/engine.md.
func TestBrokenPromises(t *testing.T) {
	t.Parallel()
	for _, broken := range []struct {
		rule rule
		what string
		breaks
	}{
		{ruleDurable, "the store's own log is not synced", breaks{lies: func(file string) bool { return strings.HasSuffix(file, ".log") }}},
		{ruleAnswered, "results are acknowledged, and not stored", breaks{change: forgets('r')}},
		{ruleOnce, "the store ignores the conditions of a batch", breaks{change: func(b *driver.Batch) { b.Conditions = nil }}},
		{ruleLease, "leases are honoured for a minute more", breaks{longer: time.Minute}},
		{ruleStopped, "workers do not hear that they should stop", breaks{deaf: true}},
		{ruleOutput, "the logs of output are not synced", breaks{lies: func(file string) bool { return strings.Contains(file, "/output/") }}},
		{ruleIDs, "the epoch is not stored", breaks{change: loses('m')}},
		{ruleAtomic, "a retry forgets earlier results", breaks{change: loses('h')}},
		{ruleTries, "failed attempts are not stored", breaks{change: loses('a')}},
		{ruleCounts, "each result is stored twice", breaks{change: twice('r')}},
		{ruleHeld, "a hold does nothing", breaks{forgetHold: true}},
		{ruleKey, "idempotency keys are not stored", breaks{change: loses('k')}},
		{ruleCut, "nobody notes that inputs are still coming", breaks{change: loses('n')}},
		{ruleRegistry, "what is registered is not stored", breaks{change: loses('g')}},
		{ruleValues, "values are not stored", breaks{change: loses('v')}},
		{ruleFiles, "names of files are not stored", breaks{change: loses('f')}},
		{ruleFiles, "the logs of files are not synced", breaks{lies: func(file string) bool { return strings.Contains(file, "/logs/files/") }}},
		{ruleFiles, "nobody notes that a file is begun", breaks{change: loses('d')}},
		{ruleLetters, "answered messages are not noted", breaks{change: loses('w')}},
		{ruleTables, "ended jobs are not noted for expiry", breaks{change: loses('e')}},
		{ruleCalls, "a write fails without a reason", breaks{fail: func(writes int) error {
			if writes == 20 {
				return fmt.Errorf("a whim: %w", navvy.ErrUnavailable)
			}
			return nil
		}}},
	} {
		t.Run(broken.what, func(t *testing.T) {
			t.Parallel()
			found := map[rule]int{}
			for seed := range uint64(3000) {
				bad, _ := simulate(t, config{seed: seed, memory: false, breaks: broken.breaks})
				if bad == nil {
					continue
				}
				found[bad.rule]++
				if bad.rule == broken.rule {
					t.Logf("seed %d: %v", seed, bad)
					return
				}
			}
			t.Errorf("nobody says that %q is broken; what was said: %v", broken.rule, found)
		})
	}
}

// twice stores what is put into a table a second time, under a later index.
func twice(table byte) func(*driver.Batch) {
	return func(b *driver.Batch) {
		for _, op := range slices.Clone(b.Ops) {
			if op.Kind == driver.OpPut && op.Key[0] == table {
				key := slices.Clone(op.Key)
				key[len(key)-5]++
				b.Put(key, op.Value)
			}
		}
	}
}
