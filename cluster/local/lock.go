package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy/cluster/config"
	"github.com/navvy-run/navvy/cluster/driver"
)

// lock is the right to change a cluster: a file that is locked as long as its holder lives,
// with who that is in it.
type lock struct {
	file *os.File
	path string
	keep func() bool // tells whether there is a cluster
	lost chan struct{}
}

// Lock implements driver.Driver. A holder that is dead has none.
func (d *Driver) Lock(_ context.Context, cluster string, h driver.Holder) (driver.Lock, error) {
	if err := config.ValidateName(cluster); err != nil {
		return nil, err
	}
	path := filepath.Join(d.base(), "."+cluster+".lock")
	for {
		f, err := openLock(path)
		if err != nil {
			return nil, fmt.Errorf("cluster %s: %w", cluster, err)
		}
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) {
			held := &driver.HeldError{}
			if json.NewDecoder(f).Decode(&held.Holder) != nil {
				held.Who, held.What, held.Since = "somebody", "a change", h.Since // who is about to say it
			}
			return nil, errors.Join(fmt.Errorf("cluster %s: %w", cluster, held), f.Close())
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("cluster %s: %w", cluster, err), f.Close())
		}
		if !same(f, path) { // its last holder has removed it
			_ = f.Close()
			continue
		}
		l := &lock{file: f, path: path, lost: make(chan struct{}), keep: func() bool { _, err := d.site(cluster); return err == nil }}
		text, err := json.Marshal(h)
		if err == nil {
			err = f.Truncate(0)
		}
		if err == nil {
			_, err = f.WriteAt(text, 0)
		}
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		return l, nil
	}
}

// openLock opens the file of a lock in a directory that others may remove at any time, as they
// do when there is no cluster in it.
func openLock(path string) (f *os.File, err error) {
	const tries = 1000
	for range tries {
		if err = makeDir(filepath.Dir(path)); err == nil {
			f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		}
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrExist) {
			break
		}
	}
	return f, err
}

// same tells whether a file is still the one of its name.
func same(f *os.File, path string) bool {
	one, err := f.Stat()
	other, err2 := os.Stat(path)
	return err == nil && err2 == nil && os.SameFile(one, other)
}

// Lost implements driver.Lock. What the kernel has given is lost with the process alone.
func (l *lock) Lost() <-chan struct{} { return l.lost }

// Release implements driver.Lock. Nothing is left of it if there is no cluster any more.
func (l *lock) Release(context.Context) error {
	var err error
	if l.keep() {
		err = l.file.Truncate(0)
	} else {
		if err = os.Remove(l.path); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		_ = os.Remove(filepath.Dir(l.path)) // if it was the last one
	}
	return errors.Join(err, unix.Flock(int(l.file.Fd()), unix.LOCK_UN), l.file.Close())
}
