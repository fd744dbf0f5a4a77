package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine/driver"
	"github.com/navvy-run/navvy/output"
)

// logsPerDirectory bounds how many attempts' logs share a name's prefix.
const logsPerDirectory = 1000

func outputLog(task navvy.TaskID, attempt navvy.AttemptID) string {
	return fmt.Sprintf("%s/output/%d/%d-%s", task.Job, task.Index/logsPerDirectory, task.Index, attempt)
}

func inputLog(job navvy.JobID, first int64) string {
	return fmt.Sprintf("%s/input/%d", job, first)
}

// OutputLog is the log of one attempt's output, while it is written. Its methods
// may be called at once: a reader may need a Sync while the writer goes on.
type OutputLog struct {
	task navvy.TaskID
	mu   sync.Mutex // guards w
	w    driver.LogWriter
	r    driver.LogReader
}

// CreateOutput starts the log of an attempt's output. What an earlier start of the
// engine has kept of an attempt that goes on is dropped: it comes again, from byte 0.
func (e *Engine) CreateOutput(ctx context.Context, task navvy.TaskID, attempt navvy.AttemptID) (*OutputLog, error) {
	name := outputLog(task, attempt)
	w, err := e.store.CreateLog(ctx, name)
	if errors.Is(err, navvy.ErrExists) && attempt.Epoch < e.epoch {
		if err = e.store.DropLogs(ctx, name); err == nil {
			w, err = e.store.CreateLog(ctx, name)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("engine: start the output of %s: %w", task, err)
	}
	r, err := e.store.OpenLog(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("engine: read the output of %s: %w", task, errors.Join(err, w.Close()))
	}
	return &OutputLog{task: task, w: w, r: r}, nil
}

// Append adds frames, which it does not keep.
func (l *OutputLog) Append(frames []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Append(frames)
}

// ReadAt reads what was appended; see driver.LogReader.
func (l *OutputLog) ReadAt(p []byte, off int64) (int, error) { return l.r.ReadAt(p, off) }

// Sync makes what was appended durable.
func (l *OutputLog) Sync() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Sync()
}

// Close frees the log; what was not synced may be lost.
func (l *OutputLog) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Join(l.w.Close(), l.r.Close())
}

// syncOutput makes an attempt's output durable before its record. If the job was
// removed, and the log with it, the error is ErrNotFound.
func (e *Engine) syncOutput(ctx context.Context, task navvy.TaskID, l *OutputLog, o *navvy.Output) error {
	err := l.syncFor(o)
	if err != nil {
		if _, gone := e.State(ctx, task.Job); errors.Is(gone, navvy.ErrNotFound) {
			return gone
		}
	}
	return err
}

// syncFor makes a logged output durable before the record that names it.
func (l *OutputLog) syncFor(o *navvy.Output) error {
	if !o.Logged {
		return nil
	}
	if l == nil {
		return fmt.Errorf("engine: a result names a log of output that nobody wrote: %w", navvy.ErrInvalid)
	}
	if err := l.Sync(); err != nil {
		return fmt.Errorf("engine: make the output of %s durable: %w", l.task, err)
	}
	return nil
}

// ReadOutput gives the frames of an attempt that has ended, whose output o is.
// The caller closes it.
func (e *Engine) ReadOutput(ctx context.Context, task navvy.TaskID, attempt navvy.AttemptID, o *navvy.Output) (*OutputReader, error) {
	r := &OutputReader{task: task, output: o}
	if o.Logged {
		log, err := e.store.OpenLog(ctx, outputLog(task, attempt))
		if err != nil {
			return nil, fmt.Errorf("engine: output of %s, attempt %s: %w", task, attempt, err)
		}
		r.log = log
	}
	return r, nil
}

// OutputReader reads a finished output from its first byte and checks it
// against its checksum: a mismatch comes as ErrCorrupt instead of io.EOF. It is
// for one goroutine at a time.
type OutputReader struct {
	task   navvy.TaskID
	output *navvy.Output
	log    driver.LogReader
	off    int64
	crc    uint32
	// skipped says that the checksum cannot be judged: not all was read.
	skipped bool
}

// Skip passes over the first n bytes, which the caller has already; the checksum
// is then not verified.
func (r *OutputReader) Skip(n int64) error {
	if n > r.length() {
		return fmt.Errorf("engine: output of %s has %d bytes, not %d: %w", r.task, r.length(), n, navvy.ErrInvalid)
	}
	r.skipped = r.skipped || n > 0
	r.off = n
	return nil
}

// Read is io.Reader over the frames.
func (r *OutputReader) Read(p []byte) (int, error) {
	left := r.length() - r.off
	if left == 0 {
		if r.log != nil && !r.skipped && r.crc != r.output.CRC {
			return 0, fmt.Errorf("engine: output of %s: the checksum is wrong: %w", r.task, navvy.ErrCorrupt)
		}
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), left)]
	if r.log == nil {
		n := copy(p, r.output.Inline[r.off:])
		r.off += int64(n)
		return n, nil
	}
	n, err := r.log.ReadAt(p, r.off)
	r.off += int64(n)
	r.crc = output.UpdateCRC(r.crc, p[:n])
	switch {
	case n > 0:
		return n, nil
	case errors.Is(err, io.EOF):
		return 0, fmt.Errorf("engine: output of %s ends after %d of %d bytes: %w", r.task, r.off, r.output.Length, navvy.ErrCorrupt)
	default:
		return 0, fmt.Errorf("engine: output of %s: %w", r.task, err)
	}
}

func (r *OutputReader) length() int64 {
	if r.log == nil {
		return int64(len(r.output.Inline))
	}
	return r.output.Length
}

// Close frees the reader.
func (r *OutputReader) Close() error {
	if r.log == nil {
		return nil
	}
	return r.log.Close()
}
