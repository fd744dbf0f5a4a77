package share

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/navvy-run/navvy"
)

func openCache(t *testing.T, dir string, max int64) *Cache {
	t.Helper()
	c, err := OpenCache(dir, &CacheOptions{MaxBytes: max})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
			t.Error(err)
		}
	})
	return c
}

// writes is a fetcher of a text, which counts.
func writes(text string, n *atomic.Int64) Fetcher {
	return func(_ context.Context, w io.Writer) error {
		n.Add(1)
		_, err := io.WriteString(w, text)
		return err
	}
}

// never is a fetcher that must not be called.
func never(t *testing.T) Fetcher {
	return func(context.Context, io.Writer) error {
		t.Error("it is fetched again")
		return errors.New("again")
	}
}

func cached(t *testing.T, c *Cache, owner, text string, fetch Fetcher) *Entry {
	t.Helper()
	e, err := c.Get(t.Context(), owner, sumOf([]byte(text)), int64(len(text)), fetch)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(e.Path); string(got) != text || err != nil || e.Size != int64(len(text)) {
		t.Fatalf("%q, %v", got, err)
	}
	return e
}

// A file comes once for all who want it, and stays.
func TestCacheOnce(t *testing.T) {
	t.Parallel()
	c := openCache(t, filepath.Join(t.TempDir(), "cache"), 0)
	var n atomic.Int64
	var all sync.WaitGroup
	gate := make(chan struct{})
	for range 32 {
		all.Go(func() {
			e := cached(t, c, "ann", "text", func(ctx context.Context, w io.Writer) error {
				<-gate
				return writes("text", &n)(ctx, w)
			})
			e.Release()
			e.Release()
		})
	}
	close(gate)
	all.Wait()
	e := cached(t, c, "ann", "text", never(t))
	defer e.Release()
	info, err := os.Stat(e.Path)
	if err != nil || info.Mode() != 0o444 || n.Load() != 1 {
		t.Errorf("%v, %v, fetched %d times", info.Mode(), err, n.Load())
	}
	// Another owner does not get it, and is not told that it is there.
	cached(t, c, "bob", "text", writes("text", &n)).Release()
	if n.Load() != 2 {
		t.Errorf("fetched %d times", n.Load())
	}
	if _, err := c.Get(t.Context(), "ann", "../../x", 0, never(t)); !errors.Is(err, navvy.ErrInvalid) {
		t.Errorf("%v", err)
	}
}

// Who does not want to wait any more leaves; only when all have left does fetching end.
func TestCacheCancel(t *testing.T) {
	t.Parallel()
	c := openCache(t, t.TempDir(), 0)
	began, ended, gate := make(chan struct{}), make(chan error, 1), make(chan struct{})
	fetch := func(ctx context.Context, w io.Writer) error {
		close(began)
		select {
		case <-gate:
		case <-ctx.Done():
			ended <- ctx.Err()
			return ctx.Err()
		}
		_, err := io.WriteString(w, "text")
		return err
	}
	get := func(ctx context.Context, text string, f Fetcher) chan error {
		done := make(chan error, 1)
		go func() {
			e, err := c.Get(ctx, "ann", sumOf([]byte(text)), -1, f)
			if err == nil {
				e.Release()
			}
			done <- err
		}()
		return done
	}
	impatient, leave := context.WithCancel(t.Context())
	first := get(impatient, "text", fetch)
	<-began
	second := get(t.Context(), "text", never(t))
	for waiting := 0; waiting < 2; {
		c.mu.Lock()
		waiting = c.coming[cacheName("ann", "text")].users
		c.mu.Unlock()
	}
	leave()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	close(gate)
	if err := <-second; err != nil {
		t.Errorf("%v", err)
	}
	// Alone, it ends what is on its way; the next one begins anew.
	began, gate = make(chan struct{}), make(chan struct{})
	impatient, leave = context.WithCancel(t.Context())
	first = get(impatient, "other", fetch)
	<-began
	leave()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	var n atomic.Int64
	if err := <-get(t.Context(), "other", writes("other", &n)); err != nil || n.Load() != 1 {
		t.Errorf("%v, %d", err, n.Load())
	}
}

func cacheName(owner, text string) string { return sumOf([]byte(owner)) + "/" + sumOf([]byte(text)) }

// What is not the file is not kept, and a failure is told to all who wait.
func TestCacheWrong(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := openCache(t, dir, 0)
	var n atomic.Int64
	broken := errors.New("the line is cut")
	for want, fetch := range map[error]Fetcher{
		navvy.ErrCorrupt: writes("tex", &n),
		broken: func(_ context.Context, w io.Writer) error {
			_, err := io.WriteString(w, "te")
			return errors.Join(err, broken)
		},
	} {
		if _, err := c.Get(t.Context(), "ann", sumOf([]byte("text")), 4, fetch); !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	}
	if left, err := filepath.Glob(filepath.Join(dir, "tmp", "*")); len(left) != 0 || err != nil {
		t.Errorf("%q, %v", left, err)
	}
	cached(t, c, "ann", "text", writes("text", &n)).Release()
}

// A task that changes its file does not change that of the next one.
func TestCacheDamage(t *testing.T) {
	t.Parallel()
	c := openCache(t, t.TempDir(), 0)
	var n atomic.Int64
	e := cached(t, c, "ann", "text", writes("text", &n))
	e.Release()
	spoil := map[string]func(path string) error{
		"flipped": func(path string) error {
			return errors.Join(os.Chmod(path, 0o600), os.WriteFile(path, []byte("tExt"), 0o600), os.Chmod(path, 0o444))
		},
		"writable": func(path string) error { return os.Chmod(path, 0o644) },
		"gone":     os.Remove,
		"replaced": func(path string) error {
			return errors.Join(os.Remove(path), os.Symlink("/etc/passwd", path))
		},
	}
	for name, damage := range spoil {
		before := n.Load()
		if err := damage(e.Path); err != nil {
			t.Fatal(err)
		}
		cached(t, c, "ann", "text", writes("text", &n)).Release()
		if n.Load() != before+1 {
			t.Errorf("%s: fetched %d times", name, n.Load()-before)
		}
	}
	held := cached(t, c, "ann", "text", never(t))
	defer held.Release()
	if err := spoil["flipped"](held.Path); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Get(t.Context(), "ann", sumOf([]byte("text")), 4, never(t)); !errors.Is(err, navvy.ErrCorrupt) {
		t.Errorf("%v", err)
	}
}

// What was not used for longest leaves first, and nothing that is in use.
func TestCacheBound(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := openCache(t, dir, 10)
	var n atomic.Int64
	text := func(i int) string { return fmt.Sprintf("%04d", i) }
	there := func(i int) bool {
		_, err := os.Stat(filepath.Join(dir, cacheName("ann", text(i))))
		return err == nil
	}
	held := cached(t, c, "ann", text(0), writes(text(0), &n))
	cached(t, c, "ann", text(1), writes(text(1), &n)).Release()
	cached(t, c, "ann", text(2), writes(text(2), &n)).Release()
	if !there(0) || there(1) || !there(2) {
		t.Error(there(0), there(1), there(2))
	}
	held.Release()
	cached(t, c, "ann", text(3), writes(text(3), &n)).Release()
	if !there(0) || there(2) || !there(3) {
		t.Error(there(0), there(2), there(3))
	}
	// More than there is room for comes all the same, and leaves when it is not used any more.
	long := strings.Repeat("x", 100)
	big := cached(t, c, "ann", long, writes(long, &n))
	if there(0) || there(3) {
		t.Error(there(0), there(3))
	}
	big.Release()
	if _, err := os.Stat(big.Path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

// The next process finds what there is, in its order, and reads it before it trusts it.
func TestCacheAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := openCache(t, dir, 0)
	var n atomic.Int64
	a := cached(t, c, "ann", "aaaa", writes("aaaa", &n))
	a.Release()
	cached(t, c, "ann", "bbbb", writes("bbbb", &n)).Release()
	cached(t, c, "ann", "cccc", writes("cccc", &n)).Release()
	cached(t, c, "ann", "aaaa", never(t)).Release()
	if _, err := OpenCache(dir, nil); !errors.Is(err, navvy.ErrConflict) {
		t.Errorf("%v", err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Get(t.Context(), "ann", sumOf([]byte("aaaa")), 4, never(t)); !errors.Is(err, navvy.ErrClosed) {
		t.Errorf("%v", err)
	}
	// As a killed process leaves it.
	if err := os.WriteFile(filepath.Join(dir, "tmp", "half"), []byte("cc"), 0o600); err != nil {
		t.Fatal(err)
	}
	c = openCache(t, dir, 8)
	if _, err := os.Stat(filepath.Join(dir, "tmp", "half")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
	cached(t, c, "ann", "aaaa", never(t)).Release()
	cached(t, c, "ann", "cccc", never(t)).Release()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(a.Path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chmod(a.Path, 0o600), os.WriteFile(a.Path, []byte("aaXa"), 0o600), os.Chmod(a.Path, 0o444), os.Chtimes(a.Path, info.ModTime(), info.ModTime())); err != nil {
		t.Fatal(err)
	}
	c = openCache(t, dir, 8)
	before := n.Load()
	cached(t, c, "ann", "aaaa", writes("aaaa", &n)).Release()
	cached(t, c, "ann", "bbbb", writes("bbbb", &n)).Release()
	if n.Load() != before+2 {
		t.Errorf("fetched %d times", n.Load()-before)
	}
}
