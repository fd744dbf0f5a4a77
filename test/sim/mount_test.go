package sim

import (
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// mount is a disk as one process sees it: vfs.FS. When the process dies, or the
// power is lost, nothing that it still does reaches the disk.
type mount struct {
	disk   *disk
	root   *node // as it was when the process died
	locked map[string]bool

	// All of these are guarded by disk.mu.
	dead   bool
	struck bool  // trouble has come
	writes int   // so far
	at     int   // the write at which trouble comes; 0 for none
	plan   fault // which
}

// fault is what goes wrong at a write.
type fault struct {
	// power is lost before the write, and percent of what was not synced is kept, drawn by rng.
	power   bool
	percent int
	rng     *rand.Rand
	// Otherwise the write fails, or it and all later ones.
	lasting bool
}

func (d *disk) mount() *mount { return &mount{disk: d, root: d.root, locked: map[string]bool{}} }

// arm lets trouble come at the n-th write from now.
func (m *mount) arm(n int, plan fault) {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	m.at, m.plan = m.writes+n, plan
}

// hit tells whether the trouble has come.
func (m *mount) hit() bool {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	return m.dead || m.struck
}

func (m *mount) isDead() bool {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	return m.dead
}

// kill ends the process; what it wrote stays.
func (m *mount) kill() {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	m.dead = true
}

// cut turns the power off.
func (m *mount) cut(percent int, rng *rand.Rand) {
	m.kill()
	m.disk.crash(rng, percent)
}

// write carries out one writing operation, unless it meets with trouble.
func (m *mount) write(f func() error) error {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	if m.dead {
		return errPower
	}
	m.writes++
	switch {
	case m.at == 0 || m.writes < m.at || m.writes > m.at && !m.plan.lasting:
		return f()
	case m.plan.power:
		m.dead = true
		m.disk.mu.Unlock()
		m.disk.crash(m.plan.rng, m.plan.percent)
		m.disk.mu.Lock()
		return errPower
	default:
		m.struck = true
		return syscall.EIO
	}
}

// read carries out one reading operation. It works for the dead as well: if it
// did not, they would cry out, and nobody is to hear them.
func (m *mount) read(f func() error) error {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	return f()
}

func (m *mount) Create(name string, _ vfs.DiskWriteCategory) (vfs.File, error) {
	f := &file{mount: m, name: name}
	err := m.write(func() (err error) {
		f.node, err = m.disk.create(name)
		return err
	})
	return opened(f, err)
}

func (m *mount) Link(from, to string) error {
	return m.write(func() error { return m.disk.link(from, to) })
}

func (m *mount) Open(name string, _ ...vfs.OpenOption) (vfs.File, error) {
	f := &file{mount: m, name: name}
	err := m.read(func() (err error) {
		f.node, err = m.root.find(name)
		return err
	})
	return opened(f, err)
}

func opened(f *file, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (m *mount) OpenReadWrite(name string, category vfs.DiskWriteCategory, _ ...vfs.OpenOption) (vfs.File, error) {
	f, err := m.Open(name)
	if os.IsNotExist(err) {
		return m.Create(name, category)
	}
	return f, err
}

func (m *mount) OpenDir(name string) (vfs.File, error) { return m.Open(name) }

func (m *mount) Remove(name string) error {
	return m.write(func() error { return m.disk.remove(name, false) })
}

func (m *mount) RemoveAll(name string) error {
	err := m.write(func() error { return m.disk.remove(name, true) })
	if os.IsNotExist(err) {
		return nil
	}
	return err
}

func (m *mount) Rename(from, to string) error {
	return m.write(func() error { return m.disk.rename(from, to) })
}

func (m *mount) ReuseForWrite(from, to string, _ vfs.DiskWriteCategory) (vfs.File, error) {
	if err := m.Rename(from, to); err != nil {
		return nil, err
	}
	return m.Open(to)
}

func (m *mount) MkdirAll(name string, _ os.FileMode) error {
	return m.write(func() error { return m.disk.mkdirAll(name) })
}

func (m *mount) Lock(name string) (io.Closer, error) {
	m.disk.mu.Lock()
	taken := m.locked[name]
	m.locked[name] = true
	m.disk.mu.Unlock()
	if taken {
		return nil, syscall.EAGAIN
	}
	f, err := m.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, err
	}
	return unlocker{m, name, f}, nil
}

type unlocker struct {
	m    *mount
	name string
	f    vfs.File
}

func (u unlocker) Close() error {
	u.m.disk.mu.Lock()
	delete(u.m.locked, u.name)
	u.m.disk.mu.Unlock()
	return u.f.Close()
}

func (m *mount) List(name string) (names []string, err error) {
	err = m.read(func() error {
		n, err := m.root.find(name)
		if err == nil {
			names = slices.Sorted(maps.Keys(n.children))
		}
		return err
	})
	return names, err
}

func (m *mount) Stat(name string) (vfs.FileInfo, error) {
	f, err := m.Open(name)
	if err != nil {
		return nil, err
	}
	return f.Stat()
}

func (m *mount) PathBase(name string) string    { return path.Base(name) }
func (m *mount) PathJoin(elem ...string) string { return path.Join(elem...) }
func (m *mount) PathDir(name string) string     { return path.Dir(name) }
func (m *mount) Unwrap() vfs.FS                 { return nil }

func (m *mount) GetDiskUsage(string) (usage vfs.DiskUsage, err error) {
	err = m.read(func() error {
		usage = vfs.DiskUsage{AvailBytes: uint64(max(0, m.disk.limit-m.disk.used)), TotalBytes: uint64(m.disk.limit), UsedBytes: uint64(m.disk.used)}
		return nil
	})
	return usage, err
}

// file is an open file or directory.
type file struct {
	mount *mount
	name  string
	node  *node
	pos   int
}

func (f *file) Close() error { return nil }

func (f *file) Read(p []byte) (int, error) {
	n, err := f.ReadAt(p, int64(f.pos))
	f.pos += n
	if n > 0 {
		err = nil
	}
	return n, err
}

func (f *file) ReadAt(p []byte, off int64) (n int, err error) {
	err = f.mount.read(func() error {
		if f.node.isDir() {
			return syscall.EISDIR
		}
		if off < int64(len(f.node.data)) {
			n = copy(p, f.node.data[off:])
		}
		if n < len(p) {
			return io.EOF
		}
		return nil
	})
	return n, err
}

func (f *file) Write(p []byte) (int, error) {
	n, err := f.WriteAt(p, int64(f.pos))
	f.pos += n
	return n, err
}

func (f *file) WriteAt(p []byte, off int64) (int, error) {
	if err := f.mount.write(func() error { return f.mount.disk.writeAt(f.node, p, int(off)) }); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (f *file) Preallocate(off, length int64) error {
	return f.mount.write(func() error {
		if err := f.mount.disk.grow(f.node, off+length); err != nil {
			return err
		}
		f.node.reserved = max(f.node.reserved, off+length)
		return nil
	})
}

func (f *file) Sync() error {
	return f.mount.write(func() error {
		if lies := f.mount.disk.lies; lies == nil || !lies(f.name) {
			f.node.sync()
		}
		return nil
	})
}

func (f *file) SyncData() error { return f.Sync() }

// SyncTo promises nothing, and does nothing.
func (f *file) SyncTo(int64) (bool, error) { return false, nil }

func (f *file) Prefetch(int64, int64) error { return nil }
func (f *file) Fd() uintptr                 { return vfs.InvalidFd }

func (f *file) Stat() (vfs.FileInfo, error) {
	f.mount.disk.mu.Lock()
	defer f.mount.disk.mu.Unlock()
	return info{name: path.Base(f.name), size: int64(len(f.node.data)), dir: f.node.isDir()}, nil
}

type info struct {
	name string
	size int64
	dir  bool
}

func (i info) Name() string           { return i.name }
func (i info) Size() int64            { return i.size }
func (i info) Mode() os.FileMode      { return 0o600 }
func (i info) ModTime() time.Time     { return time.Time{} }
func (i info) IsDir() bool            { return i.dir }
func (i info) Sys() any               { return nil }
func (i info) DeviceID() vfs.DeviceID { return vfs.DeviceID{} }
