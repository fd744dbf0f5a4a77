package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine/driver"
)

// Engine is the durable truth on one store. Its methods may be called at once,
// unless one says otherwise. Errors wrap the sentinels of package navvy and name
// the job or task.
type Engine struct {
	committer committer
	store     driver.Store
	epoch     uint32
	opts      Options
	// last is the time that was given to the newest job, so that no two have the same.
	last atomic.Int64
	// contents are those of files that this start has begun, and that are being read.
	contents contents
}

// Options are the settings of an Engine.
type Options struct {
	// Clock tells the time. Defaults to time.Now.
	Clock func() time.Time
	// Logger takes what recovery did. Defaults to one that discards.
	Logger *slog.Logger
	// KeepRead and KeepUnread are how long an ended job is kept whose answers
	// somebody has read, or nobody. They default to 7 and 30 days.
	KeepRead, KeepUnread time.Duration
	// KeepSize bounds what all jobs take on disk together, in bytes: beyond it
	// ended jobs that somebody has read expire early, the oldest first. Zero
	// means no bound.
	KeepSize int64
	// Reserve is how many bytes must be free for a submit to be accepted.
	// Defaults to 256 MiB; negative means none.
	Reserve int64
	// MaxValues and MaxValueBytes bound what one owner may have in the key-value
	// store. They default to 100,000 values and 1 GiB.
	MaxValues, MaxValueBytes int64
}

// Defaults of Options.
const (
	DefaultKeepRead   = 7 * 24 * time.Hour
	DefaultKeepUnread = 30 * 24 * time.Hour
	DefaultReserve    = 256 << 20

	DefaultMaxValues     = 100_000
	DefaultMaxValueBytes = 1 << 30
)

func (o *Options) withDefaults() Options {
	var d Options
	if o != nil {
		d = *o
	}
	if d.Clock == nil {
		d.Clock = time.Now
	}
	if d.Logger == nil {
		d.Logger = slog.New(slog.DiscardHandler)
	}
	if d.KeepRead <= 0 {
		d.KeepRead = DefaultKeepRead
	}
	if d.KeepUnread <= 0 {
		d.KeepUnread = DefaultKeepUnread
	}
	if d.Reserve == 0 {
		d.Reserve = DefaultReserve
	}
	if d.MaxValues <= 0 {
		d.MaxValues = DefaultMaxValues
	}
	if d.MaxValueBytes <= 0 {
		d.MaxValueBytes = DefaultMaxValueBytes
	}
	return d
}

// Open takes the store over: it checks the format of its data, raises the epoch,
// and finishes what a crash left half done. The caller closes the store after the engine.
func Open(ctx context.Context, store driver.Store, opts *Options) (*Engine, error) {
	e := &Engine{store: store, opts: opts.withDefaults()}
	e.committer.store, e.committer.opts = store, &e.opts
	if err := e.raiseEpoch(ctx); err != nil {
		return nil, err
	}
	if err := e.committer.loadSize(ctx); err != nil {
		return nil, err
	}
	if err := e.recover(ctx); err != nil {
		return nil, fmt.Errorf("engine: recover: %w", err)
	}
	return e, nil
}

// ErrStop is what a callback of a reading method returns to end it early; the
// method then returns nil.
var ErrStop = driver.ErrStop

// Epoch is the number of this start of the engine; no two starts on a store have the same.
func (e *Engine) Epoch() uint32 { return e.epoch }

// Info describes the store.
func (e *Engine) Info() driver.Info { return e.store.Info() }

var sizeKey = []byte{tableMeta, 's'}

const (
	metaVersion = 1
	// formatVersion is raised when data is laid out in a way that earlier builds would misread.
	// Since 2 a queue is one line for each owner.
	formatVersion = 2
)

var metaKey = []byte{tableMeta}

// raiseEpoch counts the start, in the same record as the format of the data.
func (e *Engine) raiseEpoch(ctx context.Context) error {
	stored, err := e.store.Get(ctx, metaKey)
	var batch driver.Batch
	switch {
	case errors.Is(err, navvy.ErrNotFound):
		batch.IfAbsent(metaKey)
	case err != nil:
		return fmt.Errorf("engine: read the epoch: %w", err)
	default:
		d, _ := readRecord(stored, tableMeta, metaVersion, "description of the data")
		format, epoch := d.uint(), d.uint32()
		if err := d.end(); err != nil {
			return err
		}
		if format > formatVersion {
			return fmt.Errorf("engine: the data has format %d, this navvy reads up to %d; use the newer navvy that wrote it: %w", format, formatVersion, navvy.ErrCorrupt)
		}
		if format < 2 {
			if err := e.requeue(ctx); err != nil {
				return fmt.Errorf("engine: bring the data from format %d to %d: %w", format, formatVersion, err)
			}
		}
		e.epoch = epoch
		batch.IfEqual(metaKey, stored)
	}
	e.epoch++
	m := newRecord(tableMeta, metaVersion, 8)
	m.uint(formatVersion)
	m.uint(uint64(e.epoch))
	batch.Put(metaKey, m.b)
	if err := e.store.Apply(ctx, &batch); err != nil {
		return fmt.Errorf("engine: raise the epoch: %w", err)
	}
	return nil
}

// recover finishes removals and retries, settles submissions whose client is gone, and
// drops what no file names.
func (e *Engine) recover(ctx context.Context) error {
	if err := e.dropLoose(ctx); err != nil {
		return err
	}
	for _, table := range []struct {
		letter byte
		settle func(context.Context, navvy.JobID) error
	}{
		{tableTrash, e.sweep},
		{tableRetry, e.finishRetry},
		{tableOpen, e.CutOff},
	} {
		ids, err := e.ids(ctx, table.letter)
		if err != nil {
			return err
		}
		for _, id := range ids {
			err := table.settle(ctx, id)
			if errors.Is(err, navvy.ErrCorrupt) {
				err = e.holdDamaged(ctx, id, err)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// holdDamaged holds a job that recovery cannot bring to rights, if it can be
// held, so that others go on.
func (e *Engine) holdDamaged(ctx context.Context, id navvy.JobID, why error) error {
	e.passOver(id, why)
	_, err := e.Hold(ctx, id, "its data are damaged (navvy verify says where): "+why.Error())
	if errors.Is(err, navvy.ErrCorrupt) || errors.Is(err, navvy.ErrNotFound) {
		return nil
	}
	return err
}

// ids are the jobs that a table names, which recovery keeps short.
func (e *Engine) ids(ctx context.Context, table byte) ([]navvy.JobID, error) {
	var ids []navvy.JobID
	err := e.store.Scan(ctx, driver.Prefix([]byte{table}), func(key, _ []byte) error {
		ids = append(ids, keyJob(key))
		return nil
	})
	return ids, err
}

// now is a time later than any that it returned before, for the order of jobs.
func (e *Engine) now() time.Time {
	for {
		last := e.last.Load()
		next := max(e.opts.Clock().UnixNano(), last+1)
		if e.last.CompareAndSwap(last, next) {
			return time.Unix(0, next).UTC()
		}
	}
}
