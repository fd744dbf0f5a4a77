package engine

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine/driver"
)

// Line is the jobs of one owner in one queue that wait for their turn or are being
// served. Each has an order of service of its own; between lines it is the manager's to choose.
type Line struct{ Queue, Owner string }

// LineOf is the line that a job stands in.
func LineOf(j *navvy.Job) Line { return Line{Queue: j.Queue, Owner: j.Owner} }

func (l Line) prefix() []byte {
	k := make([]byte, 0, 3+len(l.Queue)+len(l.Owner)+positionLength)
	k = append(append(append(k, tableLine), l.Queue...), 0)
	return append(append(k, l.Owner...), 0)
}

// positionLength is that of a Position.
const positionLength = 4 + 8 + idLength

// Position is where a job stands in its line: higher priorities first, then older
// jobs. Positions of different lines compare alike.
func Position(j *navvy.Job) []byte {
	return appendPosition(make([]byte, 0, positionLength), j)
}

func appendPosition(k []byte, j *navvy.Job) []byte {
	k = binary.BigEndian.AppendUint32(k, uint32(int64(1<<31-1)-int64(j.Priority)))
	k = binary.BigEndian.AppendUint64(k, uint64(j.Accepted.UnixNano()))
	return append(k, j.ID...)
}

// lineKey is the key of a job in its line.
func lineKey(j *navvy.Job) []byte { return appendPosition(LineOf(j).prefix(), j) }

// QueuedAfter gives at most limit jobs of a line in their order of service,
// from behind the given position on (nil: from the start), and the position of the last.
func (e *Engine) QueuedAfter(ctx context.Context, line Line, after []byte, limit int) ([]navvy.JobID, []byte, error) {
	prefix := line.prefix()
	r := driver.Prefix(prefix)
	r.Limit = limit
	if after != nil {
		r.Start = append(append(bytes.Clone(prefix), after...), 0)
	}
	var ids []navvy.JobID
	last := after
	err := e.store.Scan(ctx, r, func(key, _ []byte) error {
		ids = append(ids, keyJob(key))
		last = bytes.Clone(key[len(prefix):])
		return nil
	})
	return ids, last, err
}

// Lines gives all lines in which a job stands, ordered by queue, then owner.
func (e *Engine) Lines(ctx context.Context) ([]Line, error) {
	return e.linesOf(ctx, tableLine, func(l Line) []byte {
		after := l.prefix()
		after[len(after)-1] = 1 // behind all that have this prefix
		return after
	})
}

// linesOf gives the lines that have keys in a table, whose keys begin with queue and owner.
// It asks once for each line: after gives the key behind all of one.
func (e *Engine) linesOf(ctx context.Context, table byte, after func(Line) []byte) ([]Line, error) {
	var lines []Line
	r := driver.Prefix([]byte{table})
	r.Limit = 1
	for {
		found := false
		err := e.store.Scan(ctx, r, func(key, _ []byte) error {
			parts := bytes.SplitN(key[1:], []byte{0}, 3)
			if len(parts) < 3 {
				return fmt.Errorf("engine: a key of table %c names no line: %q: %w", table, key, navvy.ErrCorrupt)
			}
			found = true
			lines = append(lines, Line{Queue: string(parts[0]), Owner: string(parts[1])})
			return nil
		})
		if err != nil || !found {
			return lines, err
		}
		r.Start = after(lines[len(lines)-1])
	}
}

// requeueAtOnce is how many jobs move from the old order of service to lines in one batch.
const requeueAtOnce = 1000

// requeue brings data of format 1, where a queue was one order of service, to lines.
// What a crash interrupts the next start goes on with.
func (e *Engine) requeue(ctx context.Context) error {
	for {
		var old [][]byte
		r := driver.Prefix([]byte{tableQueued})
		r.Limit = requeueAtOnce
		err := e.store.Scan(ctx, r, func(key, _ []byte) error {
			old = append(old, bytes.Clone(key))
			return nil
		})
		if err != nil || len(old) == 0 {
			return err
		}
		var batch driver.Batch
		for _, key := range old {
			b, err := e.store.Get(ctx, jobKey(tableJob, keyJob(key)))
			if err == nil {
				var job *navvy.Job
				if job, err = decodeJob(b); err == nil {
					batch.Put(lineKey(job), nil)
				}
			}
			if err != nil && !errors.Is(err, navvy.ErrCorrupt) && !errors.Is(err, navvy.ErrNotFound) {
				return err
			}
			batch.Delete(key) // one that cannot be read could not be served either
		}
		if err := e.store.Apply(ctx, &batch); err != nil {
			return err
		}
	}
}
