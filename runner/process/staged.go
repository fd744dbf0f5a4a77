package process

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
)

// staged are the files of an attempt. Nil is none.
type staged struct {
	files driver.Stager
	dir   string
	// ctx ends when the attempt is stopped.
	ctx    context.Context //nolint:containedctx // the life of what is done after the end
	cancel context.CancelFunc
}

// mountsOf tells which directories an attempt is to find in its private one.
func mountsOf(ctx context.Context, t *driver.Task) ([]driver.Mount, error) {
	if t.Files == nil || !private(t.Spec) {
		return nil, nil
	}
	mounts, err := t.Files.Mounts(ctx)
	for _, m := range mounts {
		if !filepath.IsAbs(m.Source) || !fs.ValidPath(m.Path) || m.Path == "." {
			return nil, fmt.Errorf("process: mount %q at %q: %w", m.Source, m.Path, navvy.ErrInvalid)
		}
	}
	return mounts, err
}

// prepare makes room for what is mounted in a private directory, as its owner's: for an
// isolated attempt, whose plan has the mounts, directories, and for another one links.
func prepare(dir string, mounts []driver.Mount, isolated bool) error {
	if len(mounts) == 0 {
		return nil
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	info, err := root.Stat(".")
	if err != nil {
		return err
	}
	own, _ := info.Sys().(*syscall.Stat_t) // there is no other on Linux
	mkdir := func(name string) error {
		if err := root.Mkdir(name, 0o700); errors.Is(err, fs.ErrExist) {
			return nil
		} else if err != nil || int(own.Uid) == os.Geteuid() {
			return err
		}
		return root.Lchown(name, int(own.Uid), int(own.Gid))
	}
	for _, m := range mounts {
		for i := range len(m.Path) {
			if m.Path[i] == '/' && err == nil {
				err = mkdir(m.Path[:i])
			}
		}
		switch {
		case err != nil:
		case isolated:
			err = mkdir(m.Path)
		default:
			err = root.Symlink(m.Source, m.Path)
		}
		if err != nil {
			return &driver.Refusal{Reason: navvy.ReasonInput, Message: fmt.Sprintf("nothing can be mounted at %s: %v", m.Path, err)}
		}
	}
	return nil
}

// bring puts the files of an attempt into its private directory.
func bring(ctx context.Context, t *driver.Task, dir string, mounts []driver.Mount) (*staged, error) {
	if t.Files == nil || !private(t.Spec) {
		return nil, nil //nolint:nilnil // there are none
	}
	if err := prepare(dir, mounts, t.Spec.Isolate); err != nil {
		return nil, err
	}
	if err := t.Files.Bring(ctx, dir); err != nil {
		return nil, err
	}
	s := &staged{files: t.Files, dir: dir}
	s.ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	return s, nil
}

// keep keeps what the attempt has left, which has succeeded.
func (s *staged) keep(ctx context.Context) (*driver.Refusal, error) {
	if s == nil {
		return nil, nil //nolint:nilnil // nothing is refused
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	err := s.files.Keep(ctx, s.dir)
	if refusal, ok := errors.AsType[*driver.Refusal](err); ok {
		return refusal, nil
	}
	if err != nil {
		return nil, fmt.Errorf("its files could not be kept: %w", err)
	}
	return nil, nil //nolint:nilnil // nothing is refused
}

// stop ends keep.
func (s *staged) stop() {
	if s != nil {
		s.cancel()
	}
}
