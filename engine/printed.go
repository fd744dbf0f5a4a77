package engine

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/navvy-run/navvy"
)

const printedVersion = 1

// printedPart is how much of what is printed one value holds.
const printedPart = 512 << 10

// printed is a part of what is printed of a job. The first one, which alone
// most jobs have, lies at the job's key, the others behind it. A later, shorter
// value leaves parts behind that the first one does not count.
type printed struct {
	parts   int // of the whole; 0 in all but the first
	indexes []byte
}

func encodePrinted(p printed) []byte {
	r := newRecord(tablePrinted, printedVersion, len(p.indexes)+8)
	r.uint(uint64(p.parts))
	r.bytes(p.indexes)
	return r.b
}

func decodePrinted(id navvy.JobID, b []byte) (printed, error) {
	d, _ := readRecord(b, tablePrinted, printedVersion, "what is printed of job "+string(id))
	p := printed{parts: int(d.uint())}
	p.indexes = d.bytes()
	return p, d.end()
}

func printedKey(id navvy.JobID, part int) []byte {
	key := jobKey(tablePrinted, id)
	if part > 0 {
		key = binary.BigEndian.AppendUint16(key, uint16(part))
	}
	return key
}

// Printed gives what SetPrinted kept; nil if there is nothing.
func (e *Engine) Printed(ctx context.Context, id navvy.JobID) ([]byte, error) {
	first, err := e.printedPart(ctx, id, 0)
	if errors.Is(err, navvy.ErrNotFound) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	all := first.indexes
	for part := 1; part < first.parts; part++ {
		p, err := e.printedPart(ctx, id, part)
		if err != nil {
			return nil, err
		}
		all = append(all, p.indexes...)
	}
	return all, nil
}

func (e *Engine) printedPart(ctx context.Context, id navvy.JobID, part int) (printed, error) {
	b, err := e.store.Get(ctx, printedKey(id, part))
	if err != nil {
		return printed{}, fmt.Errorf("engine: what is printed of job %s: %w", id, err)
	}
	return decodePrinted(id, b)
}

// SetPrinted keeps which answers of a job its client has printed: a serialized
// bitmap of at most 8 MiB, which the engine does not look into.
func (e *Engine) SetPrinted(ctx context.Context, id navvy.JobID, indexes []byte) error {
	if len(indexes) > 8<<20 {
		return fmt.Errorf("engine: what is printed of job %s: %d bytes: %w", id, len(indexes), navvy.ErrInvalid)
	}
	parts := slices.Collect(slices.Chunk(indexes, printedPart))
	if len(parts) == 0 {
		parts = [][]byte{nil}
	}
	return e.committer.do(ctx, func(t *tx) error {
		if _, err := t.state(id); err != nil {
			return err
		}
		for i, p := range parts {
			record := printed{indexes: p}
			if i == 0 {
				record.parts = len(parts)
			}
			t.put(printedKey(id, i), encodePrinted(record))
		}
		return nil
	})
}
