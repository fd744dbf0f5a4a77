package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine/driver"
)

// Values is the key-value store of one owner. Its methods may be called at once.
type Values struct {
	e     *Engine
	owner string
}

// Values gives the key-value store of an owner.
func (e *Engine) Values(owner string) Values { return Values{e, owner} }

// Condition is under which a value is changed; the zero Condition always holds.
type Condition struct {
	// IfAbsent makes the change only if there is no value, with ErrExists.
	IfAbsent bool
	// IfVersion, if it is not 0, makes the change only if the value has this
	// version, with ErrConflict.
	IfVersion uint64
}

// judge compares the condition with a value; nil if there is none.
func (c *Condition) judge(key string, now *Value) error {
	switch {
	case c.IfAbsent && now != nil:
		return fmt.Errorf("value %q has version %d: %w", key, now.Version, navvy.ErrExists)
	case c.IfVersion == 0:
		return nil
	case now == nil:
		return fmt.Errorf("value %q does not exist, and should have version %d: %w", key, c.IfVersion, navvy.ErrConflict)
	case now.Version != c.IfVersion:
		return fmt.Errorf("value %q has version %d, not %d: %w", key, now.Version, c.IfVersion, navvy.ErrConflict)
	}
	return nil
}

// Put writes a value, and returns it when it is durable. ErrExhausted says that
// the owner has as much as it may have, or that the disk is nearly full.
func (v Values) Put(ctx context.Context, key string, value []byte, cond Condition) (Value, error) {
	if err := errors.Join(validateOwner(v.owner), ValidateValueKey(key)); err != nil {
		return Value{}, err
	}
	if len(value) > MaxValueSize {
		return Value{}, fmt.Errorf("value %q: %d bytes, more than %d: %w", key, len(value), MaxValueSize, navvy.ErrInvalid)
	}
	if cond.IfAbsent && cond.IfVersion != 0 {
		return Value{}, fmt.Errorf("value %q: if absent and if it has a version: only one can hold: %w", key, navvy.ErrInvalid)
	}
	if err := v.e.Room(); err != nil {
		return Value{}, err
	}
	put := Value{Key: key, Bytes: value, Changed: v.e.now()}
	err := v.e.committer.do(ctx, func(t *tx) error {
		shelf, old, err := t.value(v.owner, key)
		if err == nil {
			err = cond.judge(key, old)
		}
		if err != nil {
			return err
		}
		if err := v.e.makeRoom(v.owner, &shelf, old, &put); err != nil {
			return err
		}
		shelf.Version++
		put.Version = shelf.Version
		t.shelve(v.owner, &shelf, valueKey(v.owner, key), encodeValue(&put))
		t.tell(v.owner, told{key: key, version: put.Version})
		return nil
	})
	if err != nil {
		return Value{}, err
	}
	return put, nil
}

// makeRoom counts a value that takes the place of another one, if any.
func (e *Engine) makeRoom(owner string, shelf *Shelf, old, put *Value) error {
	shelf.count(old, -1)
	shelf.count(put, 1)
	if shelf.Keys > e.opts.MaxValues && old == nil {
		return fmt.Errorf("%s has %d values, as many as one owner may have; remove some: %w", owner, shelf.Keys-1, navvy.ErrExhausted)
	}
	if grows := old == nil || len(put.Bytes) > len(old.Bytes); shelf.Bytes > e.opts.MaxValueBytes && grows {
		return fmt.Errorf("the values of %s would take %d MiB together, more than the %d that one owner may have; remove some: %w",
			owner, shelf.Bytes>>20, e.opts.MaxValueBytes>>20, navvy.ErrExhausted)
	}
	return nil
}

func (s *Shelf) count(v *Value, n int64) {
	if v != nil {
		s.Keys += n
		s.Bytes += n * int64(len(v.Key)+len(v.Bytes))
	}
}

// Delete takes a value away, and returns the number of that change; ErrNotFound
// if there is none.
func (v Values) Delete(ctx context.Context, key string, ifVersion uint64) (version uint64, err error) {
	if err := errors.Join(validateOwner(v.owner), ValidateValueKey(key)); err != nil {
		return 0, err
	}
	cond := Condition{IfVersion: ifVersion}
	err = v.e.committer.do(ctx, func(t *tx) error {
		shelf, old, err := t.value(v.owner, key)
		if err == nil {
			err = cond.judge(key, old)
		}
		if err == nil && old == nil {
			err = noValue(key)
		}
		if err != nil {
			return err
		}
		shelf.count(old, -1)
		shelf.Version++
		shelf.Deleted, version = shelf.Version, shelf.Version
		t.shelve(v.owner, &shelf, valueKey(v.owner, key), nil)
		t.tell(v.owner, told{key: key, version: version, deleted: true})
		return nil
	})
	if err != nil {
		return 0, err
	}
	return version, nil
}

func noValue(key string) error { return fmt.Errorf("value %q: %w", key, navvy.ErrNotFound) }

// value reads a value, nil if there is none, and its owner's shelf, with what
// earlier steps of this commit did to them.
func (t *tx) value(owner, key string) (Shelf, *Value, error) {
	s, err := t.entry(shelfKey(owner))
	if err != nil {
		return Shelf{}, nil, fmt.Errorf("engine: read how much %s has: %w", owner, err)
	}
	shelf := Shelf{}
	if s.value != nil {
		if shelf, err = decodeShelf(owner, s.value); err != nil {
			return Shelf{}, nil, err
		}
	}
	e, err := t.entry(valueKey(owner, key))
	if err != nil {
		return Shelf{}, nil, fmt.Errorf("engine: read value %q: %w", key, err)
	}
	if e.value == nil {
		return shelf, nil, nil
	}
	v, err := decodeValue(key, e.value)
	return shelf, &v, err
}

// shelve stages a change of a value, nil to delete it. The store's own condition
// is that nobody else has changed the owner's shelf, as each change does.
func (t *tx) shelve(owner string, shelf *Shelf, key, value []byte) {
	at := shelfKey(owner)
	s := t.entries[string(at)]
	if s.stored == nil {
		t.batch.IfAbsent(at)
	} else {
		t.batch.IfEqual(at, s.stored)
	}
	s.value = encodeShelf(shelf)
	t.put(at, s.value)
	if t.entries[string(key)].value = value; value == nil {
		t.delete(key)
	} else {
		t.put(key, value)
	}
}

// Get gives a value; ErrNotFound if there is none.
func (v Values) Get(ctx context.Context, key string) (Value, error) {
	if err := errors.Join(validateOwner(v.owner), ValidateValueKey(key)); err != nil {
		return Value{}, err
	}
	b, err := v.e.store.Get(ctx, valueKey(v.owner, key))
	if errors.Is(err, navvy.ErrNotFound) {
		return Value{}, noValue(key)
	} else if err != nil {
		return Value{}, fmt.Errorf("value %q: %w", key, err)
	}
	return decodeValue(key, b)
}

// Shelf tells how much the owner has.
func (v Values) Shelf(ctx context.Context) (Shelf, error) {
	if err := validateOwner(v.owner); err != nil {
		return Shelf{}, err
	}
	b, err := v.e.store.Get(ctx, shelfKey(v.owner))
	if errors.Is(err, navvy.ErrNotFound) {
		return Shelf{}, nil
	} else if err != nil {
		return Shelf{}, fmt.Errorf("how much %s has: %w", v.owner, err)
	}
	return decodeShelf(v.owner, b)
}

// maxValuePage bounds what one page of a list holds, in bytes; a single value may exceed it.
const maxValuePage = 1 << 20

// List gives at most limit values whose keys begin with prefix and come after the
// key after, in byte order, fewer if they are large, and the key to go on after:
// empty if there are no more.
func (v Values) List(ctx context.Context, prefix, after string, limit int) (list []Value, next string, err error) {
	if err := errors.Join(validateOwner(v.owner), validateValuePrefix(prefix), validateValuePrefix(after)); err != nil {
		return nil, "", err
	}
	from := driver.Prefix(valuePrefix(v.owner, prefix))
	from.Limit = limit + 1
	if after >= prefix && after != "" {
		from.Start = append(valueKey(v.owner, after), 0)
	}
	size := 0
	err = v.e.store.Scan(ctx, from, func(key, b []byte) error {
		if len(list) == limit || size > maxValuePage {
			next = list[len(list)-1].Key
			return driver.ErrStop
		}
		_, name, err := splitValueKey(key)
		if err != nil {
			return err
		}
		value, err := decodeValue(name, b)
		list, size = append(list, value), size+len(b)
		return err
	})
	if err != nil {
		return nil, "", fmt.Errorf("list of values of %s: %w", v.owner, err)
	}
	return list, next, nil
}
