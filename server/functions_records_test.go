package server

import (
	"slices"
	"testing"
)

// Keys lie in the order of names and numbers, and are read as they were written.
func TestFunctionKeys(t *testing.T) {
	t.Parallel()
	var keys []string
	for _, name := range []string{"f", "f\x01", "ff", "ü"} {
		for _, version := range []int{1, 2, 255, 256, 1 << 20, 1<<31 - 1} {
			key := functionKey("ann", name, version)
			keys = append(keys, key)
			if n, v, ok := splitFunctionKey("ann", key); !ok || n != name || v != version {
				t.Errorf("%q, %d is read as %q, %d, %t", name, version, n, v, ok)
			}
			if _, _, ok := splitFunctionKey("an", key); ok {
				t.Errorf("%q is somebody else's", key)
			}
		}
	}
	if !slices.IsSorted(keys) {
		t.Errorf("not in order: %q", keys)
	}
}

// FuzzFunctionKey gives foreign bytes to the reader of keys: what it takes it has written.
func FuzzFunctionKey(f *testing.F) {
	f.Add("ann", functionKey("ann", "f", 1))
	f.Add("ann", "ann\x00\x00\x00\x00\x00\x01")
	f.Fuzz(func(t *testing.T, owner, key string) {
		name, version, ok := splitFunctionKey(owner, key)
		if ok && functionKey(owner, name, version) != key && name != "" {
			t.Errorf("%q of %q is read as %q, %d", key, owner, name, version)
		}
	})
}
