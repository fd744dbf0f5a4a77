package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine/driver"
)

// Registry is what the engine keeps that is not a job: small records with a kind
// and a name, whose values it does not look into. Its methods may be called at once.
type Registry struct{ e *Engine }

// Registry gives the engine's registry.
func (e *Engine) Registry() Registry { return Registry{e} }

// Kind is a kind of registered things. Names are unique within one.
type Kind string

// The kinds.
const (
	KindCertificate Kind = "certificate" // by serial number
	KindRevocation  Kind = "revocation"  // by serial number
	KindToken       Kind = "token"       // by the hash of the secret
	KindAPIToken    Kind = "api-token"   // by the hash of the secret
	KindWorker      Kind = "worker"      // by name
	KindQueue       Kind = "queue"       // by name: its settings
	KindNetRPC      Kind = "netrpc"      // of gateway/netrpc, which names them
	KindMSTC        Kind = "mstc"        // of gateway/mstc, likewise

	KindFunction     Kind = "function"      // by id: what is known of a version
	KindFunctionCode Kind = "function-code" // by id: its code
	KindFunctionName Kind = "function-name" // by owner, name and version: its id

	KindFileSum  Kind = "file-sum"  // by hashes of owner, content and name: a file's name
	KindFileName Kind = "file-name" // by hashes of owner and name: a file's content

	KindFilesAt Kind = "files-at" // "directory": the data directory that keeps the files of owners
)

// Entry is a registered thing.
type Entry struct {
	Kind    Kind
	Name    string
	Value   []byte
	Changed time.Time // when it was last written; no two writes of a process have the same
}

// Change is one change of the registry.
type Change struct {
	Kind Kind
	Name string
	// Value is what is registered, or with Delete, nothing.
	Value  []byte
	Delete bool
	// IfAbsent makes the change only if nothing has this name, with ErrExists.
	IfAbsent bool
	// IfEqual, if it is not nil, makes the change only if this is the value, with
	// ErrConflict, or ErrNotFound if there is none.
	IfEqual []byte
}

// Bounds of an entry.
const (
	MaxEntryName  = 512
	MaxEntryValue = driver.MaxValue - 64
	maxKind       = 32
)

const registryVersion = 1

func encodeEntry(changed time.Time, value []byte) []byte {
	r := newRecord(tableRegistry, registryVersion, len(value)+16)
	r.time(changed)
	r.bytes(value)
	return r.b
}

func decodeEntry(kind Kind, name string, b []byte) (Entry, error) {
	d, _ := readRecord(b, tableRegistry, registryVersion, fmt.Sprintf("%s %q", kind, name))
	entry := Entry{Kind: kind, Name: name, Changed: d.time()}
	entry.Value = bytes.Clone(d.bytes())
	return entry, d.end()
}

func kindPrefix(kind Kind) []byte {
	return append(append([]byte{tableRegistry}, kind...), 0)
}

func entryKey(kind Kind, name string) []byte { return append(kindPrefix(kind), name...) }

// splitEntryKey is the inverse of entryKey.
func splitEntryKey(key []byte) (Kind, string, error) {
	kind, name, ok := bytes.Cut(key[1:], []byte{0})
	if err := validateEntry(Kind(kind), string(name)); !ok || err != nil {
		return "", "", fmt.Errorf("engine: the key %q is none of the registry's: %w", key, navvy.ErrCorrupt)
	}
	return Kind(kind), string(name), nil
}

// validate refuses a kind or name that could be taken for another.
func validateEntry(kind Kind, name string) error {
	if err := validateKind(kind); err != nil {
		return err
	}
	if name == "" || len(name) > MaxEntryName {
		return fmt.Errorf("a name of %d bytes in the registry, want 1 to %d: %w", len(name), MaxEntryName, navvy.ErrInvalid)
	}
	return nil
}

func validateKind(kind Kind) error {
	odd := strings.ContainsFunc(string(kind), func(r rune) bool { return (r < 'a' || r > 'z') && r != '-' })
	if kind == "" || len(kind) > maxKind || odd {
		return fmt.Errorf("kind %q in the registry: want lower-case letters and dashes, at most %d: %w", kind, maxKind, navvy.ErrInvalid)
	}
	return nil
}

// Get gives one entry; ErrNotFound if there is none.
func (r Registry) Get(ctx context.Context, kind Kind, name string) (Entry, error) {
	if err := validateEntry(kind, name); err != nil {
		return Entry{}, err
	}
	b, err := r.e.store.Get(ctx, entryKey(kind, name))
	if err != nil {
		return Entry{}, fmt.Errorf("%s %q: %w", kind, name, err)
	}
	return decodeEntry(kind, name, b)
}

// List gives at most limit entries of a kind whose names begin with prefix and
// come after the name after, in byte order, and the name to go on after: empty if
// there are no more.
func (r Registry) List(ctx context.Context, kind Kind, prefix, after string, limit int) (list []Entry, next string, err error) {
	if err := validateKind(kind); err != nil {
		return nil, "", err
	}
	from := driver.Prefix(entryKey(kind, prefix))
	from.Limit = limit + 1
	if after >= prefix && after != "" {
		from.Start = append(entryKey(kind, after), 0)
	}
	err = r.e.store.Scan(ctx, from, func(key, value []byte) error {
		if len(list) == limit {
			next = list[limit-1].Name
			return driver.ErrStop
		}
		_, name, err := splitEntryKey(key)
		if err != nil {
			return err
		}
		entry, err := decodeEntry(kind, name, value)
		list = append(list, entry)
		return err
	})
	if err != nil {
		return nil, "", fmt.Errorf("list of kind %s: %w", kind, err)
	}
	return list, next, nil
}

// Set registers a value; cond has the conditions, nil for none.
func (r Registry) Set(ctx context.Context, kind Kind, name string, value []byte, cond *Change) error {
	c := Change{Kind: kind, Name: name, Value: value}
	if cond != nil {
		c.IfAbsent, c.IfEqual = cond.IfAbsent, cond.IfEqual
	}
	return r.Apply(ctx, c)
}

// Delete takes an entry away; it need not exist.
func (r Registry) Delete(ctx context.Context, kind Kind, name string) error {
	return r.Apply(ctx, Change{Kind: kind, Name: name, Delete: true})
}

// Apply makes changes, all or none, and returns when they are durable. The
// conditions are judged before the first of them; no two may have the same name.
func (r Registry) Apply(ctx context.Context, changes ...Change) error {
	for i := range changes {
		c := &changes[i]
		if err := validateEntry(c.Kind, c.Name); err != nil {
			return err
		}
		if len(c.Value) > MaxEntryValue {
			return fmt.Errorf("%s %q: a value of %d bytes, more than %d: %w", c.Kind, c.Name, len(c.Value), MaxEntryValue, navvy.ErrInvalid)
		}
		for j := range i {
			if changes[j].Kind == c.Kind && changes[j].Name == c.Name {
				return fmt.Errorf("%s %q is changed twice at once: %w", c.Kind, c.Name, navvy.ErrInvalid)
			}
		}
	}
	at := r.e.now()
	return r.e.committer.do(ctx, func(t *tx) error {
		for i := range changes {
			if err := t.judge(&changes[i]); err != nil {
				return err
			}
		}
		for i := range changes { // from here on nothing fails, so that there is nothing to take back
			t.register(&changes[i], at)
		}
		return nil
	})
}

// entryInTx is an entry as the commit under way leaves it.
type entryInTx struct {
	stored []byte // before the commit; nil if there was none
	value  []byte // nil if there is none
}

// entry reads an entry with what earlier steps of this commit did to it.
func (t *tx) entry(key []byte) (*entryInTx, error) {
	if e, ok := t.entries[string(key)]; ok {
		return e, nil
	}
	stored, err := t.store.Get(t.ctx, key)
	if errors.Is(err, navvy.ErrNotFound) {
		stored, err = nil, nil
	}
	if err != nil {
		return nil, err
	}
	e := &entryInTx{stored: stored, value: stored}
	t.entries[string(key)] = e
	return e, nil
}

// judge tells whether a change may be made.
func (t *tx) judge(c *Change) error {
	e, err := t.entry(entryKey(c.Kind, c.Name))
	if err != nil {
		return fmt.Errorf("engine: read %s %q: %w", c.Kind, c.Name, err)
	}
	if c.IfAbsent && e.value != nil {
		return fmt.Errorf("%s %q: %w", c.Kind, c.Name, navvy.ErrExists)
	}
	if c.IfEqual == nil {
		return nil
	}
	if e.value == nil {
		return fmt.Errorf("%s %q: %w", c.Kind, c.Name, navvy.ErrNotFound)
	}
	now, err := decodeEntry(c.Kind, c.Name, e.value)
	if err == nil && !bytes.Equal(now.Value, c.IfEqual) {
		err = fmt.Errorf("%s %q was changed in between: %w", c.Kind, c.Name, navvy.ErrConflict)
	}
	return err
}

// register stages a change. The store's own condition is that nobody else has
// changed the entry since it was read.
func (t *tx) register(c *Change, at time.Time) {
	key := entryKey(c.Kind, c.Name)
	e := t.entries[string(key)]
	if e.stored == nil {
		t.batch.IfAbsent(key)
	} else {
		t.batch.IfEqual(key, e.stored)
	}
	if c.Delete {
		e.value = nil
		t.delete(key)
		return
	}
	e.value = encodeEntry(at, c.Value)
	t.put(key, e.value)
}
