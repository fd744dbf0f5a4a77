package memory

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine/driver"
)

// log holds one log's bytes. Store.mu guards which logs exist, mu what they hold.
type log struct {
	name   string
	mu     sync.RWMutex
	data   []byte
	synced int  // how much of data outlives a crash; -1 if not even the log does
	gone   bool // dropped, or the store closed
}

// CreateLog implements driver.Store.
func (s *Store) CreateLog(ctx context.Context, name string) (driver.LogWriter, error) {
	if err := driver.CheckLogName(name); err != nil {
		return nil, fmt.Errorf("memory: create log: %w", err)
	}
	if err := s.enter(ctx); err != nil {
		return nil, fmt.Errorf("memory: create log %s: %w", name, err)
	}
	defer s.mu.Unlock()
	if s.logs[name] != nil {
		return nil, fmt.Errorf("memory: create log %s: %w", name, navvy.ErrExists)
	}
	l := &log{name: name, synced: -1}
	s.logs[name] = l
	return &logWriter{log: l}, nil
}

// OpenLog implements driver.Store.
func (s *Store) OpenLog(ctx context.Context, name string) (driver.LogReader, error) {
	if err := driver.CheckLogName(name); err != nil {
		return nil, fmt.Errorf("memory: open log: %w", err)
	}
	if err := s.enter(ctx); err != nil {
		return nil, fmt.Errorf("memory: open log %s: %w", name, err)
	}
	defer s.mu.Unlock()
	l := s.logs[name]
	if l == nil {
		return nil, fmt.Errorf("memory: open log %s: %w", name, navvy.ErrNotFound)
	}
	return logReader{l}, nil
}

// DropLogs implements driver.Store.
func (s *Store) DropLogs(ctx context.Context, prefix string) error {
	if err := driver.CheckLogName(prefix); err != nil {
		return fmt.Errorf("memory: drop logs: %w", err)
	}
	if err := s.enter(ctx); err != nil {
		return fmt.Errorf("memory: drop logs %s: %w", prefix, err)
	}
	defer s.mu.Unlock()
	for name, l := range s.logs {
		if name == prefix || strings.HasPrefix(name, prefix+"/") {
			l.end()
			delete(s.logs, name)
		}
	}
	return nil
}

func (l *log) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gone, l.data = true, nil
}

type logWriter struct {
	*log
	closed bool
}

func (w *logWriter) Append(p []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.gone || w.closed {
		return fmt.Errorf("memory: append to log %s: %w", w.name, navvy.ErrClosed)
	}
	w.data = append(w.data, p...)
	return nil
}

func (w *logWriter) Sync() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.gone || w.closed {
		return fmt.Errorf("memory: sync log %s: %w", w.name, navvy.ErrClosed)
	}
	w.synced = len(w.data)
	return nil
}

func (w *logWriter) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return fmt.Errorf("memory: close log %s: %w", w.name, navvy.ErrClosed)
	}
	w.closed = true
	return nil
}

type logReader struct{ *log }

func (r logReader) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("memory: read log %s at %d: %w", r.name, off, navvy.ErrInvalid)
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.gone {
		return 0, fmt.Errorf("memory: read log %s: %w", r.name, navvy.ErrClosed)
	}
	if off >= int64(len(r.data)) {
		return 0, io.EOF
	}
	n := copy(p, r.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (r logReader) Close() error { return nil }
