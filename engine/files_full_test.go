package engine_test

import (
	"errors"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine"
	"github.com/navvy-run/navvy/engine/driver"
)

// smallDisk says how much is free.
type smallDisk struct {
	driver.Store
	free atomic.Uint64
}

func (s *smallDisk) Info() driver.Info {
	i := s.Store.Info()
	i.Free = func() (uint64, error) { return s.free.Load(), nil }
	return i
}

// On a disk that is nearly full files stop, also in the midst of one, and leave nothing;
// results still fit, and so do the names and the removals of files, which make space.
func TestFilesOnAFullDisk(t *testing.T) {
	t.Parallel()
	store := &smallDisk{Store: newStore(t)}
	store.free.Store(1 << 40)
	e := open(t, store)
	f := e.Files()
	data := content(1, largeFile)
	keepFile(t, f, "a", data)
	job := submit(t, e, noop, 1)
	w := begin(t, f, "b", data, engine.FileOptions{})

	store.free.Store(engine.DefaultReserve - 1)
	if _, err := f.Create(t.Context(), "c", engine.FileOptions{}); !errors.Is(err, navvy.ErrExhausted) {
		t.Errorf("begin a file: %v", err)
	}
	const bound = 8 << 20
	n, err := len(data), error(nil)
	for part := range slices.Chunk(content(2, bound), 1<<20) {
		if _, err = w.Write(part); err != nil {
			break
		}
		n += len(part)
	}
	if !errors.Is(err, navvy.ErrExhausted) || n >= bound {
		t.Errorf("%d bytes were written: %v", n, err)
	}
	if _, err := w.Commit(t.Context()); !errors.Is(err, navvy.ErrExhausted) {
		t.Errorf("commit: %v", err)
	}
	if v := answer(t, e, job, 0, navvy.Succeeded); v.Err != nil {
		t.Errorf("a result: %v", v.Err)
	}
	if err := f.Move(t.Context(), "a", "moved"); err != nil {
		t.Errorf("move: %v", err)
	}
	holds(t, f, map[string][]byte{"moved": data})
	if err := f.Delete(t.Context(), "moved"); err != nil {
		t.Errorf("delete: %v", err)
	}
	filesSound(t, e, store)
	store.free.Store(1 << 40)
	keepFile(t, f, "a", data)
}
