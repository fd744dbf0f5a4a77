package pebble

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// disk is the file system as the storage engine sees it: one where writing
// never fails. A write for which there is no space waits until there is some.
// Any other failed write fails the whole store, for good; from then on every
// write is swallowed and reported as done. So the engine, which would panic,
// exit or retry without end, winds up quietly, nothing that it decides on the
// strength of a lost write reaches the files, and what is there is as after a
// crash at that moment. Callers of the store never see such an answer: each
// call looks at the failure before it reports success.
//
// Reading, and errors of it, pass through.
type disk struct {
	vfs.FS // the real one
	space  *space
	broken atomic.Bool
	report func(error) // called once, with the first failure
}

// write runs one writing operation.
func (d *disk) write(op, name string, f func() error) {
	for !d.broken.Load() {
		given := d.space.given.Load()
		err := f()
		if err == nil {
			return
		}
		if noSpace(err) && d.space.wait(given) {
			continue
		}
		d.fail(fmt.Errorf("%s %s: %w", op, name, err))
	}
}

// try runs a writing operation whose failure leaves nothing open, and hands its
// error on; only for want of space does it wait too. On a broken disk it does
// nothing.
func (d *disk) try(f func() error) error {
	for !d.broken.Load() {
		given := d.space.given.Load()
		err := f()
		if err == nil || !noSpace(err) || !d.space.wait(given) {
			return err
		}
	}
	return nil
}

// fail breaks the disk. It may be called at any time, more than once.
func (d *disk) fail(err error) {
	if d.broken.CompareAndSwap(false, true) {
		d.report(err)
	}
}

// noSpace tells whether a write failed for want of space.
func noSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// open runs an operation that opens a file for writing.
func (d *disk) open(op, name string, f func() (vfs.File, error)) (vfs.File, error) {
	var file vfs.File = noFile{}
	d.write(op, name, func() error {
		opened, err := f()
		if err == nil {
			file = opened
		}
		return err
	})
	return &diskFile{File: file, disk: d, name: name}, nil
}

func (d *disk) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return d.open("create", name, func() (vfs.File, error) { return d.FS.Create(name, category) })
}

func (d *disk) OpenReadWrite(name string, category vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return d.open("open", name, func() (vfs.File, error) { return d.FS.OpenReadWrite(name, category, opts...) })
}

func (d *disk) ReuseForWrite(oldName, newName string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return d.open("reuse", newName, func() (vfs.File, error) { return d.FS.ReuseForWrite(oldName, newName, category) })
}

// OpenDir opens a directory, whose Sync is a write like any other.
func (d *disk) OpenDir(name string) (vfs.File, error) {
	file, err := d.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return &diskFile{File: file, disk: d, name: name}, nil
}

func (d *disk) Link(oldName, newName string) error {
	d.write("link", newName, func() error { return d.FS.Link(oldName, newName) })
	return nil
}

func (d *disk) Rename(oldName, newName string) error {
	d.write("rename", oldName, func() error { return d.FS.Rename(oldName, newName) })
	return nil
}

func (d *disk) MkdirAll(dir string, perm os.FileMode) error {
	d.write("make directory", dir, func() error { return d.FS.MkdirAll(dir, perm) })
	return nil
}

// Remove is no write that anything durable hangs on: its error passes through.
// On a broken disk it must do nothing, since what it removes may be needed.
func (d *disk) Remove(name string) error {
	if d.broken.Load() {
		return nil
	}
	return d.FS.Remove(name)
}

// RemoveAll is like Remove.
func (d *disk) RemoveAll(name string) error {
	if d.broken.Load() {
		return nil
	}
	return d.FS.RemoveAll(name)
}

func (d *disk) Unwrap() vfs.FS { return d.FS }

// diskFile is a file of a disk.
type diskFile struct {
	vfs.File
	disk *disk
	name string
}

func (f *diskFile) Write(p []byte) (int, error) {
	done := 0
	f.disk.write("write", f.name, func() error {
		n, err := f.File.Write(p[done:])
		done += n
		return err
	})
	return len(p), nil
}

func (f *diskFile) WriteAt(p []byte, off int64) (int, error) {
	done := 0
	f.disk.write("write", f.name, func() error {
		n, err := f.File.WriteAt(p[done:], off+int64(done))
		done += n
		return err
	})
	return len(p), nil
}

func (f *diskFile) Sync() error     { f.sync(f.File.Sync); return nil }
func (f *diskFile) SyncData() error { f.sync(f.File.SyncData); return nil }

func (f *diskFile) SyncTo(length int64) (bool, error) {
	full := false
	f.sync(func() (err error) {
		full, err = f.File.SyncTo(length)
		return err
	})
	return full, nil
}

// sync never tries again, whatever the error: the kernel may have dropped the
// very pages that could not be written, and a second sync would succeed.
func (f *diskFile) sync(sync func() error) {
	if f.disk.broken.Load() {
		return
	}
	if err := sync(); err != nil {
		f.disk.fail(fmt.Errorf("sync %s: %w", f.name, err))
	}
}

// Close may report a write that was buffered until then.
func (f *diskFile) Close() error {
	if err := f.File.Close(); err != nil {
		f.disk.fail(fmt.Errorf("close %s: %w", f.name, err))
	}
	return nil
}

// noFile stands for a file that could not be opened on a broken disk: it takes
// everything and holds nothing. It is its own FileInfo.
type noFile struct{}

var (
	_ vfs.File     = noFile{}
	_ vfs.FileInfo = noFile{}
)

func (noFile) Read([]byte) (int, error)               { return 0, io.EOF }
func (noFile) ReadAt([]byte, int64) (int, error)      { return 0, io.EOF }
func (noFile) Write(p []byte) (int, error)            { return len(p), nil }
func (noFile) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }
func (noFile) Close() error                           { return nil }
func (noFile) Preallocate(int64, int64) error         { return nil }
func (noFile) Prefetch(int64, int64) error            { return nil }
func (noFile) Sync() error                            { return nil }
func (noFile) SyncData() error                        { return nil }
func (noFile) SyncTo(int64) (bool, error)             { return true, nil }
func (noFile) Fd() uintptr                            { return vfs.InvalidFd }
func (f noFile) Stat() (vfs.FileInfo, error)          { return f, nil }

func (noFile) Name() string           { return "" }
func (noFile) Size() int64            { return 0 }
func (noFile) Mode() os.FileMode      { return 0 }
func (noFile) ModTime() time.Time     { return time.Time{} }
func (noFile) IsDir() bool            { return false }
func (noFile) Sys() any               { return nil }
func (noFile) DeviceID() vfs.DeviceID { return vfs.DeviceID{} }
