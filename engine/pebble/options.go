package pebble

import (
	"fmt"
	"log/slog"
	"time"

	lsm "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/navvy-run/navvy"
)

// Options adjusts a store. Nil and the zero value are the defaults.
type Options struct {
	// FS is where the files are. Defaults to the operating system's.
	FS vfs.FS
	// Logger gets what the storage engine does (debug) and what goes wrong.
	// Defaults to none.
	Logger *slog.Logger
	// OnFatal is called once, in a goroutine of its own, when the store has
	// failed for good. The store must then be closed; it can be opened again.
	// Defaults to nothing.
	OnFatal func(error)
	// OnFull is called with true when the disk has become full, with false when
	// there is space again. It must return quickly and not call the store.
	// Defaults to nothing.
	OnFull func(full bool)
	// Cache is how many bytes of stored blocks are kept in memory. Defaults to 8 MiB.
	Cache int64
	// Memtable is how many bytes are collected in memory before they are
	// written out as a table, from 64 KiB to 1 GiB; up to three times as many are
	// held. Defaults to 8 MiB.
	Memtable int64
	// Ballast is how many bytes are set aside for a full disk; negative means
	// none. It is left out where it does not fit twice. Defaults to 32 MiB.
	Ballast int64

	// spaceCheck is how often a full disk is looked at. Defaults to a second.
	spaceCheck time.Duration
}

// Validate checks the bounds. Its error wraps navvy.ErrInvalid.
func (o *Options) Validate() error {
	if o == nil {
		return nil
	}
	if o.Cache < 0 {
		return fmt.Errorf("pebble: Options.Cache is %d, must not be negative: %w", o.Cache, navvy.ErrInvalid)
	}
	if o.Memtable != 0 && (o.Memtable < 64<<10 || o.Memtable > 1<<30) {
		return fmt.Errorf("pebble: Options.Memtable is %d, must be from 64 KiB to 1 GiB: %w", o.Memtable, navvy.ErrInvalid)
	}
	return nil
}

// defaults returns a copy with every field set.
func (o *Options) defaults() Options {
	var c Options
	if o != nil {
		c = *o
	}
	if c.FS == nil {
		c.FS = vfs.Default
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.OnFatal == nil {
		c.OnFatal = func(error) {}
	}
	if c.OnFull == nil {
		c.OnFull = func(bool) {}
	}
	if c.Cache == 0 {
		c.Cache = 8 << 20
	}
	if c.Memtable == 0 {
		c.Memtable = 8 << 20
	}
	if c.Ballast == 0 {
		c.Ballast = 32 << 20
	}
	if c.spaceCheck == 0 {
		c.spaceCheck = time.Second
	}
	return c
}

// format is the version of the storage engine's files that we write. From
// FormatWALSyncChunks on, each piece of its log tells how far the log was
// durable; from FormatTableFormatV6 on, a table's footer has a checksum.
const format = lsm.FormatTableFormatV6

// memtables is how many may be in memory, the one that is written to included.
const memtables = 3

// engine returns the storage engine's options. They trade some throughput of
// bulk loads for little memory, on two cores.
func (o *Options) engine(fs vfs.FS, logger *logger) *lsm.Options {
	e := &lsm.Options{
		FS:                 fs,
		Logger:             logger,
		EventListener:      logger.listener(),
		FormatMajorVersion: format,
		// The storage engine takes memtables out of its cache's size.
		CacheSize:                   o.Cache + memtables*o.Memtable,
		MemTableSize:                uint64(o.Memtable),
		MemTableStopWritesThreshold: memtables,
		L0CompactionThreshold:       8,
		L0StopWritesThreshold:       24,
		LBaseMaxBytes:               64 << 20,
		MaxOpenFiles:                256,
		CompactionConcurrencyRange:  func() (int, int) { return 1, 2 },
		FlushDelayDeleteRange:       10 * time.Second,
	}
	for i := range e.Levels {
		l := &e.Levels[i]
		l.BlockSize = 8 << 10
		l.IndexBlockSize = 32 << 10
		l.FilterPolicy = bloom.FilterPolicy(10)
	}
	// Reading alone must not cause compactions: an idle store that is looked at
	// stays idle.
	e.Experimental.ReadSamplingMultiplier = -1
	e.Experimental.CompactionScheduler = new(scheduler)
	return e
}
