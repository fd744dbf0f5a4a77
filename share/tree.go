package share

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/share/place"
)

// Tree is one side of a Sync: a folder in a share, or a directory of this machine.
type Tree interface {
	// String names it for people.
	String() string
	// files goes through its files in the order of their keys, which are relative to it.
	files(ctx context.Context) iter.Seq2[File, error]
	// sum is the checksum of a file; empty if nobody knows.
	sum(ctx context.Context, f File) (string, error)
	// remove removes a file.
	remove(ctx context.Context, f File) error
	// put makes a file of this tree out of one of another.
	put(ctx context.Context, from Tree, f File, progress func(int64)) error
}

// Folder is what is below a folder of a share; all of the share if folder is empty.
func (s *Share) Folder(folder string) (Tree, error) {
	folder = strings.TrimSuffix(folder, "/")
	if folder == "" {
		return &shareTree{share: s}, nil
	}
	if err := place.CheckKey(folder); err != nil {
		return nil, s.wrap("sync", folder, err)
	}
	return &shareTree{s, folder + "/"}, nil
}

// shareTree is a folder in a share.
type shareTree struct {
	share  *Share
	prefix string
}

func (t *shareTree) String() string { return strings.TrimSuffix(t.share.name+" "+t.prefix, " ") }

func (t *shareTree) files(ctx context.Context) iter.Seq2[File, error] {
	return func(yield func(File, error) bool) {
		for f, err := range t.share.List(ctx, t.prefix) {
			f.Key = strings.TrimPrefix(f.Key, t.prefix)
			if !yield(f, err) {
				return
			}
		}
	}
}

func (t *shareTree) sum(ctx context.Context, f File) (string, error) {
	found, err := t.share.Stat(ctx, t.prefix+f.Key)
	return found.SHA256, err
}

func (t *shareTree) remove(ctx context.Context, f File) error {
	return t.share.Remove(ctx, t.prefix+f.Key)
}

func (t *shareTree) put(ctx context.Context, from Tree, f File, progress func(int64)) error {
	o := &PutOptions{Progress: progress}
	switch from := from.(type) {
	case *dirTree:
		r, err := os.Open(from.path(f))
		if err != nil {
			return local("read", from.path(f), err)
		}
		defer r.Close()
		_, err = t.share.Put(ctx, t.prefix+f.Key, r, o)
		return err
	case *shareTree:
		r, err := from.share.Open(ctx, from.prefix+f.Key)
		if err != nil {
			return err
		}
		defer r.Close()
		o.SHA256 = r.File.SHA256
		_, err = t.share.Put(ctx, t.prefix+f.Key, r, o)
		return err
	}
	return errTree
}

var errTree = fmt.Errorf("sync: a tree that nobody knows: %w", navvy.ErrUnsupported)

// Dir is a directory of this machine. As a source it must exist; as a destination it is made.
func Dir(path string) Tree { return &dirTree{dir: path} }

// dirTree is a directory.
type dirTree struct{ dir string }

func (t *dirTree) String() string { return t.dir }

// path is where a file is. Keys that come from a share are checked, those of the directory are its own.
func (t *dirTree) path(f File) string { return filepath.Join(t.dir, filepath.FromSlash(f.Key)) }

// NotRegular is the error of something in a directory that is no regular file: a symbolic
// link, a pipe, a device.
type NotRegular struct{ Path string }

// Error says what it is about.
func (e *NotRegular) Error() string {
	return printable(e.Path) + " is no regular file, but a symbolic link, a pipe or a device, which are not copied"
}

// Unwrap gives navvy.ErrUnsupported.
func (e *NotRegular) Unwrap() error { return navvy.ErrUnsupported }

// files gives a *NotRegular in between for what is no regular file, and goes on behind it.
func (t *dirTree) files(ctx context.Context) iter.Seq2[File, error] {
	return func(yield func(File, error) bool) {
		if _, err := os.Stat(t.dir); errors.Is(err, fs.ErrNotExist) {
			return
		}
		t.walk(ctx, "", yield)
	}
}

// walk walks through a folder in the order of keys, in which the names of folders end with a slash.
func (t *dirTree) walk(ctx context.Context, base string, yield func(File, error) bool) bool {
	if err := ctx.Err(); err != nil {
		return yield(File{}, err) && false
	}
	dir := filepath.Join(t.dir, filepath.FromSlash(base))
	list, err := os.ReadDir(dir)
	if err != nil {
		return yield(File{}, local("list", dir, err)) && false
	}
	name := func(e fs.DirEntry) string {
		if e.IsDir() {
			return e.Name() + "/"
		}
		return e.Name()
	}
	slices.SortFunc(list, func(x, y fs.DirEntry) int { return cmp.Compare(name(x), name(y)) })
	for _, e := range list {
		key, more := base+name(e), true
		switch {
		case key == place.Own+"/": // what a directory that is a share keeps for itself
		case e.IsDir():
			more = t.walk(ctx, key, yield)
		default:
			more = t.entry(key, e, yield)
		}
		if !more {
			return false
		}
	}
	return true
}

// entry yields a file, or a *NotRegular.
func (t *dirTree) entry(key string, e fs.DirEntry, yield func(File, error) bool) bool {
	path := filepath.Join(t.dir, key)
	if !e.Type().IsRegular() {
		return yield(File{Key: key}, &NotRegular{path})
	}
	if leftover.MatchString(e.Name()) {
		return true
	}
	info, err := e.Info()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return true // removed meanwhile
	case err != nil:
		return yield(File{}, local("list", path, err)) && false
	}
	return yield(File{Key: key, Size: info.Size(), Modified: info.ModTime()}, nil)
}

func (t *dirTree) sum(ctx context.Context, f File) (string, error) {
	r, err := os.Open(t.path(f))
	if err != nil {
		return "", local("read", t.path(f), err)
	}
	defer r.Close()
	digest := sha256.New()
	if _, err := copyAll(ctx, digest, r, nil, true, nil); err != nil {
		return "", local("read", t.path(f), err)
	}
	return hex.EncodeToString(digest.Sum(nil)), nil
}

func (t *dirTree) remove(_ context.Context, f File) error {
	path := t.path(f)
	if err := os.Remove(path); err != nil {
		return local("remove", path, err)
	}
	for dir := filepath.Dir(path); dir != filepath.Clean(t.dir); dir = filepath.Dir(dir) {
		if os.Remove(dir) != nil {
			break // the first that is not empty
		}
	}
	return nil
}

func (t *dirTree) put(ctx context.Context, from Tree, f File, progress func(int64)) error {
	source, ok := from.(*shareTree)
	if !ok {
		return errTree
	}
	if err := place.CheckKey(f.Key); err != nil {
		return source.share.wrap("copy", source.prefix+f.Key, err)
	}
	// No part of the path leads out of the directory, which os.Root would refuse to follow;
	// what lies on it as a symbolic link is refused before anything is written behind it.
	if err := t.makeParents(f.Key); err != nil {
		return err
	}
	_, err := source.share.Fetch(ctx, source.prefix+f.Key, t.path(f), progress)
	if info, statErr := os.Lstat(t.path(f)); err != nil && statErr == nil && info.IsDir() {
		err = fmt.Errorf("there is a folder of that name: %w: %w", err, navvy.ErrConflict)
	}
	return err
}

// makeParents makes the folders above a file, none of which may be a symbolic link.
func (t *dirTree) makeParents(key string) error {
	if err := os.MkdirAll(t.dir, 0o777); err != nil { //nolint:gosec // as any program: the umask bounds it
		return local("make", t.dir, err)
	}
	dir := t.dir
	parts := strings.Split(key, "/")
	for _, part := range parts[:len(parts)-1] {
		dir = filepath.Join(dir, part)
		err := os.Mkdir(dir, 0o777) //nolint:gosec // as any program: the umask bounds it
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return local("make", dir, err)
		}
		info, err := os.Lstat(dir)
		switch {
		case err != nil:
			return local("make", dir, err)
		case info.Mode()&fs.ModeSymlink != 0:
			return &NotRegular{dir}
		case !info.IsDir():
			return fmt.Errorf("write %s: %s is a file: %w", filepath.Join(t.dir, key), dir, navvy.ErrConflict)
		}
	}
	return nil
}
