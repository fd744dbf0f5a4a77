package pebble

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/navvy-run/navvy"
)

// logWriter appends to one log's file.
type logWriter struct {
	logs   *logs
	name   string
	file   vfs.File
	placed bool // the file's entry is durable
}

// Append writes p to the file, where readers find it at once.
func (w *logWriter) Append(p []byte) error {
	if err := w.append(p); err != nil {
		return fmt.Errorf("pebble: append to log %s: %w", w.name, err)
	}
	return nil
}

func (w *logWriter) append(p []byte) error {
	s := w.logs.store
	if w.file == nil {
		return navvy.ErrClosed
	}
	if err := s.life.Begin(context.Background()); err != nil {
		return err
	}
	defer s.life.Done()
	if err := s.disk.space.admit(context.Background(), len(p)); err != nil {
		return err
	}
	if w.file.Fd() == vfs.InvalidFd {
		p = bytes.Clone(p) // other file systems may change what they are given
	}
	if _, err := w.file.Write(p); err != nil {
		return err
	}
	return s.life.Failure()
}

func (w *logWriter) Sync() error {
	if err := w.sync(); err != nil {
		return fmt.Errorf("pebble: sync log %s: %w", w.name, err)
	}
	return nil
}

func (w *logWriter) sync() error {
	s := w.logs.store
	if w.file == nil {
		return navvy.ErrClosed
	}
	if err := s.life.Begin(context.Background()); err != nil {
		return err
	}
	defer s.life.Done()
	if err := w.file.SyncData(); err != nil {
		return err
	}
	if !w.placed {
		err := w.logs.place(s.disk.PathDir(w.logs.path(w.name)))
		if errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("dropped meanwhile: %w", navvy.ErrNotFound)
		}
		if err != nil {
			return fmt.Errorf("%w: %w", navvy.ErrUnavailable, err)
		}
		w.placed = true
	}
	return s.life.Failure()
}

func (w *logWriter) Close() error {
	if w.file == nil {
		return fmt.Errorf("pebble: close log %s: %w", w.name, navvy.ErrClosed)
	}
	file := w.file
	w.file = nil
	return file.Close()
}

// logReader reads one log's file.
type logReader struct {
	store *Store
	name  string
	file  vfs.File
}

func (r *logReader) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("pebble: read log %s at %d: %w", r.name, off, navvy.ErrInvalid)
	}
	if err := r.store.life.Begin(context.Background()); err != nil {
		return 0, fmt.Errorf("pebble: read log %s: %w", r.name, err)
	}
	defer r.store.life.Done()
	n, err := r.file.ReadAt(p, off)
	if err != nil && !errors.Is(err, io.EOF) {
		err = fmt.Errorf("pebble: read log %s: %w: %w", r.name, navvy.ErrUnavailable, err)
	}
	return n, err
}

func (r *logReader) Close() error { return r.file.Close() }
