package engine

import (
	"fmt"

	"github.com/navvy-run/navvy"
)

// room refuses new work when the disk is nearly full, while results still fit.
func (e *Engine) room() error {
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
