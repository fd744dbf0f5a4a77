package share

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/share/place"
)

// Cache keeps files by what they hold on this machine, so that each comes once: a worker
// that stages files for tasks. What one owner's tasks have brought, another's don't see,
// not even by how long it takes. Its methods may be called at once.
//
//	lock           held by the process that uses the cache
//	tmp/…          files on their way
//	OWNER/DIGEST   a file, for reading only; its modification time is that of its last use
//
// OWNER is the SHA-256 of the owner's name, DIGEST that of the file, in hexadecimal digits.
type Cache struct {
	dir  string
	max  int64
	lock *os.File
	// ctx ends with the cache, and with it all that is on its way.
	ctx    context.Context //nolint:containedctx // the life of the cache
	cancel context.CancelFunc
	ends   sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	used    int64
	entries map[string]*entry  // by OWNER/DIGEST
	coming  map[string]*coming // the same
}

// CacheOptions are those of a cache. The zero value is the default.
type CacheOptions struct {
	// MaxBytes bounds all files together; those that were not used for longest leave first.
	// What is in use stays, so that there may be more for a while. Defaults to 10 GiB.
	MaxBytes int64
}

const defaultCache = 10 << 30

// Fetcher writes a file to w. It is called again after a crash, never twice at once for
// one owner and digest.
type Fetcher func(ctx context.Context, w io.Writer) error

// entry is a file of the cache.
type entry struct {
	size  int64
	last  time.Time
	users int

	check sync.Mutex // held by who looks at the file
	// seen is how the file was when it was last found to hold what it should.
	seen stamp
}

// stamp changes with each change of a file: whoever may write it cannot set its ctime.
type stamp struct {
	inode   uint64
	size    int64
	changed unix.Timespec
}

// coming is a file on its way, for all who wait for it.
type coming struct {
	done   chan struct{}
	err    error
	cancel context.CancelFunc
	users  int
}

// OpenCache opens a cache in a directory of its own, which it makes, closed to others. One
// process uses it at a time: a second one gets an error that wraps navvy.ErrConflict.
func OpenCache(dir string, o *CacheOptions) (*Cache, error) {
	c := &Cache{dir: dir, max: defaultCache, entries: map[string]*entry{}, coming: map[string]*coming{}}
	if o != nil && o.MaxBytes > 0 {
		c.max = o.MaxBytes
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, local("open cache", dir, err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, local("open cache", dir, err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("open cache %s: another process uses it: %w", dir, navvy.ErrConflict), lock.Close())
	}
	c.lock = lock
	c.ctx, c.cancel = context.WithCancel(context.Background())
	if err := c.load(); err != nil {
		c.cancel()
		return nil, errors.Join(local("open cache", dir, err), lock.Close())
	}
	c.evict(0)
	return c, nil
}

// load drops what was on its way, and finds what there is.
func (c *Cache) load() error {
	tmp := filepath.Join(c.dir, "tmp")
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	if err := os.Mkdir(tmp, 0o700); err != nil {
		return err
	}
	return filepath.WalkDir(c.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !d.Type().IsRegular() || !place.IsSHA256(d.Name()) {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name, err := filepath.Rel(c.dir, path)
		if err != nil {
			return err
		}
		c.entries[name] = &entry{size: info.Size(), last: info.ModTime()}
		c.used += info.Size()
		return nil
	})
}

// Entry is a file of a cache in use. Until Release it stays where it is.
type Entry struct {
	// Path is where the file is, for reading only.
	Path string
	// Size is in bytes.
	Size    int64
	release func()
}

// Release ends the use. It may be called again.
func (e *Entry) Release() { e.release() }

// Get gives the file of that SHA-256, in hexadecimal digits, to an owner, and has it
// fetched if it is not there, or not any more what it was. Who asks for a file that is on
// its way waits for it; fetching ends when nobody waits. The size makes room beforehand; it
// is less than zero if it is not known. An error that wraps navvy.ErrCorrupt says that what
// was fetched is not that file, which is then not kept.
func (c *Cache) Get(ctx context.Context, owner, digest string, size int64, fetch Fetcher) (*Entry, error) {
	if !place.IsSHA256(digest) {
		return nil, invalid("%.70q is no SHA-256: want 64 hexadecimal digits", digest)
	}
	sum := sha256.Sum256([]byte(owner))
	name := hex.EncodeToString(sum[:]) + "/" + digest
	for {
		e, err := c.find(name)
		if e != nil || err != nil {
			return e, err
		}
		if err := c.await(ctx, name, size, fetch); err != nil {
			return nil, err
		}
	}
}

// find gives a file that is there; nil if there is none.
func (c *Cache) find(name string) (*Entry, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, fmt.Errorf("cache %s: %w", c.dir, navvy.ErrClosed)
	}
	e := c.entries[name]
	if e == nil {
		return nil, nil //nolint:nilnil // to be fetched
	}
	e.users++ // so that it stays
	c.mu.Unlock()
	path := filepath.Join(c.dir, name)
	err := e.verify(path)
	c.mu.Lock()
	if err == nil {
		e.last = time.Now()
		return &Entry{Path: path, Size: e.size, release: sync.OnceFunc(func() { c.release(name, e) })}, nil
	}
	e.users--
	if e.users > 0 {
		return nil, fmt.Errorf("cache: %s is in use, and not what it was: %w", path, navvy.ErrCorrupt)
	}
	if c.entries[name] == e {
		c.drop(name)
	}
	return nil, nil //nolint:nilnil // to be fetched again
}

// verify reads a file if it is not as it was when it was last looked at, and notes its use.
func (e *entry) verify(path string) error {
	e.check.Lock()
	defer e.check.Unlock()
	now, err := stampOf(path)
	if err != nil {
		return err
	}
	if now != e.seen {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		digest := sha256.New()
		if _, err := io.Copy(digest, f); err != nil {
			return err
		}
		if hex.EncodeToString(digest.Sum(nil)) != filepath.Base(path) {
			return errSum
		}
	}
	used := time.Now()
	if err := os.Chtimes(path, used, used); err != nil { // for the next process
		return err
	}
	e.seen, err = stampOf(path)
	return err
}

func stampOf(path string) (stamp, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return stamp{}, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Mode&0o222 != 0 {
		return stamp{}, errSum // somebody was at it
	}
	return stamp{st.Ino, st.Size, st.Ctim}, nil
}

func (c *Cache) release(name string, e *entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e.users--
	e.last = time.Now()
	if c.entries[name] == e && !c.closed {
		c.evict(0)
	}
}

// drop takes a file away.
func (c *Cache) drop(name string) {
	c.used -= c.entries[name].size
	delete(c.entries, name)
	_ = os.Remove(filepath.Join(c.dir, name)) // if it stays, the next start counts it
}

// evict makes room for so many bytes, of what nobody uses.
func (c *Cache) evict(room int64) {
	for c.used+room > c.max {
		oldest := ""
		for name, e := range c.entries {
			if e.users == 0 && (oldest == "" || e.last.Before(c.entries[oldest].last)) {
				oldest = name
			}
		}
		if oldest == "" {
			return
		}
		c.drop(oldest)
	}
}

// await waits for a file that is on its way, or has it fetched.
func (c *Cache) await(ctx context.Context, name string, size int64, fetch Fetcher) error {
	c.mu.Lock()
	if c.closed || c.entries[name] != nil {
		c.mu.Unlock()
		return nil // find says which
	}
	w := c.coming[name]
	if w == nil {
		c.evict(max(size, 0))
		w = &coming{done: make(chan struct{})}
		var life context.Context
		life, w.cancel = context.WithCancel(c.ctx)
		c.coming[name] = w
		c.ends.Go(func() { c.bring(life, name, w, fetch) })
	}
	w.users++
	c.mu.Unlock()
	select {
	case <-w.done:
		return w.err
	case <-ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if w.users--; w.users == 0 {
		w.cancel()
		if c.coming[name] == w {
			delete(c.coming, name) // who comes now begins anew
		}
	}
	return context.Cause(ctx)
}

// bring fetches a file and puts it in its place.
func (c *Cache) bring(ctx context.Context, name string, w *coming, fetch Fetcher) {
	defer w.cancel()
	e, err := c.download(ctx, name, fetch)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil && c.entries[name] == nil {
		c.entries[name] = e
		c.used += e.size
		// Those who have waited come for it: until then it counts as the newest, which it is.
		e.users++
		c.evict(0)
		e.users--
	}
	if c.coming[name] == w {
		delete(c.coming, name)
	}
	w.err = err
	close(w.done)
}

// download writes a file beside its place, and moves it there when it is whole.
func (c *Cache) download(ctx context.Context, name string, fetch Fetcher) (e *entry, err error) {
	path := filepath.Join(c.dir, name)
	f, err := os.CreateTemp(filepath.Join(c.dir, "tmp"), "")
	if err != nil {
		return nil, local("write", path, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(), os.Remove(f.Name()))
		}
	}()
	w := &hashing{w: &localWriter{f, path}, hash: sha256.New()}
	if err := fetch(ctx, w); err != nil {
		return nil, err
	}
	if got := hex.EncodeToString(w.hash.Sum(nil)); got != filepath.Base(path) {
		return nil, fmt.Errorf("fetch a file: %w", wrongSum(filepath.Base(path), got))
	}
	if err := errors.Join(f.Chmod(0o444), f.Sync()); err != nil {
		return nil, local("write", path, err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, local("write", path, err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return nil, local("write", path, err)
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return nil, local("write", path, err)
	}
	e = &entry{size: w.n, last: time.Now()}
	if e.seen, err = stampOf(path); err != nil {
		return nil, local("write", path, err)
	}
	return e, f.Close()
}

// hashing makes the checksum of what goes through it.
type hashing struct {
	w    io.Writer
	hash hash.Hash
	n    int64
}

func (h *hashing) Write(p []byte) (int, error) {
	n, err := h.w.Write(p)
	h.hash.Write(p[:n])
	h.n += int64(n)
	return n, err
}

// Close ends what is on its way and gives the directory free. Files in use stay where they are.
func (c *Cache) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.cancel()
	c.ends.Wait()
	return c.lock.Close()
}
