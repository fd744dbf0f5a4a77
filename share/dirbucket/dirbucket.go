// Package dirbucket is a directory as a bucket of gocloud.dev/blob. Beside what fileblob
// of gocloud.dev does, a file that is there is whole and durable, with its name and its
// checksum, whatever was killed in between, and nothing is ever read or written outside of
// the directory.
//
// A file lies under its key. What belongs to the bucket itself lies in [Own]:
//
//	.navvy/tmp/…           files on their way; their writers hold locks on them
//	.navvy/sums/ab/abcd….N the checksum of the file whose key has the SHA-256 abcd…, as it
//	                       was written at N nanoseconds since 1970: its modification time
//
// A checksum counts for the file with that very time and size. Who changes a file by other
// means makes it one without a checksum, and is not told that it is damaged.
package dirbucket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"gocloud.dev/blob"
	"gocloud.dev/blob/driver"
	"gocloud.dev/gcerrors"
	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/share/place"
)

// Own is the folder of the bucket's own files. No key begins with it.
const Own = place.Own

const (
	tmpDir  = Own + "/tmp"
	sumsDir = Own + "/sums"
	// stale is the age of a file on its way that nobody writes any more.
	stale = time.Hour
)

// MetadataSHA256 is the name of the metadata that a file's checksum is, in hexadecimal digits.
const MetadataSHA256 = "sha256"

// errLink says that a key names no file but something that leads elsewhere or is no data.
var errLink = fmt.Errorf("it is no regular file: symbolic links, pipes and devices are left alone: %w", navvy.ErrUnsupported)

// Open opens a directory, which must exist, and removes what killed writers have left in it
// long ago. The bucket may be used by any number of goroutines and processes at once.
func Open(dir string) (*blob.Bucket, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	b := &bucket{root: root}
	b.sweep()
	return blob.NewBucket(b), nil
}

// bucket implements driver.Bucket.
type bucket struct{ root *os.Root }

// sweep removes files that were on their way when their writers were killed. It matters to
// nobody but the disk, so that its errors don't either: another user may own them.
func (b *bucket) sweep() {
	list, err := fs.ReadDir(b.root.FS(), tmpDir)
	if err != nil {
		return
	}
	for _, entry := range list {
		info, err := entry.Info()
		if err != nil || time.Since(info.ModTime()) < stale {
			continue
		}
		name := tmpDir + "/" + entry.Name()
		f, err := b.root.OpenFile(name, os.O_RDWR|unix.O_NONBLOCK, 0)
		if err != nil {
			continue
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			_ = b.root.Remove(name)
		}
		_ = f.Close()
	}
}

// Close closes the directory.
func (b *bucket) Close() error { return b.root.Close() }

// ErrorCode tells of what kind an error of the file system is.
func (b *bucket) ErrorCode(err error) gcerrors.ErrorCode {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR):
		return gcerrors.NotFound
	case errors.Is(err, fs.ErrExist):
		return gcerrors.FailedPrecondition
	case errors.Is(err, fs.ErrPermission), errors.Is(err, unix.EROFS):
		return gcerrors.PermissionDenied
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return gcerrors.ResourceExhausted
	case errors.Is(err, errors.ErrUnsupported):
		return gcerrors.Unimplemented
	}
	return gcerrors.Unknown
}

// As gives nothing.
func (b *bucket) As(any) bool { return false }

// ErrorAs gives nothing: errors unwrap to those of the file system.
func (b *bucket) ErrorAs(error, any) bool { return false }

// regular is what is known of a file, which must be a regular one.
func (b *bucket) regular(key string) (fs.FileInfo, error) {
	if own(key) {
		return nil, &fs.PathError{Op: "open", Path: key, Err: fs.ErrNotExist}
	}
	if err := b.straight(filepath.Dir(key)); err != nil {
		return nil, err
	}
	info, err := b.root.Lstat(key)
	switch {
	case err != nil:
		return nil, err
	case info.IsDir():
		return nil, &fs.PathError{Op: "open", Path: key, Err: fs.ErrNotExist}
	case !info.Mode().IsRegular():
		return nil, &fs.PathError{Op: "open", Path: key, Err: errLink}
	}
	return info, nil
}

// straight refuses folders that are reached through a symbolic link: who puts one there
// gives away what lies elsewhere in the directory, also what belongs to another owner. That
// there is no such folder is no error.
func (b *bucket) straight(dir string) error {
	for i := 0; i <= len(dir); i++ {
		if i == 0 || i < len(dir) && dir[i] != '/' {
			continue
		}
		info, err := b.root.Lstat(dir[:i])
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR):
			return nil // whoever uses it is told
		case err != nil:
			return err
		case info.Mode()&fs.ModeSymlink != 0:
			return &fs.PathError{Op: "open", Path: dir[:i], Err: errLink}
		}
	}
	return nil
}

// writable refuses keys under which nobody may write.
func (b *bucket) writable(key string) error {
	if own(key) {
		return &fs.PathError{Op: "create", Path: key, Err: fs.ErrPermission}
	}
	return b.straight(filepath.Dir(key))
}

// own tells whether a key is that of the bucket's own files.
func own(key string) bool { return key == Own || strings.HasPrefix(key, Own+"/") }

// Attributes tells of a file, with its checksum if there is one.
func (b *bucket) Attributes(_ context.Context, key string) (*driver.Attributes, error) {
	info, err := b.regular(key)
	if err != nil {
		return nil, err
	}
	a := &driver.Attributes{ContentType: "application/octet-stream", ModTime: info.ModTime(), Size: info.Size(), ETag: tag(info)}
	sum, err := b.sum(key, info)
	if sum != "" {
		a.Metadata = map[string]string{MetadataSHA256: sum}
	}
	return a, err
}

func tag(info fs.FileInfo) string {
	return fmt.Sprintf("%x-%x", info.ModTime().UnixNano(), info.Size())
}

// NewRangeReader reads a file.
func (b *bucket) NewRangeReader(_ context.Context, key string, offset, length int64, o *driver.ReaderOptions) (driver.Reader, error) {
	if _, err := b.regular(key); err != nil {
		return nil, err
	}
	f, err := b.root.OpenFile(key, os.O_RDONLY|unix.O_NONBLOCK, 0) // should it have become a pipe
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: key, Err: errLink}
	}
	if err == nil && o.BeforeRead != nil {
		err = o.BeforeRead(b.As)
	}
	if err == nil && offset > 0 {
		_, err = f.Seek(offset, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	r := &reader{Reader: f, file: f, attributes: driver.ReaderAttributes{
		ContentType: "application/octet-stream", ModTime: info.ModTime(), Size: info.Size(),
	}}
	if length >= 0 {
		r.Reader = io.LimitReader(f, length)
	}
	return r, nil
}

// reader implements driver.Reader.
type reader struct {
	io.Reader
	file       *os.File
	attributes driver.ReaderAttributes
}

func (r *reader) Close() error                         { return r.file.Close() }
func (r *reader) Attributes() *driver.ReaderAttributes { return &r.attributes }
func (r *reader) As(any) bool                          { return false }

// Delete removes a file, its checksum, and the folders that are empty then.
func (b *bucket) Delete(_ context.Context, key string, o *driver.DeleteOptions) error {
	if o.BeforeDelete != nil {
		if err := o.BeforeDelete(b.As); err != nil {
			return err
		}
	}
	info, err := b.regular(key)
	if err != nil {
		return err
	}
	if err := b.root.Remove(key); err != nil {
		return err
	}
	dir := filepath.Dir(key)
	if err := b.syncDir(dir); err != nil {
		return err
	}
	_ = b.root.Remove(sumName(key, info.ModTime())) // without its file it says nothing
	for ; dir != "."; dir = filepath.Dir(dir) {
		if b.root.Remove(dir) != nil {
			break // the first that is not empty
		}
	}
	return nil
}

// SignedURL is not offered.
func (b *bucket) SignedURL(context.Context, string, *driver.SignedURLOptions) (string, error) {
	return "", fmt.Errorf("dirbucket: sign: %w", errors.ErrUnsupported)
}

// syncDir makes the names in a folder durable.
func (b *bucket) syncDir(dir string) error {
	d, err := b.root.Open(dir)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it has become empty, and somebody has removed it
		}
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// makeDirs makes a folder and those above it, each durable in its parent.
func (b *bucket) makeDirs(dir string) error {
	if dir == "." {
		return nil
	}
	for i := 0; i <= len(dir); i++ {
		if i < len(dir) && dir[i] != '/' {
			continue
		}
		err := b.root.Mkdir(dir[:i], 0o777)
		if errors.Is(err, fs.ErrExist) {
			continue // or a file, which is told when something is to be in it
		}
		if err == nil {
			err = b.syncDir(filepath.Dir(dir[:i]))
		}
		if err != nil {
			return err
		}
	}
	return nil
}
