package pebble

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine/driver"
)

const damageBatches = 60

// fill applies batches, one after the other; each is acknowledged before the next.
func fill(t testing.TB, s *Store, size int) {
	t.Helper()
	for i := range damageBatches {
		b := new(driver.Batch)
		b.Put(fmt.Appendf(nil, "key/%03d", i), []byte(strings.Repeat(string(rune('a'+i%26)), size)))
		if err := s.Apply(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
}

// found counts the batches that are there; they must be the first ones, unchanged.
func found(t testing.TB, s *Store, size int) (int, error) {
	t.Helper()
	n := 0
	err := s.Scan(t.Context(), driver.Range{}, func(key, value []byte) error {
		if string(key) != fmt.Sprintf("key/%03d", n) || string(value) != strings.Repeat(string(rune('a'+n%26)), size) {
			t.Errorf("pair %d is %q = %.20q", n, key, value)
		}
		n++
		return nil
	})
	return n, err
}

// damage opens a copy of the files of which one has a byte changed. It returns
// how many batches are there, or the error.
func damage(t testing.TB, from vfs.FS, file string, at int64, size int) (int, error) {
	t.Helper()
	fs := vfs.NewMem()
	if _, err := vfs.Clone(from, fs, "/store", "/store"); err != nil {
		t.Fatal(err)
	}
	flip(t, fs, file, at)
	s, err := Open("/store", &Options{FS: fs})
	if err != nil {
		return 0, err
	}
	n, err := found(t, s, size)
	if closeErr := s.Close(); err == nil && closeErr != nil {
		t.Errorf("close: %v", closeErr)
	}
	return n, err
}

func flip(t testing.TB, fs vfs.FS, file string, at int64) {
	t.Helper()
	f, err := fs.OpenReadWrite(file, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 1)
	if _, err := f.ReadAt(p, at); err != nil {
		t.Fatal(err)
	}
	p[0] ^= 1 << (at % 8)
	if _, err := f.WriteAt(p, at); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// written lists the files with the ending that are not empty, and their sizes.
func written(t testing.TB, fs vfs.FS, part string) map[string]int64 {
	t.Helper()
	names, err := fs.List("/store")
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]int64{}
	for _, name := range names {
		if info, err := fs.Stat("/store/" + name); err == nil && strings.Contains(name, part) && info.Size() > 0 {
			files["/store/"+name] = info.Size()
		}
	}
	return files
}

// places chooses bytes of a file, all of a small one.
func places(size int64, n int) []int64 {
	var at []int64
	for i := range size {
		if size <= int64(n) || rand.Int64N(size) < int64(n) {
			at = append(at, i)
		}
	}
	return at
}

// TestDamage flips bits in each kind of file. No acknowledged batch may vanish
// without an error, be it the first, one in the middle or the last.
func TestDamage(t *testing.T) {
	t.Parallel()
	for _, size := range []int{10, 3000} { // in one block of the log, in many
		for _, part := range []string{".log", "MANIFEST", ".sst"} {
			for _, closed := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s of %d closed %t", part, size, closed), func(t *testing.T) {
					t.Parallel()
					testDamage(t, part, size, closed)
				})
			}
		}
	}
}

func testDamage(t *testing.T, part string, size int, closed bool) {
	fs := vfs.NewCrashableMem()
	s := open(t, "/store", &Options{FS: fs})
	fill(t, s, size)
	if part != ".log" {
		if err := s.db.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	// What is lost may be the last batch if nothing followed it.
	spared := 0
	if !closed && part == ".log" {
		fs = fs.CrashClone(vfs.CrashCloneCfg{})
		spared = 1
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	refused, whole := 0, 0
	for file, bytes := range written(t, fs, part) {
		for _, at := range places(bytes, 60) {
			n, err := damage(t, fs, file, at, size)
			switch {
			case errors.Is(err, navvy.ErrCorrupt):
				refused++
				if !strings.Contains(err.Error(), filepath.Base(file)) {
					t.Errorf("%s, byte %d: the error does not name the file: %v", file, at, err)
				}
				if text := err.Error(); strings.ContainsAny(text, "<\n") {
					t.Errorf("%s, byte %d: this is for machines: %s", file, at, text)
				}
			case err != nil:
				t.Errorf("%s, byte %d: %v", file, at, err)
			case n < damageBatches-spared:
				t.Errorf("%s, byte %d: %d of %d batches are there", file, at, n, damageBatches)
			default:
				whole++
			}
		}
	}
	if refused == 0 {
		t.Error("no damage was found")
	}
	t.Logf("%d refused, %d harmless", refused, whole)
}

// TestCheck finds a flipped bit in a table that is open and in memory.
func TestCheck(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	s := open(t, "/store", &Options{FS: fs})
	fill(t, s, 3000)
	if err := s.db.Flush(); err != nil {
		t.Fatal(err)
	}
	if _, err := found(t, s, 3000); err != nil {
		t.Fatal(err)
	}
	if err := s.Info().Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	for file, size := range written(t, fs, ".sst") {
		flip(t, fs, file, size/3)
		err := s.Info().Check(t.Context())
		if !errors.Is(err, navvy.ErrCorrupt) || !strings.Contains(err.Error(), file) {
			t.Errorf("check: %v", err)
		}
		flip(t, fs, file, size/3)
	}
	if err := s.Info().Check(t.Context()); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
