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
	it, err := s.db.NewIterWithContext(ctx, &lsm.IterOptions{LowerBound: r.Start, UpperBound: r.End})
	if err != nil {
		return fmt.Errorf("pebble: scan: %w", s.readError(err))
	}
	if err := s.durable(ctx, s.last.Load()); err != nil {
		return errors.Join(fmt.Errorf("pebble: scan: %w", err), it.Close())
	}
	fnErr, err := s.each(ctx, it, r, fn)
	if closeErr := it.Close(); err == nil && closeErr != nil {
		err = s.readError(closeErr)
	}
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

// each calls fn for the pairs and tells its errors from those of the store.
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
