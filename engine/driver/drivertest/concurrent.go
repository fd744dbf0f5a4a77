package drivertest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine/driver"
)

func testConcurrent(t *testing.T, h Harness) {
	s := open(t, h)
	if err := checkOneWinner(t.Context(), s); err != nil {
		t.Error(err)
	}
	if err := checkCounter(t.Context(), s); err != nil {
		t.Error(err)
	}
}

// checkOneWinner lets many goroutines claim the same keys: each key has exactly
// one winner, and its value stays.
func checkOneWinner(ctx context.Context, s driver.Store) error {
	const rivals, keys = 16, 20
	var winners [keys]atomic.Int64
	err := together(rivals, func(rival int) error {
		for k := range keys {
			b := new(driver.Batch)
			key := fmt.Appendf(nil, "claim/%d", k)
			b.IfAbsent(key)
			b.Put(key, []byte(strconv.Itoa(rival+1)))
			switch err := s.Apply(ctx, b); {
			case err == nil:
				if before := winners[k].Swap(int64(rival + 1)); before != 0 {
					return fmt.Errorf("both %d and %d won key %d", before, rival+1, k)
				}
			case !errors.Is(err, navvy.ErrConflict):
				return err
			}
			// Whoever lost finds the winner.
			if _, err := s.Get(ctx, key); err != nil {
				return fmt.Errorf("after a conflict: %w", err)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for k := range keys {
		got, err := s.Get(ctx, fmt.Appendf(nil, "claim/%d", k))
		if err != nil || string(got) != strconv.FormatInt(winners[k].Load(), 10) {
			return fmt.Errorf("key %d: value %q, %w; winner %d", k, got, err, winners[k].Load())
		}
	}
	return nil
}

// checkCounter lets many goroutines count one number up by compare and set. No
// step is lost, none done twice, and nobody ever sees the number go back.
func checkCounter(ctx context.Context, s driver.Store) error {
	const counters, steps = 8, 25
	key := []byte("counter")
	if err := s.Apply(ctx, puts(pair{"counter", string(number(0))})); err != nil {
		return err
	}
	var done atomic.Uint64 // the highest number that is known to be reached
	err := together(counters, func(int) error {
		for taken := 0; taken < steps; {
			least := done.Load()
			got, err := s.Get(ctx, key)
			if err != nil {
				return err
			}
			n := binary.BigEndian.Uint64(got)
			if n < least {
				return fmt.Errorf("the counter went back from %d to %d", least, n)
			}
			b := new(driver.Batch)
			b.IfEqual(key, got)
			b.Put(key, number(n+1))
			b.Put(fmt.Appendf(nil, "step/%d", n+1), nil)
			switch err := s.Apply(ctx, b); {
			case err == nil:
				taken++
				raise(&done, n+1)
			case !errors.Is(err, navvy.ErrConflict):
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	got, err := s.Get(ctx, key)
	if err != nil {
		return err
	}
	if n := binary.BigEndian.Uint64(got); n != counters*steps {
		return fmt.Errorf("the counter is %d after %d steps", n, counters*steps)
	}
	if list, err := scan(ctx, s, driver.Prefix([]byte("step/"))); err != nil || len(list) != counters*steps {
		return fmt.Errorf("%d of %d steps left their mark, %w", len(list), counters*steps, err)
	}
	return nil
}

func number(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func raise(to *atomic.Uint64, n uint64) {
	for {
		old := to.Load()
		if n <= old || to.CompareAndSwap(old, n) {
			return
		}
	}
}

// checkTransfers moves amounts between accounts while others add them up: each
// scan, in either direction, sees the same total.
func checkTransfers(ctx context.Context, s driver.Store, seed uint64) error {
	const accounts, movers, moves, amount = 20, 4, 50, 1000
	account := func(i int) []byte { return fmt.Appendf(nil, "account/%02d", i) }
	b := new(driver.Batch)
	for i := range accounts {
		b.Put(account(i), number(amount))
	}
	if err := s.Apply(ctx, b); err != nil {
		return err
	}
	var busy atomic.Int64
	busy.Store(movers)
	return together(2*movers, func(i int) error {
		if i >= movers {
			for busy.Load() > 0 {
				if err := total(ctx, s, i%2 == 0, accounts*amount); err != nil {
					return err
				}
			}
			return nil
		}
		defer busy.Add(-1)
		choose := random(seed, uint64(i))
		for moved := 0; moved < moves; {
			from, to := choose.IntN(accounts), choose.IntN(accounts)
			if from == to {
				continue
			}
			err := transfer(ctx, s, account(from), account(to), 1+choose.Uint64N(10))
			if errors.Is(err, navvy.ErrConflict) {
				continue
			}
			if err != nil {
				return err
			}
			moved++
		}
		return nil
	})
}

func transfer(ctx context.Context, s driver.Store, from, to []byte, amount uint64) error {
	b := new(driver.Batch)
	for key, change := range map[string]uint64{string(from): -amount, string(to): amount} {
		had, err := s.Get(ctx, []byte(key))
		if err != nil {
			return err
		}
		b.IfEqual([]byte(key), had)
		b.Put([]byte(key), number(binary.BigEndian.Uint64(had)+change))
	}
	return s.Apply(ctx, b)
}

func total(ctx context.Context, s driver.Store, reverse bool, want uint64) error {
	r := driver.Prefix([]byte("account/"))
	r.Reverse = reverse
	var sum uint64
	err := s.Scan(ctx, r, func(_, value []byte) error {
		sum += binary.BigEndian.Uint64(value)
		return nil
	})
	if err != nil {
		return err
	}
	if sum != want {
		return fmt.Errorf("the accounts hold %d together, want %d", sum, want)
	}
	return nil
}
