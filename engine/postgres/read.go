package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine/driver"
)

// Get implements driver.Store.
func (s *Store) Get(ctx context.Context, key []byte) ([]byte, error) {
	if err := s.life.Begin(ctx); err != nil {
		return nil, fmt.Errorf("postgres: get: %w", err)
	}
	defer s.life.Done()
	if key == nil {
		key = []byte{} // not NULL
	}
	ctx, cancel := s.within(ctx)
	defer cancel()
	value := []byte{}
	err := s.pool.QueryRow(ctx, s.sql.get, key).Scan(&value)
	if durableErr := s.durable(ctx); durableErr != nil {
		return nil, fmt.Errorf("postgres: get: %w", durableErr)
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, fmt.Errorf("postgres: get %q: %w", key, navvy.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("postgres: get: %w", s.readError(ctx, err))
	}
	return value, nil
}

// within ends a call's context with the store.
func (s *Store) within(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(s.ctx, cancel)
	return ctx, func() { stop(); cancel() }
}

// A scan first asks for a page. If that is all, which is the rule, it gives its
// connection back before it calls fn. A longer one starts again with a cursor
// and holds its connection while it calls; of those there are not more than half
// of the connections, so that fn, which may call the store, finds one. Any
// others read everything before they call.
const (
	pagePairs = 256
	pageBytes = 4 << 20
)

// Scan implements driver.Store.
func (s *Store) Scan(ctx context.Context, r driver.Range, fn func(key, value []byte) error) error {
	if err := s.life.Begin(ctx); err != nil {
		return fmt.Errorf("postgres: scan: %w", err)
	}
	defer s.life.Done()
	inner, cancel := s.within(ctx)
	defer cancel()
	c := &caller{store: s, ctx: inner, fn: fn}
	err := s.scan(inner, r, c)
	switch {
	case errors.Is(c.err, driver.ErrStop):
		return nil
	case c.err != nil:
		return c.err
	case err != nil:
		return fmt.Errorf("postgres: scan: %w", s.readError(ctx, err))
	}
	return nil
}

// caller calls fn, and tells its errors from those of the store.
type caller struct {
	store *Store
	ctx   context.Context
	fn    func(key, value []byte) error
	err   error // of fn
}

func (c *caller) call(key, value []byte) error {
	if err := c.store.life.Over(); err != nil {
		return err
	}
	if err := c.ctx.Err(); err != nil {
		return err
	}
	c.err = c.fn(key, value)
	return c.err
}

func (c *caller) callAll(pairs []pair) error {
	for i, p := range pairs {
		if err := c.call(p.key, p.value); err != nil {
			return err
		}
		pairs[i] = pair{} // no longer needed
	}
	return nil
}

// pair is a row.
type pair struct{ key, value []byte }

func (s *Store) scan(ctx context.Context, r driver.Range, c *caller) error {
	page, whole, err := s.firstPage(ctx, r)
	if err != nil {
		return err
	}
	if whole {
		if err := s.durable(ctx); err != nil {
			return err
		}
		return c.callAll(page)
	}
	select {
	case s.long <- struct{}{}:
		defer func() { <-s.long }()
		return s.cursor(ctx, r, c.call)
	default:
	}
	page = nil
	err = s.cursor(ctx, r, func(key, value []byte) error {
		page = append(page, pair{bytes.Clone(key), bytes.Clone(value)})
		return nil
	})
	if err != nil {
		return err
	}
	return c.callAll(page)
}

// firstPage reads the pairs of the range if they are few; else whole is false.
func (s *Store) firstPage(ctx context.Context, r driver.Range) (page []pair, whole bool, err error) {
	if r.Limit == 0 || r.Limit > pagePairs {
		r.Limit = pagePairs + 1
	}
	sql, args := s.rangeQuery(r)
	rows, err := s.pool.Query(ctx, sql, args...)
	if err != nil {
		return nil, false, err
	}
	defer rows.Close()
	size := 0
	for rows.Next() {
		raw := rows.RawValues()
		page = append(page, pair{bytes.Clone(raw[0]), bytes.Clone(raw[1])})
		if size += len(raw[0]) + len(raw[1]); len(page) > pagePairs || size > pageBytes {
			return nil, false, nil
		}
	}
	return page, true, rows.Err()
}

// cursor calls fn for the pairs of a range of any size. It holds a connection.
func (s *Store) cursor(ctx context.Context, r driver.Range, fn func(key, value []byte) error) error {
	return pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		sql, args := s.rangeQuery(r)
		if _, err := tx.Exec(ctx, "DECLARE pairs NO SCROLL CURSOR FOR "+sql, args...); err != nil {
			return err
		}
		if err := s.durable(ctx); err != nil {
			return err
		}
		for {
			rows, err := tx.Query(ctx, fmt.Sprintf("FETCH %d FROM pairs", pagePairs))
			if err != nil {
				return err
			}
			n := 0
			for rows.Next() {
				n++
				raw := rows.RawValues()
				if err := fn(raw[0], raw[1]); err != nil {
					rows.Close()
					return err
				}
			}
			if err := rows.Err(); err != nil || n == 0 {
				return err
			}
		}
	})
}

func (s *Store) rangeQuery(r driver.Range) (sql string, args []any) {
	start, end := r.Start, r.End
	if start == nil {
		start = []byte{} // not NULL
	}
	if len(end) == 0 {
		end = nil // NULL: no bound
	}
	var limit *int
	if r.Limit > 0 {
		limit = &r.Limit
	}
	if r.Reverse {
		return s.sql.scanBack, []any{start, end, limit}
	}
	return s.sql.scan, []any{start, end, limit}
}
