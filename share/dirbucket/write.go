package dirbucket

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"gocloud.dev/blob/driver"
	"gocloud.dev/gcerrors"
	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy"
)

const notFound = gcerrors.NotFound

// attempts bounds how often a folder is made again that others remove because it is empty.
const attempts = 100

// Writer writes a file, which appears under its key, whole and durable, when it is closed,
// and not at all if the context has ended before. WriterOptions.BeforeWrite can ask for it
// as what makes the checksum, with a pointer to an interface that has the method SHA256.
type Writer struct {
	ctx    context.Context //nolint:containedctx // the driver's contract: a writer is closed without one
	bucket *bucket
	key    string
	absent bool
	name   string // of the file on its way
	file   *os.File
	hash   hash.Hash
	size   int64
}

// NewTypedWriter begins a file.
func (b *bucket) NewTypedWriter(ctx context.Context, key, _ string, o *driver.WriterOptions) (driver.Writer, error) {
	err := b.writable(key)
	if err != nil {
		return nil, err
	}
	w := &Writer{ctx: ctx, bucket: b, key: key, absent: o.IfNotExist, hash: sha256.New()}
	if w.file, w.name, err = b.temporary(); err != nil {
		return nil, err
	}
	if o.BeforeWrite != nil {
		err = o.BeforeWrite(func(to any) bool {
			p, ok := to.(*interface{ SHA256() string })
			if ok {
				*p = w
			}
			return ok
		})
	}
	if err != nil {
		return nil, errors.Join(err, w.abandon())
	}
	return w, nil
}

// temporary makes a file that is on its way, locked.
func (b *bucket) temporary() (*os.File, string, error) {
	if err := b.makeDirs(tmpDir); err != nil {
		return nil, "", err
	}
	for try := 0; ; try++ {
		name := tmpDir + "/" + strconv.FormatInt(time.Now().UnixNano(), 36) + "-" + strconv.Itoa(os.Getpid()) + "-" + strconv.Itoa(try)
		// Who may read the share may read its files: the mode is the umask's affair.
		f, err := b.root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
		if errors.Is(err, fs.ErrExist) && try < attempts {
			continue
		} else if err != nil {
			return nil, "", err
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			return nil, "", errors.Join(&fs.PathError{Op: "lock", Path: name, Err: err}, f.Close(), b.root.Remove(name))
		}
		return f, name, nil
	}
}

// Write writes on.
func (w *Writer) Write(p []byte) (int, error) {
	n, err := w.file.Write(p)
	w.hash.Write(p[:n])
	w.size += int64(n)
	return n, err
}

// SHA256 is the checksum of what was written so far, in hexadecimal digits.
func (w *Writer) SHA256() string { return hex.EncodeToString(w.hash.Sum(nil)) }

// abandon removes what was written.
func (w *Writer) abandon() error {
	return errors.Join(w.file.Close(), w.bucket.root.Remove(w.name))
}

// Close makes the file durable and visible. After an error, what was there before is there
// still, or, if only the last flush has failed, the new file is.
func (w *Writer) Close() (err error) {
	renamed := false
	defer func() {
		if !renamed {
			err = errors.Join(err, w.bucket.root.Remove(w.name))
		}
		err = errors.Join(err, w.file.Close()) // which ends the lock
	}()
	if err := w.ctx.Err(); err != nil {
		return err
	}
	if err := w.file.Sync(); err != nil {
		return err
	}
	b, now := w.bucket, time.Now()
	if err := b.root.Chtimes(w.name, now, now); err != nil {
		return err
	}
	info, err := w.file.Stat() // the file system may keep less of the time
	if err != nil {
		return err
	}
	if err := b.writeSum(w.key, info, w.SHA256()); err != nil {
		return err
	}
	old, statErr := b.root.Lstat(w.key)
	if renamed, err = w.appear(); err != nil {
		if !renamed {
			_ = b.root.Remove(sumName(w.key, info.ModTime()))
		}
		return err
	}
	if statErr == nil && !w.absent && !old.ModTime().Equal(info.ModTime()) {
		_ = b.root.Remove(sumName(w.key, old.ModTime())) // without its file it says nothing
	}
	return nil
}

// appear gives the file its name, and tells whether it has it.
func (w *Writer) appear() (bool, error) {
	b, dir := w.bucket, filepath.Dir(w.key)
	for try := 0; ; try++ {
		err := b.makeDirs(dir)
		if err == nil {
			err = w.rename()
		}
		if errors.Is(err, fs.ErrNotExist) && try < attempts {
			continue // a Delete has found the folder empty
		} else if err != nil {
			return false, b.clash(w.key, err)
		}
		return true, b.syncDir(dir)
	}
}

// rename puts the file in its place: in that of another one, unless there must be none.
func (w *Writer) rename() error {
	root := w.bucket.root
	if !w.absent {
		return root.Rename(w.name, w.key)
	}
	if err := root.Link(w.name, w.key); err != nil {
		return err
	}
	return root.Remove(w.name)
}

// clash says it if a file stands where a folder is to be, or the other way round.
func (b *bucket) clash(key string, err error) error {
	if errors.Is(err, unix.ENOTDIR) {
		return fmt.Errorf("a part of the path is a file: %w: %w", err, navvy.ErrConflict)
	}
	if info, statErr := b.root.Lstat(key); statErr == nil && info.IsDir() {
		return fmt.Errorf("there is a folder of that name: %w: %w", err, navvy.ErrConflict)
	}
	return err
}

// sumName is where the checksum lies of a file as it was written at some time.
func sumName(key string, modified time.Time) string {
	id := sha256.Sum256([]byte(key))
	text := hex.EncodeToString(id[:])
	return sumsDir + "/" + text[:2] + "/" + text + "." + strconv.FormatInt(modified.UnixNano(), 10)
}

// sumFormat is a checksum file: its version, the checksum, and the size of the file.
const sumFormat = "navvy-sum-1 %s %d\n"

// writeSum makes a checksum durable, before its file appears.
func (b *bucket) writeSum(key string, info fs.FileInfo, sum string) (err error) {
	name := sumName(key, info.ModTime())
	if err := b.makeDirs(filepath.Dir(name)); err != nil {
		return err
	}
	f, temporary, err := b.temporary()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, sumFormat, sum, info.Size())
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = b.root.Rename(temporary, name)
	}
	if err != nil {
		return errors.Join(err, f.Close(), b.root.Remove(temporary))
	}
	return errors.Join(f.Close(), b.syncDir(filepath.Dir(name)))
}

// sum is the checksum of a file as it is now; empty if there is none.
func (b *bucket) sum(key string, info fs.FileInfo) (string, error) {
	text, err := b.root.ReadFile(sumName(key, info.ModTime()))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	} else if err != nil {
		return "", err
	}
	sum, size, ok := parseSum(string(text))
	if !ok {
		return "", fmt.Errorf("its checksum in %s is damaged, or was written by a newer navvy: %w", Own, navvy.ErrCorrupt)
	}
	if size != info.Size() {
		return "", fmt.Errorf("it has %d bytes, and was written with %d: %w", info.Size(), size, navvy.ErrCorrupt)
	}
	return sum, nil
}

func parseSum(text string) (sum string, size int64, ok bool) {
	words := strings.Fields(text)
	if len(words) != 3 || words[0] != "navvy-sum-1" || len(words[1]) != hex.EncodedLen(sha256.Size) {
		return "", 0, false
	}
	size, err := strconv.ParseInt(words[2], 10, 64)
	if _, hexErr := hex.DecodeString(words[1]); err != nil || hexErr != nil || size < 0 {
		return "", 0, false
	}
	return words[1], size, text == fmt.Sprintf(sumFormat, words[1], size)
}
