package driver

import (
	"fmt"

	"github.com/navvy-run/navvy"
)

// Batch collects conditions and changes for Apply. The conditions are judged
// against the state before the batch, the changes then made in their order. A
// Batch keeps the slices that it is given until it has been applied or Reset.
// It is for one goroutine at a time.
type Batch struct {
	Conditions []Condition
	Ops        []Op
	size       int
}

// Condition holds if the key has just this value, or, if Absent, none.
type Condition struct {
	Key    []byte
	Value  []byte
	Absent bool
}

// OpKind is what an Op does.
type OpKind uint8

// The kinds of Op.
const (
	OpPut OpKind = iota + 1
	OpDelete
	OpDeleteRange
)

// Op is one change of a batch.
type Op struct {
	Kind  OpKind
	Key   []byte // of a range: its start
	Value []byte // of a range: its end, exclusive
}

// IfAbsent lets the batch take effect only if key has no value.
func (b *Batch) IfAbsent(key []byte) {
	b.Conditions = append(b.Conditions, Condition{Key: key, Absent: true})
}

// IfEqual lets the batch take effect only if key has just this value.
func (b *Batch) IfEqual(key, value []byte) {
	b.Conditions = append(b.Conditions, Condition{Key: key, Value: value})
}

// Put sets the value at key.
func (b *Batch) Put(key, value []byte) { b.add(Op{Kind: OpPut, Key: key, Value: value}) }

// Delete removes key; it need not exist.
func (b *Batch) Delete(key []byte) { b.add(Op{Kind: OpDelete, Key: key}) }

// DeleteRange removes all keys from start up to, not including, end; an empty
// end means no upper bound, as in Range.
func (b *Batch) DeleteRange(start, end []byte) {
	b.add(Op{Kind: OpDeleteRange, Key: start, Value: end})
}

func (b *Batch) add(op Op) {
	b.Ops = append(b.Ops, op)
	b.size += len(op.Key) + len(op.Value)
}

// Append adds all conditions and changes of other.
func (b *Batch) Append(other *Batch) {
	b.Conditions = append(b.Conditions, other.Conditions...)
	b.Ops = append(b.Ops, other.Ops...)
	b.size += other.size
}

// Mark says how far the batch has come, for Rewind.
func (b *Batch) Mark() (conditions, ops, size int) { return len(b.Conditions), len(b.Ops), b.size }

// Rewind takes back all that was added since Mark gave these numbers.
func (b *Batch) Rewind(conditions, ops, size int) {
	clear(b.Conditions[conditions:])
	clear(b.Ops[ops:])
	b.Conditions, b.Ops, b.size = b.Conditions[:conditions], b.Ops[:ops], size
}

// Size is how many bytes of keys and values the changes hold.
func (b *Batch) Size() int { return b.size }

// Empty tells whether the batch would do nothing and ask for nothing.
func (b *Batch) Empty() bool { return len(b.Ops) == 0 && len(b.Conditions) == 0 }

// Reset empties the batch and keeps its memory.
func (b *Batch) Reset() {
	clear(b.Conditions)
	clear(b.Ops)
	b.Conditions, b.Ops, b.size = b.Conditions[:0], b.Ops[:0], 0
}

// Validate checks the bounds of all keys and values. Its error wraps navvy.ErrInvalid.
func (b *Batch) Validate() error {
	if b.size > MaxBatch {
		return fmt.Errorf("batch of %d bytes, more than %d: %w", b.size, MaxBatch, navvy.ErrInvalid)
	}
	for _, c := range b.Conditions {
		if len(c.Key) == 0 || len(c.Key) > MaxKey {
			return fmt.Errorf("condition on a key of %d bytes: %w", len(c.Key), navvy.ErrInvalid)
		}
	}
	for _, op := range b.Ops {
		if op.Kind < OpPut || op.Kind > OpDeleteRange {
			return fmt.Errorf("change of unknown kind %d: %w", op.Kind, navvy.ErrInvalid)
		}
		if len(op.Key) == 0 || len(op.Key) > MaxKey || len(op.Value) > MaxValue {
			return fmt.Errorf("key of %d and value of %d bytes: %w", len(op.Key), len(op.Value), navvy.ErrInvalid)
		}
	}
	return nil
}
