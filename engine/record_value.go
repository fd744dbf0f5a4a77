package engine

import (
	"bytes"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine/driver"
)

// Value is one value of an owner's key-value store.
type Value struct {
	Key   string
	Bytes []byte
	// Version is the number of the change that wrote it. The changes of an owner
	// are numbered from 1 on; no number is used twice, and none is left out.
	Version uint64
	Changed time.Time // when it was written
}

// Bounds of a value. The store's own bound leaves room for what is kept with it.
const (
	MaxValueKey  = 512
	MaxValueSize = driver.MaxValue - 64
)

// Shelf says how much an owner has in the key-value store.
type Shelf struct {
	Version uint64 // the number of the last change
	Deleted uint64 // the number of the last change that was a deletion; 0 if none was
	Keys    int64
	Bytes   int64 // of all keys and values
}

const (
	valueVersion = 1
	shelfVersion = 1
)

func encodeValue(v *Value) []byte {
	r := newRecord(tableValue, valueVersion, len(v.Bytes)+24)
	r.uint(v.Version)
	r.time(v.Changed)
	r.bytes(v.Bytes)
	return r.b
}

func decodeValue(key string, b []byte) (Value, error) {
	d, _ := readRecord(b, tableValue, valueVersion, fmt.Sprintf("value %q", key))
	v := Value{Key: key, Version: d.uint(), Changed: d.time()}
	v.Bytes = bytes.Clone(d.bytes())
	return v, d.end()
}

func encodeShelf(s *Shelf) []byte {
	r := newRecord(tableShelf, shelfVersion, 32)
	r.uint(s.Version)
	r.uint(s.Deleted)
	r.int(s.Keys)
	r.int(s.Bytes)
	return r.b
}

func decodeShelf(owner string, b []byte) (Shelf, error) {
	d, _ := readRecord(b, tableShelf, shelfVersion, "count of the values of "+owner)
	s := Shelf{Version: d.uint(), Deleted: d.uint(), Keys: d.int(), Bytes: d.int()}
	return s, d.end()
}

func valuePrefix(owner, prefix string) []byte {
	k := append(append([]byte{tableValue}, owner...), 0)
	return append(k, prefix...)
}

func valueKey(owner, key string) []byte { return valuePrefix(owner, key) }

func shelfKey(owner string) []byte { return append([]byte{tableShelf}, owner...) }

// splitValueKey is the inverse of valueKey.
func splitValueKey(stored []byte) (owner, key string, err error) {
	o, k, ok := bytes.Cut(stored[1:], []byte{0})
	owner, key = string(o), string(k)
	if !ok || validateOwner(owner) != nil || ValidateValueKey(key) != nil {
		return "", "", fmt.Errorf("engine: the key %q is none of a value: %w", stored, navvy.ErrCorrupt)
	}
	return owner, key, nil
}

// ValidateValueKey refuses what is no key of a value: it is 1 to MaxValueKey bytes
// of valid UTF-8 without control characters. The error wraps navvy.ErrInvalid.
func ValidateValueKey(key string) error {
	if key == "" {
		return fmt.Errorf("the key is empty: %w", navvy.ErrInvalid)
	}
	return validateValuePrefix(key)
}

// validateValuePrefix refuses what no key begins with.
func validateValuePrefix(prefix string) error {
	switch {
	case len(prefix) > MaxValueKey:
		return fmt.Errorf("a key of %d bytes, more than %d: %w", len(prefix), MaxValueKey, navvy.ErrInvalid)
	case !utf8.ValidString(prefix):
		return fmt.Errorf("key %q: want valid UTF-8: %w", prefix, navvy.ErrInvalid)
	case strings.ContainsFunc(prefix, unicode.IsControl):
		return fmt.Errorf("key %q: want one without control characters: %w", prefix, navvy.ErrInvalid)
	}
	return nil
}

func validateOwner(owner string) error {
	if owner == "" || len(owner) > navvy.MaxJobName || strings.ContainsRune(owner, 0) {
		return fmt.Errorf("owner %q: want a name of 1 to %d bytes: %w", owner, navvy.MaxJobName, navvy.ErrInvalid)
	}
	return nil
}
