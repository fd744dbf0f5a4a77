package engine

import (
	"bytes"
	"context"
	"encoding/binary"
	"slices"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine/driver"
)

// dated is a job in the list of its owner.
type dated struct {
	at int64 // nanoseconds since 1970
	id navvy.JobID
}

func keyDated(key []byte) dated {
	return dated{at: int64(binary.BigEndian.Uint64(key[len(key)-idLength-8:])), id: keyJob(key)}
}

// AllJobs is Jobs for the jobs of all owners. Of each owner it reads only those
// that may be among the newest.
func (e *Engine) AllJobs(ctx context.Context, before time.Time, limit int) ([]navvy.JobID, time.Time, error) {
	var newest []dated // at most limit+1, newest first
	for prefix, err := e.nextOwner(ctx, []byte{tableOwner}); prefix != nil || err != nil; prefix, err = e.nextOwner(ctx, driver.PrefixEnd(prefix)) {
		if err == nil {
			newest, err = e.mergeJobs(ctx, prefix, before, limit+1, newest)
		}
		if err != nil {
			return nil, time.Time{}, err
		}
	}
	var next time.Time
	if len(newest) > limit {
		newest = newest[:limit]
		next = time.Unix(0, newest[limit-1].at)
	}
	var ids []navvy.JobID
	for _, j := range newest {
		ids = append(ids, j.id)
	}
	return ids, next, nil
}

// nextOwner gives what the keys of the first owner begin with that has a key from
// start on; nil if there is none.
func (e *Engine) nextOwner(ctx context.Context, start []byte) (prefix []byte, err error) {
	r := driver.Range{Start: start, End: driver.PrefixEnd([]byte{tableOwner}), Limit: 1}
	err = e.store.Scan(ctx, r, func(key, _ []byte) error {
		// A name holds no zero byte; see ownerKey.
		prefix = slices.Clone(key[:bytes.IndexByte(key, 0)+1])
		return nil
	})
	return prefix, err
}

// mergeJobs adds an owner's jobs to the newest of all, of which it keeps max.
func (e *Engine) mergeJobs(ctx context.Context, owner []byte, before time.Time, most int, newest []dated) ([]dated, error) {
	r := driver.Prefix(owner)
	r.Reverse, r.Limit = true, most
	if !before.IsZero() {
		r.End = binary.BigEndian.AppendUint64(slices.Clone(owner), uint64(before.UnixNano()))
	}
	old := len(newest)
	err := e.store.Scan(ctx, r, func(key, _ []byte) error {
		j := keyDated(key)
		if old == most && j.at < newest[old-1].at {
			return driver.ErrStop // nor are those behind it
		}
		newest = append(newest, j)
		return nil
	})
	slices.SortStableFunc(newest, func(a, b dated) int { return int(min(1, max(-1, b.at-a.at))) })
	return newest[:min(most, len(newest))], err
}
