// Package pebble is the store in a data directory: CockroachDB's storage engine
// Pebble for the map, plain files for the logs. It is the default.
//
// The directory belongs to one process at a time. It holds the storage engine's
// files, VERSION, the directories logs and trash, and ballast, a file that is
// given up when the disk is full.
package pebble

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	lsm "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine/driver"
)

// Store is a driver.Store in a directory.
type Store struct {
	dir  string
	opts Options
	disk *disk
	db   *lsm.DB
	lock *lsm.Lock
	logs *logs
	// tables is how check reads a table.
	tables sstable.ReaderOptions

	turn    chan struct{} // holds one token: the right to check conditions and commit
	number  uint64        // of the last commit; guarded by turn
	synced  atomic.Uint64 // the number up to which commits are durable
	last    atomic.Pointer[commit]
	before  before
	commits chan *commit
	syncing sync.WaitGroup

	life   *driver.Life
	opened atomic.Bool
	result error // of closing, to be read when life has ended
}

var _ driver.Store = (*Store)(nil)

// Apply, Get, Scan: apply.go, read.go. Logs: logs.go.

// Info implements driver.Store.
func (s *Store) Info() driver.Info {
	return driver.Info{
		Kind:  "pebble",
		Place: s.dir,
		Free:  s.free,
		Check: s.check,
	}
}

func (s *Store) free() (uint64, error) {
	usage, err := s.opts.FS.GetDiskUsage(s.dir)
	if errors.Is(err, vfs.ErrUnsupported) {
		return 0, fmt.Errorf("pebble: free space of %s: %w", s.dir, navvy.ErrUnsupported)
	}
	if err != nil {
		return 0, fmt.Errorf("pebble: free space of %s: %w", s.dir, err)
	}
	return usage.AvailBytes, nil
}

// Close implements driver.Store. If the disk is full it does not wait for
// space: calls that do so fail, and nothing that was acknowledged is lost.
func (s *Store) Close() error {
	if !s.life.Close() {
		return fmt.Errorf("pebble: close %s: %w", s.dir, navvy.ErrClosed)
	}
	s.disk.space.stop()
	s.life.End()
	s.life.AwaitEnd()
	return s.result
}

// fail is called once, by the disk, with why the store has failed.
func (s *Store) fail(cause error) {
	if !s.life.Fail(cause) || !s.opened.Load() {
		return // Open looks at the cause
	}
	s.opts.Logger.Error("store has failed", "place", s.dir, "error", cause)
	if !s.life.Closing() {
		go s.opts.OnFatal(fmt.Errorf("pebble: %w", s.life.Failure()))
	}
	// A failed store lets go of everything at once, so that the storage engine
	// does not go on working for nothing. This may be one of its goroutines.
	s.life.End()
}

// windUp releases everything when the calls under way have ended.
func (s *Store) windUp() {
	s.disk.space.stop()
	s.life.AwaitCalls()
	close(s.commits)
	s.syncing.Wait()
	s.logs.close()
	err := errors.Join(s.closeEngine(), s.lock.Close())
	if failure := s.life.Failure(); failure != nil {
		err = failure
	}
	if err != nil {
		s.result = fmt.Errorf("pebble: close: %w", err)
	}
}

// closeEngine closes the storage engine, which may be in any state.
func (s *Store) closeEngine() (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("storage engine: %v", r)
		}
	}()
	return errors.Join(s.sealLog(), s.db.Close())
}
