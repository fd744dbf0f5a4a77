package isolate

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// removeTree removes a directory with all that is in it, whatever that is: trees
// of any depth, of which os.RemoveAll holds a descriptor for each level;
// directories that their owner may not write to; names of any bytes; and file
// systems that are mounted there, which are unmounted. It follows no symbolic
// link. Nobody else may be writing there.
func removeTree(path string) error {
	if err := unix.Rmdir(path); err == nil || err == unix.ENOENT {
		return nil // most are empty, and to open one costs more than to remove it
	}
	parent, err := unix.Open(filepath.Dir(path), unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return &os.PathError{Op: "open", Path: filepath.Dir(path), Err: err}
	}
	defer func() { _ = unix.Close(parent) }()
	name := filepath.Base(path)
	top, err := openDir(parent, name)
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil
	case err != nil:
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer top.Close()
	r := remover{top: top}
	if err := r.clear(top); err != nil {
		return &os.PathError{Op: "empty", Path: path, Err: err}
	}
	if err := remove(parent, name, unix.AT_REMOVEDIR); err != nil {
		return &os.PathError{Op: "remove", Path: path, Err: err}
	}
	return nil
}

// remover empties one directory. Directories further down are first moved up
// into it, so that it never is in more than two.
type remover struct {
	top   *os.File
	moved int
}

// batch is how many names are read at once.
const batch = 1024

// clear empties the top directory.
func (r *remover) clear(dir *os.File) error {
	for {
		names, err := dir.Readdirnames(batch)
		if len(names) == 0 && errors.Is(err, io.EOF) {
			// What was moved here in between may be before where it has been read.
			if _, err := dir.Seek(0, io.SeekStart); err != nil {
				return err
			}
			if names, err = dir.Readdirnames(batch); len(names) == 0 {
				return ignoreEOF(err)
			}
		} else if len(names) == 0 {
			return err
		}
		for _, name := range names {
			if err := r.remove(dir, name); err != nil {
				return fmt.Errorf("%q: %w", name, err)
			}
		}
	}
}

func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// remove removes what has a name in the top directory.
func (r *remover) remove(dir *os.File, name string) error {
	full, err := removeUnlessFull(fd(dir), name)
	if !full {
		return err
	}
	sub, err := openDir(fd(dir), name)
	if err != nil {
		return err
	}
	defer sub.Close()
	if err := r.flatten(sub); err != nil {
		return err
	}
	return remove(fd(dir), name, unix.AT_REMOVEDIR)
}

// flatten empties a directory in the top one: its own directories are moved up.
func (r *remover) flatten(sub *os.File) error {
	for {
		names, err := sub.Readdirnames(batch)
		if len(names) == 0 {
			return ignoreEOF(err)
		}
		for _, name := range names {
			full, err := removeUnlessFull(fd(sub), name)
			if full {
				err = r.moveUp(sub, name)
			}
			if err != nil {
				return fmt.Errorf("%q: %w", name, err)
			}
		}
		if _, err := sub.Seek(0, io.SeekStart); err != nil {
			return err
		}
	}
}

// removeUnlessFull removes a file or a directory, unless that is full.
func removeUnlessFull(dir int, name string) (full bool, err error) {
	if err = remove(dir, name, 0); errors.Is(err, unix.EISDIR) {
		err = remove(dir, name, unix.AT_REMOVEDIR)
	}
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) {
		return true, nil
	}
	return false, err
}

// moveUp moves a directory into the top one.
func (r *remover) moveUp(sub *os.File, name string) error {
	loosened := false
	for {
		r.moved++
		err := unix.Renameat2(fd(sub), name, fd(r.top), "navvy-removes-"+strconv.Itoa(r.moved), unix.RENAME_NOREPLACE)
		switch {
		case err == unix.EEXIST:
			continue
		case err == unix.EBUSY || err == unix.EXDEV:
			if unmount(fd(sub), name) != nil {
				return err
			}
		case err == unix.EACCES && !loosened: // it is moved by changing what is in it, its ".."
			loosened = true
			if err := loosen(fd(sub), name); err != nil {
				return err
			}
		default:
			return err
		}
	}
}

func fd(f *os.File) int { return int(f.Fd()) }

// remove is unlinkat(2), and unmounts what is in the way. What is gone is no error.
func remove(dir int, name string, flags int) error {
	for {
		err := unix.Unlinkat(dir, name, flags)
		switch err {
		case unix.EINTR:
		case unix.ENOENT:
			return nil
		case unix.EBUSY:
			if unmount(dir, name) != nil {
				return err
			}
		default:
			return err
		}
	}
}

func unmount(dir int, name string) error {
	return unix.Unmount("/proc/self/fd/"+strconv.Itoa(dir)+"/"+name, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
}

// openDir opens a directory to empty it.
func openDir(dir int, name string) (*os.File, error) {
	const flags = unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	opened, err := unix.Openat(dir, name, flags, 0)
	if err == unix.EACCES {
		if err := loosen(dir, name); err != nil {
			return nil, err
		}
		opened, err = unix.Openat(dir, name, flags, 0)
	}
	if err != nil {
		return nil, err
	}
	// It may be read, but is it writable?
	if err := unix.Fchmod(opened, 0o700); err != nil && err != unix.EPERM {
		_ = unix.Close(opened)
		return nil, err
	}
	return os.NewFile(uintptr(opened), name), nil
}

// loosen gives the owner all rights to a directory that cannot be opened.
func loosen(dir int, name string) error {
	held, err := unix.Openat(dir, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(held) }()
	return unix.Chmod("/proc/self/fd/"+strconv.Itoa(held), 0o700)
}
