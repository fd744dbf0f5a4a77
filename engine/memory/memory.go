// Package memory is a store that lives in memory and dies with its process. It
// is written to be obviously right rather than fast: the other stores are
// tested against it, and the engine's tests run on it.
package memory

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine/driver"
)

// Store is a driver.Store in memory. Nothing outlives Close.
type Store struct {
	mu     sync.Mutex
	pairs  []pair // by key; keys and values are never changed in place
	logs   map[string]*log
	closed bool
}

type pair struct{ key, value []byte }

var _ driver.Store = (*Store)(nil)

// New returns an empty store.
func New() *Store { return &Store{logs: map[string]*log{}} }

// Apply implements driver.Store.
func (s *Store) Apply(ctx context.Context, b *driver.Batch) error {
	if err := b.Validate(); err != nil {
		return fmt.Errorf("memory: apply: %w", err)
	}
	if err := s.enter(ctx); err != nil {
		return fmt.Errorf("memory: apply: %w", err)
	}
	defer s.mu.Unlock()
	if failed := s.failed(b.Conditions); len(failed) > 0 {
		return &driver.ConflictError{Keys: failed}
	}
	for _, op := range b.Ops {
		switch op.Kind {
		case driver.OpPut:
			s.put(op.Key, op.Value)
		case driver.OpDelete:
			if i, found := s.search(op.Key); found {
				s.pairs = slices.Delete(s.pairs, i, i+1)
			}
		case driver.OpDeleteRange:
			i, j := s.bounds(driver.Range{Start: op.Key, End: op.Value})
			s.pairs = slices.Delete(s.pairs, i, j)
		}
	}
	return nil
}

// Get implements driver.Store.
func (s *Store) Get(ctx context.Context, key []byte) ([]byte, error) {
	if err := s.enter(ctx); err != nil {
		return nil, fmt.Errorf("memory: get: %w", err)
	}
	defer s.mu.Unlock()
	i, found := s.search(key)
	if !found {
		return nil, fmt.Errorf("memory: get %q: %w", key, navvy.ErrNotFound)
	}
	return bytes.Clone(s.pairs[i].value), nil
}

// Scan implements driver.Store. It copies the range before it calls fn.
func (s *Store) Scan(ctx context.Context, r driver.Range, fn func(key, value []byte) error) error {
	if err := s.enter(ctx); err != nil {
		return fmt.Errorf("memory: scan: %w", err)
	}
	i, j := s.bounds(r)
	if r.Limit > 0 && j-i > r.Limit {
		if r.Reverse {
			i = j - r.Limit
		} else {
			j = i + r.Limit
		}
	}
	found := slices.Clone(s.pairs[i:j])
	s.mu.Unlock()

	if r.Reverse {
		slices.Reverse(found)
	}
	for _, p := range found {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("memory: scan: %w: %w", navvy.ErrUnavailable, err)
		}
		// fn may do what it likes with its slices until it returns.
		if err := fn(bytes.Clone(p.key), bytes.Clone(p.value)); err != nil {
			if errors.Is(err, driver.ErrStop) {
				return nil
			}
			return err
		}
	}
	return nil
}

// Info implements driver.Store.
func (s *Store) Info() driver.Info { return driver.Info{Kind: "memory", Place: "memory"} }

// Close implements driver.Store. It forgets everything.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return fmt.Errorf("memory: close: %w", navvy.ErrClosed)
	}
	for _, l := range s.logs {
		l.end()
	}
	s.closed, s.pairs, s.logs = true, nil, nil
	return nil
}

// Crash closes the store and returns what a loss of power would leave of one
// that is on disk: the map, and the logs as of their last Sync.
func (s *Store) Crash() *Store {
	s.mu.Lock()
	left := &Store{pairs: slices.Clone(s.pairs), logs: map[string]*log{}}
	for name, l := range s.logs {
		l.mu.RLock()
		if l.synced >= 0 {
			left.logs[name] = &log{name: name, data: bytes.Clone(l.data[:l.synced]), synced: l.synced}
		}
		l.mu.RUnlock()
	}
	s.mu.Unlock()
	_ = s.Close() // it may be closed already
	return left
}

// enter locks the store for one call, unless it is closed or ctx is done.
func (s *Store) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", navvy.ErrUnavailable, err)
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return navvy.ErrClosed
	}
	return nil
}

// failed lists the keys of the conditions that do not hold.
func (s *Store) failed(conditions []driver.Condition) [][]byte {
	var failed [][]byte
	for _, c := range conditions {
		i, found := s.search(c.Key)
		if found == c.Absent || found && !bytes.Equal(s.pairs[i].value, c.Value) {
			failed = append(failed, bytes.Clone(c.Key))
		}
	}
	return failed
}

func (s *Store) put(key, value []byte) {
	i, found := s.search(key)
	p := pair{key: bytes.Clone(key), value: append([]byte{}, value...)}
	if found {
		s.pairs[i] = p
		return
	}
	s.pairs = slices.Insert(s.pairs, i, p)
}

// search returns where key is, or would be.
func (s *Store) search(key []byte) (int, bool) {
	return slices.BinarySearchFunc(s.pairs, key, func(p pair, key []byte) int {
		return bytes.Compare(p.key, key)
	})
}

// bounds returns the positions of the range, i ≤ j.
func (s *Store) bounds(r driver.Range) (i, j int) {
	i, _ = s.search(r.Start)
	j = len(s.pairs)
	if len(r.End) > 0 {
		j, _ = s.search(r.End)
	}
	return i, max(i, j)
}
