package engine

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/navvy-run/navvy"
)

// encoder writes the fields of a record. Its zero value is not a record: begin with newRecord.
type encoder struct{ b []byte }

func newRecord(table, version byte, room int) *encoder {
	return &encoder{b: append(make([]byte, 0, room+2), table, version)}
}

func (e *encoder) uint(v uint64) { e.b = binary.AppendUvarint(e.b, v) }
func (e *encoder) int(v int64)   { e.b = binary.AppendVarint(e.b, v) }

func (e *encoder) bool(v bool) {
	if v {
		e.uint(1)
		return
	}
	e.uint(0)
}

func (e *encoder) float(v float64)          { e.uint(math.Float64bits(v)) }
func (e *encoder) duration(v time.Duration) { e.int(int64(v)) }

func (e *encoder) bytes(v []byte) {
	e.uint(uint64(len(v)))
	e.b = append(e.b, v...)
}

func (e *encoder) string(v string) {
	e.uint(uint64(len(v)))
	e.b = append(e.b, v...)
}

func (e *encoder) strings(v []string) {
	e.uint(uint64(len(v)))
	for _, s := range v {
		e.string(s)
	}
}

// time keeps nanoseconds since 1970 in UTC; the zero time is kept as such.
func (e *encoder) time(v time.Time) {
	if v.IsZero() {
		e.int(0)
		return
	}
	e.int(v.UnixNano())
}

// decoder reads what encoder wrote. Its first error sticks; after it every read gives zero.
type decoder struct {
	b    []byte
	what string
	err  error
}

// readRecord checks the table's letter and the version of a stored value.
// versions is the newest version that this build can read; they count from 1.
func readRecord(b []byte, table, versions byte, what string) (*decoder, byte) {
	d := &decoder{what: what}
	switch {
	case len(b) < 2 || b[0] != table:
		d.fail("the bytes are no record of this kind")
		return d, 0
	case b[1] == 0 || b[1] > versions:
		d.fail(fmt.Sprintf("record version %d: this navvy reads up to %d; use the newer navvy that wrote it", b[1], versions))
		return d, 0
	}
	d.b = b[2:]
	return d, b[1]
}

func (d *decoder) fail(why string) {
	if d.err == nil {
		d.err = fmt.Errorf("engine: stored %s: %s: %w", d.what, why, navvy.ErrCorrupt)
	}
	d.b = nil
}

func (d *decoder) uint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail("cut short")
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) int() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail("cut short")
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) bool() bool {
	v := d.uint()
	if v > 1 {
		d.fail("a flag is neither 0 nor 1")
	}
	return v == 1
}

func (d *decoder) float() float64          { return math.Float64frombits(d.uint()) }
func (d *decoder) duration() time.Duration { return time.Duration(d.int()) }
func (d *decoder) uint32() uint32 {
	v := d.uint()
	if v > math.MaxUint32 {
		d.fail("a number is out of range")
		return 0
	}
	return uint32(v)
}

// bytes returns a part of what is being read, which the caller must own.
func (d *decoder) bytes() []byte {
	n := d.uint()
	if n > uint64(len(d.b)) {
		d.fail("cut short")
		return nil
	}
	v := d.b[:n:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) string() string { return string(d.bytes()) }

func (d *decoder) strings() []string {
	n := d.count(1)
	if n == 0 {
		return nil
	}
	list := make([]string, n)
	for i := range list {
		list[i] = d.string()
	}
	return list
}

// count reads a number of things that take at least size bytes each.
func (d *decoder) count(size int) int {
	n := d.uint()
	if n > uint64(len(d.b)/size) {
		d.fail("cut short")
		return 0
	}
	return int(n)
}

func (d *decoder) time() time.Time {
	v := d.int()
	if v == 0 {
		return time.Time{}
	}
	return time.Unix(0, v).UTC()
}

// end is the error so far; bytes that nobody read are one, too.
func (d *decoder) end() error {
	if d.err == nil && len(d.b) > 0 {
		d.fail(fmt.Sprintf("%d bytes are left over", len(d.b)))
	}
	return d.err
}
