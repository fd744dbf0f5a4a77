package pebble

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	lsm "github.com/cockroachdb/pebble/v2"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine/driver"
)

// Open opens the store in the directory, which it makes if only its parent is
// there. Its errors name the directory and wrap navvy.ErrUnavailable (in use by
// another process, or the disk fails), ErrDenied (may not be written),
// ErrNotFound (no parent), ErrExhausted (no space), ErrCorrupt (damaged, or
// written by a newer version) or ErrInvalid (not ours; bad options).
func Open(dir string, opts *Options) (*Store, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	s := &Store{
		opts:    opts.defaults(),
		turn:    make(chan struct{}, 1),
		commits: make(chan *commit, 1024),
	}
	// Names must stay good if the process changes its directory.
	s.dir = dir
	if abs, err := filepath.Abs(dir); err == nil {
		s.dir = abs
	}
	s.life = driver.NewLife(s.dir, s.windUp)
	if err := s.open(); err != nil {
		return nil, fmt.Errorf("pebble: open %s: %w", s.dir, openError(err))
	}
	return s, nil
}

func (s *Store) open() (err error) {
	fs := s.opts.FS
	if err := makeDir(fs, s.dir); err != nil {
		return err
	}
	if s.lock, err = lsm.LockDirectory(s.dir, fs); err != nil {
		if pathErr := (*os.PathError)(nil); errors.As(err, &pathErr) {
			return err
		}
		return fmt.Errorf("in use by another navvy: stop that one, or choose another directory: %w: %w",
			navvy.ErrUnavailable, err)
	}
	s.disk = &disk{FS: fs, space: newSpace(fs, s.dir, &s.opts), report: s.fail}
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("storage engine: %v", r)
		}
		if err != nil {
			err = s.abandon(err)
		}
	}()
	if err := checkVersion(s.disk, s.dir); err != nil {
		return err
	}
	if err := checkRecords(fs, s.dir); err != nil {
		return err
	}
	return s.start()
}

// start starts the storage engine in a directory that is known to be good.
func (s *Store) start() (err error) {
	s.disk.space.open()
	engine := s.opts.engine(s.disk, &logger{log: s.opts.Logger, fail: s.disk.fail})
	engine.Lock = s.lock
	engine.EnsureDefaults()
	s.tables = engine.MakeReaderOptions()
	if s.db, err = lsm.Open(s.dir, engine); err != nil {
		return err
	}
	if s.logs, err = openLogs(s); err != nil {
		return err
	}
	s.disk.space.bePatient()
	s.opened.Store(true)
	// From here on a failure ends the store; this is one that came before.
	if err := s.life.Failure(); err != nil {
		return err
	}
	s.syncing.Go(s.awaitSyncs)
	return nil
}

// abandon releases what a store holds that could not be opened for this reason.
func (s *Store) abandon(err error) error {
	s.disk.space.stop()
	if s.logs != nil {
		s.logs.close()
	}
	if s.db != nil {
		err = errors.Join(err, s.db.Close())
	}
	if cause := s.life.Cause(); cause != nil {
		err = cause // and all else followed from it
	}
	return errors.Join(err, s.lock.Close())
}

// openError gives an error of Open its sentinel and a hint.
func openError(err error) error {
	for _, known := range []error{
		navvy.ErrUnavailable, navvy.ErrCorrupt, navvy.ErrInvalid, navvy.ErrExhausted,
	} {
		if errors.Is(err, known) {
			return err
		}
	}
	switch {
	case lsm.IsCorruptionError(err):
		return fmt.Errorf("damaged: %w", damaged{err})
	case noSpace(err):
		return fmt.Errorf("no space left on the disk: free some: %w: %w", navvy.ErrExhausted, err)
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("%w: %w", navvy.ErrNotFound, err)
	case errors.Is(err, os.ErrPermission), errors.Is(err, syscall.EROFS):
		return fmt.Errorf("may not be written: choose another directory, or change its owner or mode: %w: %w",
			navvy.ErrDenied, err)
	}
	return fmt.Errorf("%w: %w", navvy.ErrUnavailable, err)
}
