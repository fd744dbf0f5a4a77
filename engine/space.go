package engine

import (
	"fmt"

	"github.com/navvy-run/navvy"
)

// OutputFits tells whether there is space for output that tasks stream. It is
// kept off the last half of the reserve: results, and removals that make space,
// still fit there. If nobody can tell, it fits.
func (e *Engine) OutputFits() bool {
	free := e.store.Info().Free
	if free == nil || e.opts.Reserve < 0 {
		return true
	}
	n, err := free()
	return err != nil || n >= uint64(e.opts.Reserve)/2
}

// Room refuses new work when the disk is nearly full, while results still fit: the
// error, ErrExhausted, is what submits are told. It is nil if there is room.
func (e *Engine) Room() error {
	free := e.store.Info().Free
	if free == nil || e.opts.Reserve < 0 {
		return nil
	}
	n, err := free()
	if err != nil {
		return fmt.Errorf("engine: ask for free space in %s: %w", e.store.Info().Place, err)
	}
	if n < uint64(e.opts.Reserve) {
		return fmt.Errorf("engine: %s has %d MiB of free space, and %d MiB are kept for the answers of accepted jobs; free some space: %w",
			e.store.Info().Place, n>>20, e.opts.Reserve>>20, navvy.ErrExhausted)
	}
	return nil
}
