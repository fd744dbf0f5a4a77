package drivertest

import (
	"context"
	"fmt"
	"strconv"

	"github.com/navvy-run/navvy/engine/driver"
)

// verify checks what a crash has left, and takes it for the truth from now on.
func (w *work) verify(ctx context.Context, s driver.Store, k known) error {
	if err := checkInfo(ctx, s); err != nil {
		return err
	}
	for id := range w.writers {
		if err := w.verifyWriter(ctx, s, k, id); err != nil {
			return fmt.Errorf("writer %d: %w", id, err)
		}
	}
	return w.verifyClaims(ctx, s, k)
}

// checkInfo has the store look at itself.
func checkInfo(ctx context.Context, s driver.Store) error {
	check := s.Info().Check
	if check == nil {
		return nil
	}
	if err := check(ctx); err != nil {
		return fmt.Errorf("check: %w", err)
	}
	return nil
}

func (w *work) verifyWriter(ctx context.Context, s driver.Store, k known, id int) error {
	me := &w.writers[id]
	n, err := progress(ctx, s, id)
	if err != nil {
		return err
	}
	switch issued := me.issued.Load(); {
	case n < k.acked[id]:
		return fmt.Errorf("%d batches are there, %d were acknowledged", n, k.acked[id])
	case n < k.seen[id]:
		return fmt.Errorf("%d batches are there, %d were seen", n, k.seen[id])
	case n > issued:
		return fmt.Errorf("%d batches are there, %d were begun", n, issued)
	}
	got, err := scan(ctx, s, driver.Prefix([]byte(writerPrefix(id))))
	if err != nil {
		return err
	}
	state := replay(w.seed, id, int(n))
	var want []pair
	for _, key := range sortedKeys(state) {
		if len(key) > len(writerPrefix(id)) && key[:len(writerPrefix(id))] == writerPrefix(id) {
			want = append(want, pair{key, state[key]})
		}
	}
	if err := same(got, want); err != nil {
		return fmt.Errorf("after %d batches: %w", n, err)
	}
	if err := w.verifyLogs(ctx, s, id, n, k.dropped[id]); err != nil {
		return err
	}
	me.issued.Store(n)
	me.acked.Store(n)
	me.seen.Store(n)
	me.dropped.Store(k.dropped[id])
	return nil
}

// verifyClaims checks that the claims are there without a gap, each with its winner.
func (w *work) verifyClaims(ctx context.Context, s driver.Store, k known) error {
	got, err := scan(ctx, s, driver.Prefix([]byte("claim/")))
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.claims)
	for i, p := range got {
		claim := i + 1
		if p.key != string(claimKey(claim)) {
			return fmt.Errorf("claim %d is missing, there is %s", claim, p.key)
		}
		by, err := strconv.Atoi(p.value)
		if err != nil {
			return fmt.Errorf("claim %d is %q", claim, p.value)
		}
		if winner, ok := k.claims[claim]; ok && winner >= 0 && winner != by {
			return fmt.Errorf("claim %d was won by %d, now by %d", claim, winner, by)
		}
		w.claims[claim] = by
		delete(k.claims, claim)
	}
	for claim, winner := range k.claims {
		return fmt.Errorf("claim %d, known to be won (by %d), is not there; %d are", claim, winner, len(got))
	}
	if len(got) > w.tried {
		return fmt.Errorf("%d claims are there, %d were tried", len(got), w.tried)
	}
	return nil
}
