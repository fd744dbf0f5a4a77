package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine/driver"
)

// maxChunk is how many bytes of a log one row holds at most.
const maxChunk = 256 << 10

// CreateLog implements driver.Store.
func (s *Store) CreateLog(ctx context.Context, name string) (driver.LogWriter, error) {
	if err := driver.CheckLogName(name); err != nil {
		return nil, fmt.Errorf("postgres: create log: %w", err)
	}
	if err := s.life.Begin(ctx); err != nil {
		return nil, fmt.Errorf("postgres: create log %s: %w", name, err)
	}
	defer s.life.Done()
	err := s.do(ctx, &job{run: func(b *pgx.Batch) { b.Queue(s.sql.createLog, name) }})
	if answer, ok := errors.AsType[*pgconn.PgError](err); ok && answer.Code == "23505" { // unique_violation
		return nil, fmt.Errorf("postgres: create log %s: %w", name, navvy.ErrExists)
	}
	var id int64
	if err == nil {
		id, err = s.findLog(ctx, name)
	}
	if err != nil {
		return nil, fmt.Errorf("postgres: create log %s: %w", name, known(err))
	}
	return &logWriter{store: s, name: name, id: id}, nil
}

func (s *Store) findLog(ctx context.Context, name string) (id int64, err error) {
	ctx, cancel := s.within(ctx)
	defer cancel()
	if err := s.pool.QueryRow(ctx, s.sql.findLog, name).Scan(&id); err != nil {
		if errors.Is(err, pgx.ErrNoRows) {
			return 0, navvy.ErrNotFound
		}
		return 0, s.readError(ctx, err)
	}
	return id, nil
}

// OpenLog implements driver.Store.
func (s *Store) OpenLog(ctx context.Context, name string) (driver.LogReader, error) {
	if err := driver.CheckLogName(name); err != nil {
		return nil, fmt.Errorf("postgres: open log: %w", err)
	}
	if err := s.life.Begin(ctx); err != nil {
		return nil, fmt.Errorf("postgres: open log %s: %w", name, err)
	}
	defer s.life.Done()
	id, err := s.findLog(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("postgres: open log %s: %w", name, err)
	}
	return &logReader{store: s, name: name, id: id}, nil
}

// DropLogs implements driver.Store.
func (s *Store) DropLogs(ctx context.Context, prefix string) error {
	if err := driver.CheckLogName(prefix); err != nil {
		return fmt.Errorf("postgres: drop logs: %w", err)
	}
	if err := s.life.Begin(ctx); err != nil {
		return fmt.Errorf("postgres: drop logs %s: %w", prefix, err)
	}
	defer s.life.Done()
	if err := s.do(ctx, &job{run: func(b *pgx.Batch) { b.Queue(s.sql.dropLogs, prefix) }}); err != nil {
		return fmt.Errorf("postgres: drop logs %s: %w", prefix, known(err))
	}
	return nil
}

// logWriter collects what is appended to rows of the table chunk.
type logWriter struct {
	store  *Store
	name   string
	id     int64
	size   int64  // what the table holds
	buffer []byte // what follows
	err    error  // of a write, after which nobody knows what the table holds
	closed bool
}

func (w *logWriter) Append(p []byte) error {
	if err := w.call(func(ctx context.Context) error { return w.append(ctx, p) }); err != nil {
		return fmt.Errorf("postgres: append to log %s: %w", w.name, err)
	}
	return nil
}

func (w *logWriter) append(ctx context.Context, p []byte) error {
	for len(p) > 0 {
		if len(w.buffer) == 0 && len(p) >= maxChunk {
			if err := w.add(ctx, p[:maxChunk]); err != nil {
				return err
			}
			p = p[maxChunk:]
			continue
		}
		n := min(len(p), maxChunk-len(w.buffer))
		w.buffer = append(w.buffer, p[:n]...)
		p = p[n:]
		if len(w.buffer) == maxChunk {
			if err := w.spill(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *logWriter) spill(ctx context.Context) error {
	if len(w.buffer) == 0 {
		return nil
	}
	err := w.add(ctx, w.buffer)
	w.buffer = w.buffer[:0]
	return err
}

// add adds one row.
func (w *logWriter) add(ctx context.Context, data []byte) error {
	_, err := w.store.pool.Exec(ctx, w.store.sql.addChunk, w.id, w.size, data)
	w.size += int64(len(data))
	return err
}

func (w *logWriter) Sync() error {
	err := w.call(func(ctx context.Context) error {
		if err := w.spill(ctx); err != nil {
			return err
		}
		// The rows are committed, on whatever connection; this waits for the disk.
		return w.store.do(ctx, &job{})
	})
	if err != nil {
		return fmt.Errorf("postgres: sync log %s: %w", w.name, err)
	}
	return nil
}

// call runs one call of the writer. After an error there are no more.
func (w *logWriter) call(f func(ctx context.Context) error) error {
	if w.closed {
		return navvy.ErrClosed
	}
	if err := w.store.life.Begin(context.Background()); err != nil {
		return err
	}
	defer w.store.life.Done()
	if w.err != nil {
		return w.err
	}
	err := f(w.store.ctx)
	if answer, ok := errors.AsType[*pgconn.PgError](err); ok && answer.Code == "23503" { // foreign_key_violation
		err = fmt.Errorf("dropped meanwhile: %w", navvy.ErrNotFound)
	} else if err != nil {
		err = w.store.readError(w.store.ctx, err)
	}
	w.err = err
	return err
}

func (w *logWriter) Close() error {
	if w.closed {
		return fmt.Errorf("postgres: close log %s: %w", w.name, navvy.ErrClosed)
	}
	w.closed = true
	w.buffer = nil
	return nil
}

// logReader reads one log's rows.
type logReader struct {
	store *Store
	name  string
	id    int64
}

func (r *logReader) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("postgres: read log %s at %d: %w", r.name, off, navvy.ErrInvalid)
	}
	if err := r.store.life.Begin(context.Background()); err != nil {
		return 0, fmt.Errorf("postgres: read log %s: %w", r.name, err)
	}
	defer r.store.life.Done()
	n, err := r.readAt(p, off)
	if err != nil {
		return n, fmt.Errorf("postgres: read log %s at %d: %w", r.name, off, r.store.readError(r.store.ctx, err))
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (r *logReader) readAt(p []byte, off int64) (n int, err error) {
	s := r.store
	rows, err := s.pool.Query(s.ctx, s.sql.readChunks, r.id, off, off+int64(len(p)), len(p), maxChunk)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for rows.Next() {
		var start, length int64
		var data []byte
		if err := rows.Scan(&start, &length, &data); err != nil {
			return n, err
		}
		if start+length <= off {
			continue // it ends before
		}
		if at := max(start, off); at != off+int64(n) {
			return n, fmt.Errorf("bytes from %d to %d are missing: %w", off+int64(n), at, navvy.ErrCorrupt)
		}
		n += copy(p[n:], data)
	}
	return n, rows.Err()
}

func (r *logReader) Close() error { return nil }
