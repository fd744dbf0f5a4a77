package pebble

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	lsm "github.com/cockroachdb/pebble/v2"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine/driver"
)

// Get implements driver.Store.
func (s *Store) Get(ctx context.Context, key []byte) ([]byte, error) {
	if err := s.begin(ctx); err != nil {
		return nil, fmt.Errorf("pebble: get: %w", err)
	}
	defer s.calls.Done()
	value, err := s.get(key)
	// All that get can have seen was begun before now.
	if err := s.durable(ctx, s.last.Load()); err != nil {
		return nil, fmt.Errorf("pebble: get: %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("pebble: get %q: %w", key, err)
	}
	return value, nil
}

func (s *Store) get(key []byte) ([]byte, error) {
	if len(key) == 0 {
		return nil, navvy.ErrNotFound
	}
	value, closer, err := s.db.Get(key)
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
	if err := s.begin(ctx); err != nil {
		return fmt.Errorf("pebble: scan: %w", err)
	}
	defer s.calls.Done()
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
	it, err := s.db.NewIterWithContext(ctx, &bounds)
	if err != nil {
		return nil, s.readError(err)
	}
	defer func() {
		if closeErr := it.Close(); closeErr != nil && err == nil {
			err = s.readError(closeErr)
		}
	}()
	if err := s.durable(ctx, s.last.Load()); err != nil {
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
		if err := s.gave(); err != nil {
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
	return nil, nil
}

// readError gives an error of reading its sentinel.
func (s *Store) readError(err error) error {
	if failure := s.failure(); failure != nil {
		return failure
	}
	if lsm.IsCorruptionError(err) {
		place := s.dir
		if info := lsm.ExtractDataCorruptionInfo(err); info != nil {
			place = info.Path
		}
		return fmt.Errorf("%s: %w: %w", place, navvy.ErrCorrupt, err)
	}
	return fmt.Errorf("%s: %w: %w", s.dir, navvy.ErrUnavailable, err)
}
