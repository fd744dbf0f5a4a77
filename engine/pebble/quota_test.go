package pebble

import (
	"sync"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// quotaFS is a file system in memory with so much space and no more.
type quotaFS struct {
	vfs.FS
	mu    sync.Mutex
	limit int64
	used  int64
	sizes map[string]int64
}

func newQuotaFS(limit int64) *quotaFS {
	return &quotaFS{FS: vfs.NewMem(), limit: limit, sizes: map[string]int64{}}
}

// free adds so much to the space; without an argument it only tells.
func (q *quotaFS) free(more ...int64) int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, n := range more {
		q.limit += n
	}
	return max(0, q.limit-q.used)
}

func (q *quotaFS) GetDiskUsage(string) (vfs.DiskUsage, error) {
	return vfs.DiskUsage{AvailBytes: uint64(q.free())}, nil
}

// resize notes a file's size and tells how many of the bytes that it grows fit.
func (q *quotaFS) resize(name string, size int64) (missing int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if grow := size - q.sizes[name]; grow > 0 {
		missing = max(0, q.used+grow-max(q.limit, q.used))
	}
	q.used += size - missing - q.sizes[name]
	q.sizes[name] = size - missing
	return missing
}

func (q *quotaFS) size(name string) int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.sizes[name]
}

func (q *quotaFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	q.resize(name, 0)
	f, err := q.FS.Create(name, category)
	return q.file(name, f, err)
}

func (q *quotaFS) OpenReadWrite(name string, category vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := q.FS.OpenReadWrite(name, category, opts...)
	return q.file(name, f, err)
}

func (q *quotaFS) ReuseForWrite(from, to string, category vfs.DiskWriteCategory) (vfs.File, error) {
	q.moved(from, to)
	f, err := q.FS.ReuseForWrite(from, to, category)
	return q.file(to, f, err)
}

func (q *quotaFS) Rename(from, to string) error {
	q.moved(from, to)
	return q.FS.Rename(from, to)
}

func (q *quotaFS) moved(from, to string) {
	size := q.size(from)
	q.resize(from, 0)
	q.resize(to, 0)
	q.resize(to, size)
}

func (q *quotaFS) Remove(name string) error {
	err := q.FS.Remove(name)
	if err == nil {
		q.resize(name, 0)
	}
	return err
}

func (q *quotaFS) file(name string, f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &quotaFile{File: f, fs: q, name: name}, nil
}

type quotaFile struct {
	vfs.File
	fs   *quotaFS
	name string
	pos  int64
}

// Write writes what fits.
func (f *quotaFile) Write(p []byte) (int, error) {
	end := f.pos + int64(len(p))
	missing := f.fs.resize(f.name, max(end, f.fs.size(f.name)))
	n, err := f.File.Write(p[:max(0, int64(len(p))-missing)])
	f.pos += int64(n)
	if err == nil && missing > 0 {
		err = syscall.ENOSPC
	}
	return n, err
}

func (f *quotaFile) WriteAt(p []byte, off int64) (int, error) {
	had := f.fs.size(f.name)
	if f.fs.resize(f.name, max(had, off+int64(len(p)))) > 0 {
		f.fs.resize(f.name, had)
		return 0, syscall.ENOSPC
	}
	return f.File.WriteAt(p, off)
}
