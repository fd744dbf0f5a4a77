package pebble

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine/driver"
)

// logs keeps each log in a file of its own: the log a/b is logs/a/b_log. The
// ending has a character that no log's name has, so that a/b_log and the
// directory of the log a/b/c never meet. Dropped trees are moved to trash
// first: they vanish at once, however large they are.
type logs struct {
	store *Store
	root  string
	trash string

	mu sync.Mutex // guards which directories and files exist
	// known has the directories whose entry in their parent is durable, as far
	// as this process made sure of it. It is forgotten when it has grown large.
	known   map[string]struct{}
	drops   int // counts the calls that dropped something
	trashed int // the last name in the trash
	sweep   sync.WaitGroup
	quit    chan struct{}
}

const (
	logEnding = "_log"
	maxKnown  = 4096
)

// openLogs finishes removing what an earlier process dropped.
func openLogs(s *Store) (*logs, error) {
	fs := s.disk
	l := &logs{
		store: s,
		root:  fs.PathJoin(s.dir, "logs"),
		trash: fs.PathJoin(s.dir, "trash"),
		known: map[string]struct{}{},
		quit:  make(chan struct{}),
	}
	names, err := fs.List(l.trash)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("list %s: %w", l.trash, err)
	}
	for _, name := range names {
		if n, err := strconv.Atoi(name); err == nil {
			l.trashed = max(l.trashed, n)
		}
	}
	if len(names) > 0 {
		l.sweep.Go(func() {
			for _, name := range names {
				l.empty(fs.PathJoin(l.trash, name))
			}
		})
	}
	return l, nil
}

// close waits for what is being removed.
func (l *logs) close() {
	close(l.quit)
	l.sweep.Wait()
}

func (l *logs) path(name string) string {
	return l.store.disk.PathJoin(l.root, name) + logEnding
}

// CreateLog implements driver.Store. The log is durable, as is its existence,
// after the writer's next Sync.
func (s *Store) CreateLog(ctx context.Context, name string) (driver.LogWriter, error) {
	if err := driver.CheckLogName(name); err != nil {
		return nil, fmt.Errorf("pebble: create log: %w", err)
	}
	if err := s.life.Begin(ctx); err != nil {
		return nil, fmt.Errorf("pebble: create log %s: %w", name, err)
	}
	defer s.life.Done()
	file, err := s.logs.create(s.logs.path(name))
	if err == nil {
		err = s.life.Failure()
	}
	if err != nil {
		return nil, fmt.Errorf("pebble: create log %s: %w", name, err)
	}
	return &logWriter{logs: s.logs, name: name, file: file}, nil
}

func (l *logs) create(path string) (vfs.File, error) {
	fs := l.store.disk
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, err := fs.Stat(path); err == nil {
		return nil, navvy.ErrExists
	}
	// If this fails, for want of file descriptors say, only this log is missing.
	var file vfs.File = noFile{}
	err := fs.try(func() error { return fs.FS.MkdirAll(fs.PathDir(path), 0o700) })
	if err == nil {
		err = fs.try(func() (err error) {
			file, err = fs.FS.Create(path, vfs.WriteCategoryUnspecified)
			return err
		})
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", navvy.ErrUnavailable, err)
	}
	return &diskFile{File: file, disk: fs, name: path}, nil
}

// OpenLog implements driver.Store.
func (s *Store) OpenLog(ctx context.Context, name string) (driver.LogReader, error) {
	if err := driver.CheckLogName(name); err != nil {
		return nil, fmt.Errorf("pebble: open log: %w", err)
	}
	if err := s.life.Begin(ctx); err != nil {
		return nil, fmt.Errorf("pebble: open log %s: %w", name, err)
	}
	defer s.life.Done()
	file, err := s.disk.Open(s.logs.path(name))
	switch {
	case errors.Is(err, os.ErrNotExist):
		err = navvy.ErrNotFound
	case err != nil:
		err = fmt.Errorf("%w: %w", navvy.ErrUnavailable, err)
	default:
		return &logReader{store: s, name: name, file: file}, nil
	}
	return nil, fmt.Errorf("pebble: open log %s: %w", name, err)
}

// DropLogs implements driver.Store.
func (s *Store) DropLogs(ctx context.Context, prefix string) error {
	if err := driver.CheckLogName(prefix); err != nil {
		return fmt.Errorf("pebble: drop logs: %w", err)
	}
	if err := s.life.Begin(ctx); err != nil {
		return fmt.Errorf("pebble: drop logs %s: %w", prefix, err)
	}
	defer s.life.Done()
	if err := s.logs.drop(prefix); err != nil {
		return fmt.Errorf("pebble: drop logs %s: %w", prefix, err)
	}
	return nil
}

func (l *logs) drop(prefix string) error {
	moved, err := l.unlink(prefix)
	for _, path := range moved {
		l.empty(path)
	}
	return errors.Join(err, l.store.life.Failure())
}

// unlink moves what the prefix names to the trash, durably, and removes the
// directories that became empty. Nobody makes a log meanwhile.
func (l *logs) unlink(prefix string) (moved []string, err error) {
	fs := l.store.disk
	dir := fs.PathJoin(l.root, prefix)
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, path := range []string{dir, dir + logEnding} {
		if _, err := fs.Stat(path); err != nil {
			continue
		}
		if err := fs.MkdirAll(l.trash, 0o700); err != nil {
			return moved, err
		}
		l.trashed++
		to := fs.PathJoin(l.trash, strconv.Itoa(l.trashed))
		if err := fs.Rename(path, to); err != nil {
			return moved, err
		}
		moved = append(moved, to)
	}
	if len(moved) == 0 {
		return nil, nil
	}
	l.drops++
	for d := range l.known {
		if d == dir || strings.HasPrefix(d, dir+"/") {
			delete(l.known, d)
		}
	}
	left := fs.PathDir(dir)
	for left != l.root && fs.Remove(left) == nil {
		delete(l.known, left)
		left = fs.PathDir(left)
	}
	return moved, l.syncDir(left)
}

// empty removes a tree in the trash, as far as it comes before the store closes.
func (l *logs) empty(path string) {
	select {
	case <-l.quit:
		return
	default:
	}
	if names, err := l.store.disk.List(path); err == nil {
		for _, name := range names {
			l.empty(l.store.disk.PathJoin(path, name))
		}
	}
	// What is left stays in the trash until the next start.
	_ = l.store.disk.Remove(path)
}

// place makes it durable that there is a file in dir: the entry in dir itself
// and those of all directories above whose entry is not known to be durable.
func (l *logs) place(dir string) error {
	fs := l.store.disk
	l.mu.Lock()
	drops := l.drops
	unknown := []string{dir} // whose contents are to be synced
	var made []string        // whose entry that makes durable
	for d := dir; d != l.store.dir; d = fs.PathDir(d) {
		if _, ok := l.known[d]; !ok {
			made = append(made, d)
			unknown = append(unknown, fs.PathDir(d))
		}
	}
	l.mu.Unlock()
	for _, d := range unknown {
		if err := l.syncDir(d); err != nil {
			return err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.known) > maxKnown {
		clear(l.known)
	}
	// A directory may have been dropped and made again since we looked.
	if drops == l.drops {
		for _, d := range made {
			l.known[d] = struct{}{}
		}
	}
	return nil
}

func (l *logs) syncDir(dir string) error {
	d, err := l.store.disk.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
