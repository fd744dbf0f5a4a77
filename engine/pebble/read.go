package pebble

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"

	lsm "github.com/cockroachdb/pebble/v2"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine/driver"
)

// Get implements driver.Store.
func (s *Store) Get(ctx context.Context, key []byte) ([]byte, error) {
	if err := s.life.Begin(ctx); err != nil {
		return nil, fmt.Errorf("pebble: get: %w", err)
	}
	defer s.life.Done()
	var value []byte
	err := s.see(ctx, func(r lsm.Reader) (err error) {
		value, err = s.get(r, key)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("pebble: get %q: %w", key, err)
	}
	return value, nil
}

// see runs what reads the map, or opens an iterator on it. What was seen is
// durable when it returns.
func (s *Store) see(ctx context.Context, f func(r lsm.Reader) error) error {
	if done, err := s.before.see(f); done {
		return errors.Join(err, s.life.Failure())
	}
	err := f(s.db)
	// All that can have been seen was begun before now.
	return errors.Join(s.durable(ctx, s.last.Load()), err)
}

// before is the map before a commit on a full disk, which may wait for space.
type before struct {
	mu       sync.RWMutex
	commit   *commit
	snapshot *lsm.Snapshot
}

// see runs f on the snapshot while the commit is not done. An iterator may
// outlive the snapshot.
func (b *before) see(f func(r lsm.Reader) error) (done bool, err error) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.commit == nil {
		return false, nil
	}
	select {
	case <-b.commit.done:
		return false, nil
	default:
		return true, f(b.snapshot)
	}
}

// set replaces the commit; nil means that there is none.
func (b *before) set(c *commit, snapshot *lsm.Snapshot) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.commit, b.snapshot = c, snapshot
}

func (s *Store) get(r lsm.Reader, key []byte) ([]byte, error) {
	if len(key) == 0 {
		return nil, navvy.ErrNotFound
	}
	value, closer, err := r.Get(key)
	if errors.Is(err, lsm.ErrNotFound) {
		return nil, navvy.ErrNotFound
	}
	if err != nil {
		return nil, s.readError(err)
	}
	value = bytes.Clone(value)
	if err := closer.Close(); err != nil {
		return nil, s.readError(err)
	}
	return value, nil
}

// Scan implements driver.Store.
func (s *Store) Scan(ctx context.Context, r driver.Range, fn func(key, value []byte) error) error {
	if err := s.life.Begin(ctx); err != nil {
		return fmt.Errorf("pebble: scan: %w", err)
	}
	defer s.life.Done()
	fnErr, err := s.scan(ctx, r, fn)
	switch {
	case errors.Is(fnErr, driver.ErrStop):
		return nil
	case fnErr != nil:
		return fnErr
	case err != nil:
		return fmt.Errorf("pebble: scan: %w", err)
	}
	return nil
}

// scan tells the errors of fn from those of the store.
func (s *Store) scan(ctx context.Context, r driver.Range, fn func(key, value []byte) error) (fnErr, err error) {
	// To the storage engine an empty bound is one, which shuts out everything.
	var bounds lsm.IterOptions
	if len(r.Start) > 0 {
		bounds.LowerBound = r.Start
	}
	if len(r.End) > 0 {
		bounds.UpperBound = r.End
	}
	var it *lsm.Iterator
	defer func() {
		if it != nil {
			if closeErr := it.Close(); closeErr != nil && err == nil {
				err = s.readError(closeErr)
			}
		}
	}()
	err = s.see(ctx, func(r lsm.Reader) (err error) {
		if it, err = r.NewIterWithContext(ctx, &bounds); err != nil {
			return s.readError(err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return s.each(ctx, it, r, fn)
}

// each calls fn for the pairs.
func (s *Store) each(ctx context.Context, it *lsm.Iterator, r driver.Range, fn func(key, value []byte) error) (fnErr, err error) {
	first, next := it.First, it.Next
	if r.Reverse {
		first, next = it.Last, it.Prev
	}
	n := 0
	for ok := first(); ok; ok = next() {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("%w: %w", navvy.ErrUnavailable, err)
		}
		if err := s.life.Over(); err != nil {
			return nil, err
		}
		value, err := it.ValueAndErr()
		if err != nil {
			return nil, s.readError(err)
		}
		if err := fn(it.Key(), value); err != nil {
			return err, nil
		}
		if n++; n == r.Limit {
			return nil, nil
		}
	}
	if err := it.Error(); err != nil {
		return nil, s.readError(err)
	}
	// What a failed store lost in the meantime looks like the end.
	return nil, s.life.Failure()
}

// readError gives an error of reading its sentinel.
func (s *Store) readError(err error) error {
	if failure := s.life.Failure(); failure != nil {
		return failure
	}
	if lsm.IsCorruptionError(err) {
		place := s.dir
		if info := lsm.ExtractDataCorruptionInfo(err); info != nil {
			place = info.Path
		}
		return fmt.Errorf("%s: corrupt: %w", place, damaged{err})
	}
	return fmt.Errorf("%s: %w: %w", s.dir, navvy.ErrUnavailable, err)
}
