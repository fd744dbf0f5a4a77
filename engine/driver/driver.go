// Package driver is what a store must offer for the engine to stand on it: an
// ordered, durable map with atomic conditional batches, and append-only logs.
//
// Whoever implements it passes package drivertest. The engine is its only
// caller, and holds a store alone: no other process writes to it meanwhile.
package driver

import (
	"github.com/navvy-run/navvy"

	"context"
	"errors"
	"fmt"
)

// Store is an ordered, durable map from byte strings to byte strings. Keys
// compare as bytes do, hold 1 to MaxKey bytes; values 0 to MaxValue bytes. All
// methods may be called at once. Errors wrap the sentinels of package navvy:
//
//   - ErrClosed after Close,
//   - ErrCorrupt where stored bytes are not what was written; the error names the place,
//   - ErrUnavailable where the store cannot be reached or has failed; once a
//     write has failed in a way that leaves open what is stored, every later
//     call returns it: the caller closes the store and opens it again.
//
// Slices that are handed in are not kept, slices that are handed out belong to
// the caller, unless a method says otherwise.
type Store interface {
	// Apply carries out the batch, whole or not at all. When it returns nil the
	// batch is durable: it survives the death of this process and a loss of
	// power. If a condition does not hold it changes nothing and returns a
	// *ConflictError. Batches take effect in some order, one after the other;
	// calls at the same time may share one flush to disk.
	// A cancelled context may leave open whether the batch took effect; the
	// error is then ErrUnavailable, and the store is still usable. On a full disk
	// it waits for space, as long as ctx lets it, or changes nothing and returns
	// ErrExhausted.
	Apply(ctx context.Context, b *Batch) error

	// Get returns the value at key; navvy.ErrNotFound if there is none. Like
	// Scan it never shows what is not durable yet.
	Get(ctx context.Context, key []byte) ([]byte, error)

	// Scan calls fn for the pairs of the range in its order, as they were at
	// one moment after the call, until fn returns an error, which Scan hands
	// on; ErrStop ends it without one. key and value are fn's only until it
	// returns, and not to be changed. fn may call the store, except Close.
	Scan(ctx context.Context, r Range, fn func(key, value []byte) error) error

	// CreateLog starts an empty log under a name that was never used before;
	// an existing one gives navvy.ErrExists. Names are 1 to MaxLogName bytes of
	// [a-z0-9./-], without empty, "." and ".." elements between slashes.
	CreateLog(ctx context.Context, name string) (LogWriter, error)

	// OpenLog opens a log for reading, also while it is being written;
	// navvy.ErrNotFound if there is none.
	OpenLog(ctx context.Context, name string) (LogReader, error)

	// DropLogs removes the log with the name prefix and all logs whose names
	// begin with prefix + "/", durably; it is not an error if there are none.
	// Readers and writers of a dropped log may fail afterwards.
	DropLogs(ctx context.Context, prefix string) error

	// Info describes the store.
	Info() Info

	// Close ends the store. Calls that are under way finish or return ErrClosed.
	Close() error
}

// LogWriter appends to one log. It is for one goroutine at a time.
type LogWriter interface {
	// Append adds p at the end. It may keep it in memory for a while: readers
	// see it no later than after the next Sync, and once it is durable.
	Append(p []byte) error
	// Sync makes all that was appended, and the log's existence, durable. Of what
	// is appended later a loss of power may leave all, some, none, or other bytes
	// in its place, up to its length: only the end of the process leaves a prefix.
	Sync() error
	// Close frees what the writer holds; what was appended stays, durable only if Sync followed it.
	Close() error
}

// LogReader reads one log at any offset, from any number of goroutines.
type LogReader interface {
	// ReadAt is io.ReaderAt: fewer than len(p) bytes come with an error, io.EOF
	// at what is the end of the log now.
	ReadAt(p []byte, off int64) (int, error)
	Close() error
}

// Bounds of what a store is given.
const (
	MaxKey     = 1<<10 + 64 // a name of 1 KiB, and what an engine has before it
	MaxValue   = 1 << 20
	MaxLogName = 200
	// MaxBatch is how many bytes of keys and values a batch may hold.
	MaxBatch = 16 << 20
)

// Info says what a store is.
type Info struct {
	Kind string // the driver's name
	// Place is where it is, for people: a directory, an address. Without secrets.
	Place string
	// Free tells how many bytes can still be written; nil if nobody can tell.
	Free func() (uint64, error)
	// Check reads the whole map from where it is stored and verifies its
	// checksums; the error wraps navvy.ErrCorrupt and names what is wrong. Nil if
	// that is somebody else's business. Logs have no checksums but the engine's.
	Check func(ctx context.Context) error
}

// Range selects keys: Start ≤ key < End. An empty End means no upper bound.
type Range struct {
	Start, End []byte
	Reverse    bool // from the last key to the first
	Limit      int  // at most so many pairs; 0 means all
}

// Prefix is the range of all keys that begin with p. It keeps p.
func Prefix(p []byte) Range { return Range{Start: p, End: PrefixEnd(p)} }

// PrefixEnd is the first key behind all those that begin with p; nil if there is none.
func PrefixEnd(p []byte) []byte {
	for i := len(p) - 1; i >= 0; i-- {
		if p[i] != 0xff {
			end := append([]byte(nil), p[:i+1]...)
			end[i]++
			return end
		}
	}
	return nil
}

// ErrStop is what a callback of Scan returns to end it early.
var ErrStop = errors.New("stop the scan")

// ConflictError says which conditions of a batch did not hold; at least one.
// It unwraps to navvy.ErrConflict.
type ConflictError struct{ Keys [][]byte }

// Error names the first key.
func (e *ConflictError) Error() string {
	return fmt.Sprintf("%d conditions do not hold, the first on key %q", len(e.Keys), e.Keys[0])
}

// Unwrap makes errors.Is(err, navvy.ErrConflict) hold.
func (e *ConflictError) Unwrap() error { return navvy.ErrConflict }
