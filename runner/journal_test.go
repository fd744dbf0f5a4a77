package runner_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner"
	"github.com/navvy-run/navvy/runner/driver"
)

func openJournal(t testing.TB, path string) *runner.Journal {
	t.Helper()
	j, err := runner.OpenJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j
}

func entry(i int) *runner.Entry {
	return &runner.Entry{
		Kind: "command", Task: navvy.TaskID{Job: "0123456789ab", Index: int64(i)},
		Attempt: navvy.AttemptID{Number: 1, Epoch: uint32(i)}, Token: fmt.Sprintf("token-%d", i),
		Started: time.Unix(0, 1234567890+int64(i)),
	}
}

// left compares what a journal was left with.
func left(t *testing.T, path string, want ...*runner.Entry) {
	t.Helper()
	var entries []runner.Entry
	for _, e := range want {
		entries = append(entries, *e)
	}
	got := openJournal(t, path).Left()
	less := func(a, b runner.Entry) bool { return a.Task.Index < b.Task.Index }
	if diff := cmp.Diff(entries, got, cmpopts.SortSlices(less), cmpopts.IgnoreUnexported(runner.Entry{})); diff != "" {
		t.Errorf("the journal holds other entries (-want +got):\n%s", diff)
	}
}

func reserve(t *testing.T, j *runner.Journal, e *runner.Entry) runner.Slot {
	t.Helper()
	slot, err := j.Reserve(e)
	if err != nil {
		t.Fatal(err)
	}
	return slot
}

func TestJournal(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "journal")
	j := openJournal(t, path)
	a, b, c := entry(1), entry(2), entry(3)
	slotA, slotB := reserve(t, j, a), reserve(t, j, b)
	b.Handle = []byte(strings.Repeat("h", driver.MaxHandle))
	if err := j.Set(slotB, b.Handle); err != nil {
		t.Fatal(err)
	}
	left(t, path, a, b)
	if err := j.Release(slotA); err != nil {
		t.Fatal(err)
	}
	left(t, path, b)
	if err := j.Release(slotB); err != nil {
		t.Fatal(err)
	}
	// The slot of b is used again: its handle is not c's.
	reserve(t, j, c)
	left(t, path, c)
	// A new journal leaves what it found alone.
	again := openJournal(t, path)
	d := entry(4)
	reserve(t, again, d)
	left(t, path, c, d)
}

func TestJournalBounds(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "journal")
	j := openJournal(t, path)
	long := entry(1)
	long.Token = strings.Repeat("t", 1000)
	if _, err := j.Reserve(long); !errors.Is(err, navvy.ErrInvalid) {
		t.Errorf("reserve with a long token: %v", err)
	}
	good := entry(2)
	slot := reserve(t, j, good)
	if err := j.Set(slot, make([]byte, driver.MaxHandle+1)); !errors.Is(err, navvy.ErrInvalid) {
		t.Errorf("a long handle: %v", err)
	}
	left(t, path, good)
}

// TestJournalStaleHandle leaves the handle of an earlier process in the slot of
// an attempt whose own was not yet known: it must not pass for that one's.
func TestJournalStaleHandle(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "journal")
	j := openJournal(t, path)
	slot := reserve(t, j, entry(1))
	if err := j.Set(slot, []byte("of the first")); err != nil {
		t.Fatal(err)
	}
	if err := j.Release(slot); err != nil {
		t.Fatal(err)
	}
	second := entry(2)
	reserve(t, openJournal(t, path), second)
	left(t, path, second)
}

// TestJournalZeroHeader opens what a loss of power may leave of a journal that
// was never flushed. Slots that are there all the same count.
func TestJournalZeroHeader(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "journal")
	e := entry(1)
	reserve(t, openJournal(t, path), e)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	clear(whole[:1024])
	for name, c := range map[string]struct {
		content []byte
		want    []*runner.Entry
	}{
		"all zero":       {make([]byte, 4096), nil},
		"cut short":      {make([]byte, 3), nil},
		"slots are left": {whole, []*runner.Entry{e}},
	} {
		path := filepath.Join(t.TempDir(), "journal")
		if err := os.WriteFile(path, c.content, 0o600); err != nil {
			t.Fatal(err)
		}
		t.Log(name)
		left(t, path, c.want...)
		more := entry(2)
		reserve(t, openJournal(t, path), more)
		left(t, path, append(c.want, more)...)
	}
}

// TestJournalTorn damages each byte of a journal in turn: an intent or a handle
// may then be missing, but nothing is made up.
func TestJournalTorn(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "journal")
	e := entry(1)
	j := openJournal(t, path)
	slot := reserve(t, j, e)
	e.Handle = []byte("a handle")
	if err := j.Set(slot, e.Handle); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	torn := filepath.Join(dir, "torn")
	for i := 1024; i < len(whole); i++ {
		whole[i] ^= 0x55
		if err := os.WriteFile(torn, whole, 0o600); err != nil {
			t.Fatal(err)
		}
		whole[i] ^= 0x55
		j, err := runner.OpenJournal(torn)
		if err != nil {
			t.Fatal(err)
		}
		want := *e
		for _, got := range j.Left() {
			if got.Handle == nil && i >= 1024+512 {
				want.Handle = nil
			}
			if !cmp.Equal(want, got, cmpopts.IgnoreUnexported(runner.Entry{})) {
				t.Errorf("with byte %d damaged: %+v", i, got)
			}
		}
		if i >= 1024+512 && len(j.Left()) != 1 {
			t.Errorf("with byte %d of the handle damaged, the intent is gone", i)
		}
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestJournalForeign(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, content := range map[string]string{
		"something else": "#!/bin/sh\n",
		"newer":          "navvy-journal\n\x02\x00\x00\x00",
		"cut short":      "navvy-journal\n\x01",
		"zeros before":   strings.Repeat("\x00", 100) + "navvy",
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := runner.OpenJournal(path); !errors.Is(err, navvy.ErrCorrupt) {
			t.Errorf("%s: %v, want %v", name, err, navvy.ErrCorrupt)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != content {
			t.Errorf("%s: the file was changed", name)
		}
	}
}

func TestJournalAtOnce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "journal")
	j := openJournal(t, path)
	const users, turns = 16, 50
	var all sync.WaitGroup
	for u := range users {
		all.Go(func() {
			for i := range turns {
				e := entry(u*1000 + i)
				slot, err := j.Reserve(e)
				if err == nil {
					err = j.Set(slot, []byte(e.Token))
				}
				if err == nil && i < turns-1 {
					err = j.Release(slot)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	var want []*runner.Entry
	for u := range users {
		e := entry(u*1000 + turns - 1)
		e.Handle = []byte(e.Token)
		want = append(want, e)
	}
	left(t, path, want...)
	if info, err := os.Stat(path); err != nil || info.Size() > (users+1)<<10 {
		t.Errorf("the file has %d bytes for %d attempts at once, %v", info.Size(), users, err)
	}
}

// FuzzJournal opens whatever follows a header.
func FuzzJournal(f *testing.F) {
	path := filepath.Join(f.TempDir(), "journal")
	j := openJournal(f, path)
	e := entry(1)
	e.Handle = []byte("a handle")
	if _, err := j.Reserve(e); err != nil {
		f.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole[1024:])
	f.Fuzz(func(t *testing.T, slots []byte) {
		path := filepath.Join(t.TempDir(), "journal")
		if err := os.WriteFile(path, append(whole[:1024:1024], slots...), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, e := range openJournal(t, path).Left() {
			if len(e.Handle) > driver.MaxHandle {
				t.Errorf("a handle of %d bytes", len(e.Handle))
			}
		}
	})
}

// BenchmarkJournal is what journaling costs an attempt: three writes.
func BenchmarkJournal(b *testing.B) {
	j := openJournal(b, filepath.Join(b.TempDir(), "journal"))
	e, handle := entry(1), make([]byte, 80)
	b.ReportAllocs()
	for b.Loop() {
		slot, err := j.Reserve(e)
		if err == nil {
			err = j.Set(slot, handle)
		}
		if err == nil {
			err = j.Release(slot)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}
