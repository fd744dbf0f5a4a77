package engine_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine"
	"github.com/navvy-run/navvy/engine/driver"
	"github.com/navvy-run/navvy/engine/memory"
)

const smallFile, largeFile = 100, 300 << 10 // a file in the map, and one in a log

func content(seed, size int) []byte { return bytes.Repeat([]byte{byte(seed), byte(seed >> 8)}, size/2) }

func begin(t *testing.T, f engine.Files, name string, data []byte, o engine.FileOptions) *engine.FileWriter {
	t.Helper()
	w, err := f.Create(t.Context(), name, o)
	if err != nil {
		t.Fatal(err)
	}
	for part := range slices.Chunk(data, 50<<10) {
		if _, err := w.Write(part); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

func keepFile(t *testing.T, f engine.Files, name string, data []byte) engine.File {
	t.Helper()
	file, err := begin(t, f, name, data, engine.FileOptions{Note: []byte("note of " + name)}).Commit(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func readAll(t *testing.T, r *engine.FileReader) []byte {
	t.Helper()
	got, err := io.ReadAll(io.NewSectionReader(r, 0, math.MaxInt64))
	if err != nil {
		t.Error(err)
	}
	return got
}

// holds checks that the names are those of the files that there are, with what they hold.
func holds(t *testing.T, f engine.Files, want map[string][]byte) {
	t.Helper()
	var names []string
	if err := f.Scan(t.Context(), "", "", func(file *engine.File) error {
		names = append(names, file.Name)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if !slices.IsSorted(names) || len(names) != len(want) {
		t.Errorf("there are %q, want %d", names, len(want))
	}
	for name, data := range want {
		r, err := f.Open(t.Context(), name)
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		if got := readAll(t, r); !bytes.Equal(got, data) || r.File.Size != int64(len(data)) || r.File.SHA256 != sha256.Sum256(data) {
			t.Errorf("%s holds %d bytes, want %d; %+v", name, len(got), len(data), r.File)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

// tableOf counts the keys of a table.
func tableOf(t *testing.T, store driver.Store, table byte) int {
	t.Helper()
	n := 0
	if err := store.Scan(t.Context(), driver.Prefix([]byte{table}), func(_, _ []byte) error { n++; return nil }); err != nil {
		t.Fatal(err)
	}
	return n
}

// filesSound checks that nothing is left of what is gone, and that verify finds nothing.
func filesSound(t *testing.T, e *engine.Engine, store driver.Store) {
	t.Helper()
	if n := tableOf(t, store, 'd'); n != 0 {
		t.Errorf("%d contents are noted that no file names", n)
	}
	if _, err := e.Verify(t.Context(), func(err error) { t.Error(err) }); err != nil {
		t.Error(err)
	}
}

func TestFiles(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	e := open(t, store)
	f := e.Files()
	want := map[string][]byte{"empty": {}, "a/small": content(1, smallFile), "a/large": content(2, largeFile), "ä\x01": content(3, 64<<10), "z": content(4, 64<<10+2)}
	for name, data := range want {
		file := keepFile(t, f, name, data)
		if got, err := f.Stat(t.Context(), name); err != nil || got.Content != file.Content || string(got.Note) != "note of "+name || got.Changed.IsZero() {
			t.Errorf("%+v, %v", got, err)
		}
	}
	holds(t, f, want)
	for i, name := range []string{"empty", "a/small", "a/large", "z", "empty"} { // a small one in the place of a large one, and so on
		want[name] = content(i+7, []int{largeFile, largeFile, smallFile, largeFile, smallFile}[i])
		keepFile(t, f, name, want[name])
	}
	holds(t, f, want)
	if err := f.Delete(t.Context(), "z"); err != nil {
		t.Error(err)
	}
	if err := f.Delete(t.Context(), "z"); !errors.Is(err, navvy.ErrNotFound) || !strings.Contains(err.Error(), "z") {
		t.Errorf("%v", err)
	}
	delete(want, "z")
	for _, move := range [][2]string{{"a/large", "new"}, {"a/small", "new"}, {"empty", "ä\x01"}} {
		if err := f.Move(t.Context(), move[0], move[1]); err != nil {
			t.Error(err)
		}
		want[move[1]] = want[move[0]]
		delete(want, move[0])
		if err := f.Move(t.Context(), move[0], move[1]); !errors.Is(err, navvy.ErrNotFound) {
			t.Errorf("%v", err)
		}
	}
	holds(t, f, want)
	if err := f.Move(t.Context(), "new", "new"); err != nil {
		t.Error(err)
	}
	holds(t, f, want)
	filesSound(t, e, store)
	holds(t, open(t, store).Files(), want) // the next start
}

func TestFileNames(t *testing.T) {
	t.Parallel()
	f := open(t, newStore(t)).Files()
	for _, name := range []string{"", "\xff", strings.Repeat("x", engine.MaxFileName+1)} {
		_, create := f.Create(t.Context(), name, engine.FileOptions{})
		_, stat := f.Stat(t.Context(), name)
		_, read := f.Open(t.Context(), name)
		for what, err := range map[string]error{"create": create, "stat": stat, "open": read, "delete": f.Delete(t.Context(), name), "move": f.Move(t.Context(), "a", name), "move it": f.Move(t.Context(), name, "a")} {
			if !errors.Is(err, navvy.ErrInvalid) {
				t.Errorf("%s %.10q: %v", what, name, err)
			}
		}
	}
	if _, err := f.Create(t.Context(), "a", engine.FileOptions{Note: make([]byte, engine.MaxFileNote+1)}); !errors.Is(err, navvy.ErrInvalid) {
		t.Errorf("%v", err)
	}
	longest := strings.Repeat("x", engine.MaxFileName)
	keepFile(t, f, longest, nil)
	holds(t, f, map[string][]byte{longest: {}})
}

// A file that is given up, or may not be there, leaves nothing.
func TestFilesThatAreGivenUp(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	e := open(t, store)
	f := e.Files()
	old := content(1, largeFile)
	keepFile(t, f, "old", old)
	for _, size := range []int{0, smallFile, largeFile} {
		if err := begin(t, f, "new", content(2, size), engine.FileOptions{}).Abort(); err != nil {
			t.Error(err)
		}
		w := begin(t, f, "old", content(3, size), engine.FileOptions{IfAbsent: true})
		if _, err := w.Commit(t.Context()); !errors.Is(err, navvy.ErrExists) {
			t.Errorf("%v", err)
		}
		if _, err := w.Commit(t.Context()); !errors.Is(err, navvy.ErrClosed) {
			t.Errorf("%v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		w, err := f.Create(ctx, "old", engine.FileOptions{})
		if err != nil {
			t.Fatal(err)
		}
		_, _ = w.Write(content(4, size))
		cancel()
		if _, err := w.Write([]byte("x")); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
		if _, err := w.Commit(t.Context()); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	}
	holds(t, f, map[string][]byte{"old": old})
	filesSound(t, e, store)
}

// Many writers of one name: one wins if it must be absent; whoever reads meanwhile reads
// one of them, whole.
func TestFilesAtOnce(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	e := open(t, store)
	f := e.Files()
	var all sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for i := range 16 {
		all.Go(func() {
			_, err := begin(t, f, "one", content(i, smallFile+i%2*largeFile), engine.FileOptions{IfAbsent: true}).Commit(t.Context())
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				won++
			} else if !errors.Is(err, navvy.ErrExists) {
				t.Errorf("%v", err)
			}
		})
	}
	all.Wait()
	if won != 1 {
		t.Errorf("%d have won", won)
	}
	for i := range 8 {
		all.Go(func() {
			for n := range 20 {
				name := fmt.Sprint("f", (i+n)%2)
				keepFile(t, f, name, content(i, smallFile+n%2*largeFile))
				_ = f.Move(t.Context(), name, "one")
			}
		})
		all.Go(func() {
			for range 40 {
				r, err := f.Open(t.Context(), "one")
				if err != nil {
					t.Errorf("%v", err)
					return
				}
				if got := readAll(t, r); sha256.Sum256(got) != r.File.SHA256 {
					t.Errorf("%d bytes of %d", len(got), r.File.Size)
				}
				if err := r.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	filesSound(t, e, store)
}

// A log stays as long as somebody reads it, and goes with the last one.
func TestFileIsReadToItsEnd(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	e := open(t, store)
	f := e.Files()
	data := content(5, largeFile)
	keepFile(t, f, "f", data)
	var readers []*engine.FileReader
	for range 2 {
		r, err := f.Open(t.Context(), "f")
		if err != nil {
			t.Fatal(err)
		}
		readers = append(readers, r)
	}
	if err := f.Delete(t.Context(), "f"); err != nil {
		t.Fatal(err)
	}
	for i, r := range readers {
		if got := readAll(t, r); !bytes.Equal(got, data) {
			t.Errorf("%d bytes", len(got))
		}
		if n := tableOf(t, store, 'd'); n != 1 {
			t.Errorf("before reader %d has ended: %d", i, n)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	filesSound(t, e, store)
}

// A crash at any step leaves the old file or the new one, and the next start drops the rest.
func TestFilesAfterACrash(t *testing.T) {
	t.Parallel()
	for _, size := range []int{smallFile, largeFile} {
		store := memory.New()
		e := open(t, store)
		old := content(1, largeFile)
		keepFile(t, e.Files(), "f", old)
		w := begin(t, e.Files(), "f", content(2, size), engine.FileOptions{})
		_ = w // the process dies with it
		if wantLoose := map[int]int{smallFile: 0, largeFile: 1}[size]; tableOf(t, store, 'd') != wantLoose {
			t.Errorf("%d bytes: %d contents are noted, want %d", size, tableOf(t, store, 'd'), wantLoose)
		}
		after := store.Crash()
		e = open(t, after)
		holds(t, e.Files(), map[string][]byte{"f": old})
		filesSound(t, e, after)
		if _, err := after.OpenLog(t.Context(), "files/1/0/1-2"); !errors.Is(err, navvy.ErrNotFound) {
			t.Errorf("the log of what was begun: %v", err)
		}
		if _, err := after.OpenLog(t.Context(), "files/1/0/1-1"); err != nil {
			t.Errorf("the log of what was there: %v", err)
		}
		if err := after.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Verify finds what is not as it was put, and what is missing.
func TestVerifyFiles(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	e := open(t, store)
	for name, size := range map[string]int{"small": smallFile, "large": largeFile, "gone": smallFile, "lost": largeFile} {
		keepFile(t, e.Files(), name, content(1, size))
	}
	filesSound(t, e, store)
	if v, err := e.Verify(t.Context(), func(err error) { t.Error(err) }); err != nil || v.Files != 4 || v.FileBytes != 2*(smallFile+largeFile) {
		t.Errorf("%+v, %v", v, err)
	}
	var b driver.Batch
	if err := store.Scan(t.Context(), driver.Prefix([]byte{'b'}), func(key, value []byte) error {
		if b.Empty() {
			b.Delete(slices.Clone(key))
			return nil
		}
		value = slices.Clone(value)
		value[20] ^= 1
		b.Put(slices.Clone(key), value)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	lost, err := e.Files().Stat(t.Context(), "lost")
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("files/%d/0/%s", lost.Content.Epoch, lost.Content)
	if err := errors.Join(store.Apply(t.Context(), &b), store.DropLogs(t.Context(), name)); err != nil {
		t.Fatal(err)
	}
	log, err := store.CreateLog(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(log.Append(content(1, largeFile-10)), log.Sync(), log.Close()); err != nil {
		t.Fatal(err)
	}
	var problems []string
	v, err := e.Verify(t.Context(), func(err error) {
		if !errors.Is(err, navvy.ErrCorrupt) {
			t.Errorf("%v", err)
		}
		problems = append(problems, err.Error())
	})
	if err != nil || v.Files != 4 || len(problems) != 4 { // the fourth: a content is missing
		t.Errorf("%+v, %v: %q", v, err, problems)
	}
}

func TestFileSum(t *testing.T) {
	t.Parallel()
	w := begin(t, open(t, newStore(t)).Files(), "f", []byte("hello"), engine.FileOptions{})
	sum := sha256.Sum256([]byte("hello"))
	if got := w.SHA256(); got != hex.EncodeToString(sum[:]) {
		t.Errorf("%s", got)
	}
	if err := w.Abort(); err != nil {
		t.Error(err)
	}
}
