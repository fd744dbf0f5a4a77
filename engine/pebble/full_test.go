package pebble

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine/driver"
)

const ballast = 256 << 10

// fullStore is a store with little space, and what it says about that.
type fullStore struct {
	*Store
	fs    *quotaFS
	opts  *Options
	told  chan bool
	fatal chan error
}

func openFull(t *testing.T, limit int64) *fullStore {
	t.Helper()
	f := &fullStore{fs: newQuotaFS(limit), told: make(chan bool, 100), fatal: make(chan error, 10)}
	f.opts = &Options{
		FS: f.fs, Ballast: ballast, Memtable: 128 << 10, spaceCheck: time.Millisecond,
		OnFull:  func(full bool) { f.told <- full },
		OnFatal: func(err error) { f.fatal <- err },
	}
	f.Store = open(t, "/store", f.opts)
	return f
}

// value is of nine kilobytes that cannot be compressed.
func value(i int) []byte {
	b := make([]byte, 9000)
	_, _ = rand.NewChaCha8([32]byte{byte(i), byte(i >> 8)}).Read(b)
	return b
}

func (f *fullStore) put(ctx context.Context, i int) error {
	b := new(driver.Batch)
	b.Put(fmt.Appendf(nil, "k%06d", i), value(i))
	return f.Apply(ctx, b)
}

// fillUp puts until a put does not go through; it returns how many did.
func (f *fullStore) fillUp(t *testing.T, from int) int {
	t.Helper()
	for i, failed := from, 0; ; {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		err := f.put(ctx, i)
		cancel()
		switch {
		case err == nil:
			i, failed = i+1, 0
		case !errors.Is(err, navvy.ErrUnavailable):
			t.Fatalf("put on a full disk: %v", err)
		case f.disk.space.full.Load():
			if failed++; failed == 2 {
				return i
			}
		}
	}
}

// wasFull tells whether OnFull was called with true. While the disk fills up,
// space that the storage engine gives back may make it change its mind.
func (f *fullStore) wasFull() (full bool) {
	for len(f.told) > 0 {
		full = <-f.told || full
	}
	return full
}

// untilRoomy waits until the disk is no longer full.
func (f *fullStore) untilRoomy() {
	for f.disk.space.full.Load() || len(f.told) > 0 {
		select {
		case <-f.told:
		case <-time.After(time.Millisecond):
		}
	}
}

// holds checks that all that was put is there.
func holds(t *testing.T, s driver.Store, n int) {
	t.Helper()
	count := 0
	err := s.Scan(t.Context(), driver.Range{Limit: n}, func(key, got []byte) error {
		if string(key) != fmt.Sprintf("k%06d", count) || !bytes.Equal(got, value(count)) {
			return fmt.Errorf("pair %d is %s", count, key)
		}
		count++
		return nil
	})
	if err != nil || count != n {
		t.Errorf("%d of %d are there, %v", count, n, err)
	}
}

// TestFull fills the disk: writing waits, reading goes on, nothing is lost, and
// when there is space again everything goes on by itself.
func TestFull(t *testing.T) {
	t.Parallel()
	f := openFull(t, 2<<20)
	n := 0
	for round := range 2 {
		n = f.fillUp(t, n)
		if !f.wasFull() {
			t.Error("nobody was told that the disk is full")
		}
		if _, err := f.fs.Stat("/store/ballast"); err == nil {
			t.Error("the ballast is still there")
		}
		holds(t, f, n)
		expectMissing(t, f, 1_000_000)

		done := make(chan error)
		go func() { done <- f.put(t.Context(), n) }()
		f.fs.free(3 << 20)
		if err := <-done; err != nil {
			t.Errorf("round %d: when there was space again: %v", round, err)
		}
		f.untilRoomy()
		if info, err := f.fs.Stat("/store/ballast"); err != nil || info.Size() != ballast {
			t.Errorf("the ballast is not back: %v", err)
		}
		n++
		holds(t, f, n)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	select {
	case err := <-f.fatal:
		t.Errorf("the store failed: %v", err)
	default:
	}
}

// TestFullEaten has somebody else eat what the ballast gave back. Writing waits,
// but no longer than its context; reading shows what is durable.
func TestFullEaten(t *testing.T) {
	t.Parallel()
	f := openFull(t, 2<<20)
	n := f.fillUp(t, 0)
	for range 2 {
		f.fs.free(-f.fs.free())
		// The reserve is gone, so this is let in only to wait in the midst.
		f.fs.free(ballast/4 + 10_000)
		for range 5 {
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			if err := f.put(ctx, n); err == nil {
				n++
			}
			cancel()
			f.fs.free(-f.fs.free())
			holds(t, f, n)
			expectMissing(t, f, 1_000_000)
		}
		f.fs.free(3 << 20)
		if err := f.put(t.Context(), n); err != nil {
			t.Error(err)
		}
		n++
		f.untilRoomy()
		holds(t, f, n)
		n = f.fillUp(t, n)
	}
	f.fs.free(3 << 20)
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

func expectMissing(t *testing.T, s driver.Store, i int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := s.Get(ctx, fmt.Appendf(nil, "k%06d", i)); !errors.Is(err, navvy.ErrNotFound) {
		t.Errorf("get: %v", err)
	}
}

// TestFullClose closes a store whose disk is full, with writes that wait.
func TestFullClose(t *testing.T) {
	t.Parallel()
	f := openFull(t, 2<<20)
	n := f.fillUp(t, 0)
	const waiting = 5
	errs := make(chan error, waiting)
	for i := range waiting {
		go func() { errs <- f.put(context.Background(), n+i) }()
	}
	log, err := f.CreateLog(t.Context(), "log")
	if err != nil {
		t.Fatal(err)
	}
	logErr := make(chan error)
	go func() { logErr <- log.Append(make([]byte, 10<<20)) }()

	closed := make(chan error)
	go func() { closed <- f.Close() }()
	select {
	case err := <-closed:
		// It had to give up, and may say so.
		if err != nil && !errors.Is(err, navvy.ErrUnavailable) {
			t.Errorf("close: %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("close hangs")
	}
	for range waiting {
		if err := <-errs; !errors.Is(err, navvy.ErrUnavailable) && !errors.Is(err, navvy.ErrClosed) {
			t.Errorf("a put that waited: %v", err)
		}
	}
	if err := <-logErr; err == nil {
		t.Error("an append that waited succeeded")
	}
	_ = log.Close()

	f.fs.free(3 << 20)
	s := open(t, "/store", f.opts)
	holds(t, s, n)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestFullOpen opens a store on a full disk: it gives up its ballast, or says so.
func TestFullOpen(t *testing.T) {
	t.Parallel()
	f := openFull(t, 2<<20)
	n := 40
	for i := range n {
		if err := f.put(t.Context(), i); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	f.fs.free(-f.fs.free())
	s := open(t, "/store", f.opts)
	holds(t, s, n)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	_ = f.fs.Remove("/store/ballast")
	f.fs.free(-f.fs.free())
	_, err := Open("/store", f.opts)
	if !errors.Is(err, navvy.ErrExhausted) {
		t.Errorf("open without any space: %v", err)
	}
	f.fs.free(1 << 20)
	s = open(t, "/store", f.opts)
	holds(t, s, n)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestFullLogs fills the disk with output.
func TestFullLogs(t *testing.T) {
	t.Parallel()
	f := openFull(t, 2<<20)
	w, err := f.CreateLog(t.Context(), "out/1")
	if err != nil {
		t.Fatal(err)
	}
	piece := make([]byte, 64<<10)
	appended := make(chan error)
	go func() {
		for range 64 {
			if err := w.Append(piece); err != nil {
				appended <- err
				return
			}
		}
		appended <- w.Sync()
	}()
	for !<-f.told { // until it is full
	}
	f.fs.free(4 << 20)
	if err := <-appended; err != nil {
		t.Error(err)
	}
	r, err := f.OpenLog(t.Context(), "out/1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.ReadAt(make([]byte, 64*len(piece)), 0); err != nil {
		t.Error(err)
	}
	for _, err := range []error{w.Close(), r.Close(), f.Close()} {
		if err != nil {
			t.Error(err)
		}
	}
}
