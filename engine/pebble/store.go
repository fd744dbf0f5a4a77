// Package pebble is the store in a data directory: CockroachDB's storage engine
// Pebble for the map, plain files for the logs. It is the default.
//
// The directory belongs to one process at a time. It holds the storage engine's
// files, VERSION, the directories logs and trash, and ballast, a file that is
// given up when the disk is full.
package pebble

import (
	"context"
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

	mu      sync.RWMutex // guards opened and ended
	opened  bool
	ended   bool // no new call may begin
	calls   sync.WaitGroup
	cause   atomic.Pointer[error] // why the store has failed
	closing atomic.Bool
	ending  sync.Once
	gone    chan struct{} // closed when everything is released
	result  error         // of closing, to be read after gone
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
	if s.closing.Swap(true) {
		return fmt.Errorf("pebble: close %s: %w", s.dir, navvy.ErrClosed)
	}
	s.disk.space.stop()
	s.end()
	<-s.gone
	return s.result
}

// begin admits one call, which must end with s.calls.Done.
func (s *Store) begin(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", navvy.ErrUnavailable, err)
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.ended {
		return s.gave()
	}
	s.calls.Add(1)
	return nil
}

// gave tells why the store takes no calls; nil if it does.
func (s *Store) gave() error {
	if s.closing.Load() {
		return navvy.ErrClosed
	}
	return s.failure()
}

// failure is the error of a failed store, else nil.
func (s *Store) failure() error {
	if cause := s.cause.Load(); cause != nil {
		return fmt.Errorf("store in %s has failed: %w: %w", s.dir, navvy.ErrUnavailable, *cause)
	}
	return nil
}

// fail is called once, by the disk, with why the store has failed.
func (s *Store) fail(cause error) {
	s.cause.Store(&cause)
	s.mu.RLock()
	opened := s.opened
	s.mu.RUnlock()
	if !opened {
		return // Open looks at the cause
	}
	s.opts.Logger.Error("store has failed", "place", s.dir, "error", cause)
	if !s.closing.Load() {
		go s.opts.OnFatal(fmt.Errorf("pebble: %w", s.failure()))
	}
	// A failed store lets go of everything at once, so that the storage engine
	// does not go on working for nothing. This may be one of its goroutines.
	s.end()
}

// end makes the store take no calls and winds it up behind the caller's back.
func (s *Store) end() {
	s.ending.Do(func() {
		s.mu.Lock()
		s.ended = true
		s.mu.Unlock()
		go s.windUp()
	})
}

// windUp releases everything when the calls under way have ended.
func (s *Store) windUp() {
	defer close(s.gone)
	s.disk.space.stop()
	s.calls.Wait()
	close(s.commits)
	s.syncing.Wait()
	s.logs.close()
	err := errors.Join(s.closeEngine(), s.lock.Close())
	if failure := s.failure(); failure != nil {
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
