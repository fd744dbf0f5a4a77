package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine/driver"
)

// What keys and records take beside the bytes of inputs and output, about.
const (
	jobOverhead    = 500
	inputOverhead  = 2
	resultOverhead = 120
)

// weight is what the job takes on disk; nothing once it is being removed.
func (s *State) weight() int64 {
	if s.Removed {
		return 0
	}
	return jobOverhead + s.Bytes
}

const sizeVersion = 1

func encodeSize(size int64) []byte {
	r := newRecord(tableMeta, sizeVersion, 10)
	r.int(size)
	return r.b
}

func decodeSize(b []byte) (int64, error) {
	d, _ := readRecord(b, tableMeta, sizeVersion, "size of the data")
	size := d.int()
	return size, d.end()
}

// loadSize reads what all jobs take on disk.
func (c *committer) loadSize(ctx context.Context) error {
	b, err := c.store.Get(ctx, sizeKey)
	if errors.Is(err, navvy.ErrNotFound) {
		return nil
	} else if err != nil {
		return fmt.Errorf("engine: read the size of the data: %w", err)
	}
	size, err := decodeSize(b)
	c.size.Store(size)
	return err
}

// Size is about what all jobs take on disk, in bytes.
func (e *Engine) Size() int64 { return e.committer.size.Load() }

// Oversized tells whether jobs should expire early, because all together take too much.
func (e *Engine) Oversized() bool { return e.opts.KeepSize > 0 && e.Size() > e.opts.KeepSize }

// shrink removes ended jobs that somebody has read, the one that would expire
// first at first, until the rest is small enough. It returns how many.
func (e *Engine) shrink(ctx context.Context) (removed int, err error) {
	if !e.Oversized() {
		return 0, nil
	}
	var read []navvy.JobID
	over := e.Size() - e.opts.KeepSize
	err = e.store.Scan(ctx, driver.Prefix([]byte{tableExpiry}), func(key, _ []byte) error {
		state, err := e.State(ctx, keyJob(key))
		if errors.Is(err, navvy.ErrNotFound) || errors.Is(err, navvy.ErrCorrupt) || err == nil && !state.Read {
			return nil
		} else if err != nil {
			return err
		}
		read = append(read, keyJob(key))
		if over -= state.weight(); over <= 0 {
			return driver.ErrStop
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("engine: look for jobs to remove: %w", err)
	}
	for _, id := range read {
		e.opts.Logger.Info("remove a job early: the data are larger than they may be", "job", id, "size", e.Size(), "bound", e.opts.KeepSize)
		switch err := e.removeIf(ctx, id, func(s *State) bool { return s.Read }); {
		case err == nil:
			removed++
		case errors.Is(err, navvy.ErrCorrupt):
			e.passOver(id, err)
		case !overtaken(err):
			return removed, err
		}
	}
	return removed, nil
}
