package output

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/navvy-run/navvy"
)

// File keeps the bytes of a log that has outgrown memory. Append and Sync are
// called by one goroutine at a time, ReadAt by any number, also meanwhile.
type File interface {
	// Append adds p at the end; it may keep it in memory for a while.
	Append(p []byte) error
	// Sync makes all that was appended durable, and visible to ReadAt.
	Sync() error
	// ReadAt is io.ReaderAt: fewer bytes than asked for come with io.EOF where
	// the visible part ends. What was appended may be visible before a Sync.
	ReadAt(p []byte, off int64) (int, error)
	// Close frees what the file holds; what was appended stays.
	Close() error
}

// Log is the frames of one attempt, from byte 0 on: appended once, by one writer,
// and read by any number of readers, each at its own offset, while it grows and
// afterwards. The first bytes of a log of NewLog, up to InlineLimit, stay in
// memory, everything is in a File once it is longer. A reader that waits costs a
// goroutine of its caller and is woken when the log grows, one that does not read
// costs nothing, and none slows the writer down, but for the Sync that a File may
// need to show its last bytes.
// Append, Sync and Finish are for one goroutine at a time, the others for all.
type Log struct {
	create func() (File, error)

	// files is held for what changes the file: the writer's appends, and a
	// reader's Sync.
	files sync.Mutex

	mu     sync.RWMutex
	head   []byte // the first bytes
	file   File   // all bytes; nil while they fit into head
	length int64
	synced int64 // how many bytes the file has been asked to show
	crc    uint32
	ended  bool
	err    error
	grown  chan struct{} // closed when there is more to read, or nothing more; nil if nobody waits
}

// NewLog returns an empty log. create makes its file, once, when it is needed; if
// it is nil everything stays in memory.
func NewLog(create func() (File, error)) *Log {
	if create == nil {
		create = func() (File, error) { return &memory{}, nil }
	}
	return &Log{create: create}
}

// Create returns an empty log in a new file, which from its first byte on holds
// all that was appended, and can be read like any other when the log is no more:
// see Copy. There must be no such file yet: the error wraps fs.ErrExist.
func Create(path string) (*Log, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("output: create the log: %w", err)
	}
	return &Log{file: disk{file}}, nil
}

// Append adds p, which it does not keep. After an error the log has ended with it.
func (l *Log) Append(p []byte) error {
	l.files.Lock()
	defer l.files.Unlock()
	if l.ended {
		return fmt.Errorf("output: append to a log that has ended: %w", navvy.ErrClosed)
	}
	crc := UpdateCRC(l.crc, p) // which only we change
	inHead := l.file == nil && l.length+int64(len(p)) <= InlineLimit
	if !inHead {
		err := l.spill()
		if err == nil {
			err = l.file.Append(p)
		}
		if err != nil {
			err = fmt.Errorf("output: append to the log: %w", err)
			l.end(err)
			return err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if inHead {
		l.head = append(l.head, p...)
	}
	l.length += int64(len(p))
	l.crc = crc
	l.broadcast()
	return nil
}

// spill makes the file, unless there is one. files is held.
func (l *Log) spill() error {
	if l.file != nil {
		return nil
	}
	file, err := l.create()
	if err != nil {
		return err
	}
	if len(l.head) > 0 {
		if err := file.Append(l.head); err != nil {
			return errors.Join(err, file.Close())
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.file = file
	return nil
}

// Sync makes all that was appended durable, also what fits into memory.
func (l *Log) Sync() error {
	l.files.Lock()
	defer l.files.Unlock()
	err := l.spill()
	if err == nil {
		err = l.sync()
	}
	if err != nil {
		return fmt.Errorf("output: sync the log: %w", err)
	}
	return nil
}

// sync is Sync for a log with a file. files is held.
func (l *Log) sync() error {
	if err := l.file.Sync(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.synced = l.length
	return nil
}

// Finish ends the log: readers get what is there and then io.EOF, or err if it
// is not nil. Only the first call counts.
func (l *Log) Finish(err error) {
	l.files.Lock()
	defer l.files.Unlock()
	l.end(err)
}

func (l *Log) end(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.ended {
		l.ended, l.err = true, err
		l.broadcast()
	}
}

// broadcast wakes those who wait. mu is held.
func (l *Log) broadcast() {
	if l.grown != nil {
		close(l.grown)
		l.grown = nil
	}
}

// Close frees the file, after the last read: later ones may fail. It finishes
// the log with navvy.ErrClosed if nothing else has.
func (l *Log) Close() error {
	l.Finish(navvy.ErrClosed)
	l.files.Lock()
	defer l.files.Unlock()
	if l.file == nil {
		return nil
	}
	return l.file.Close()
}

// Sum is the length of the log so far, in bytes, and its checksum.
func (l *Log) Sum() (length int64, crc uint32) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.length, l.crc
}

// Wait returns how many bytes lie in the log from byte off on: at least one, if
// need be one that it waits for. It returns io.EOF at the end of a log that has
// ended, or the error that it ended with, and the error of ctx if that ends first.
func (l *Log) Wait(ctx context.Context, off int64) (int64, error) {
	v, err := l.await(ctx, off)
	return v.rest, err
}

// Read fills p with what the log holds from byte off on: at least one byte, if
// need be one that it waits for. Its errors are those of Wait, or say that the
// file cannot be read.
func (l *Log) Read(ctx context.Context, p []byte, off int64) (int, error) {
	if len(p) == 0 && off >= 0 {
		return 0, nil
	}
	v, err := l.await(ctx, off)
	switch {
	case err != nil:
		return 0, err
	case len(v.head) > 0:
		return copy(p, v.head), nil
	default:
		return l.readFile(v.file, p[:min(int64(len(p)), v.rest)], off)
	}
}

// view is what there is of a log from an offset on.
type view struct {
	head []byte // the first bytes of it, if they are in memory; they never change
	file File
	rest int64 // how many bytes there are
}

// await is Wait, with what there is.
func (l *Log) await(ctx context.Context, off int64) (view, error) {
	if off < 0 {
		return view{}, fmt.Errorf("output: read the log at byte %d: %w", off, navvy.ErrInvalid)
	}
	for {
		l.mu.RLock()
		v, grown, ended, err := view{file: l.file, rest: l.length - off}, l.grown, l.ended, l.err
		if off < int64(len(l.head)) {
			v.head = l.head[off:]
		}
		l.mu.RUnlock()
		switch {
		case v.rest > 0:
			return v, nil
		case ended && err != nil:
			return view{}, err
		case ended:
			return view{}, io.EOF
		case grown == nil:
			if grown = l.promise(off); grown == nil {
				continue
			}
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return view{}, ctx.Err()
		}
	}
}

// promise gives the channel that is closed when there is more; nil if there is
// already more than off, or nothing more will come.
func (l *Log) promise(off int64) chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.length > off || l.ended {
		return nil
	}
	if l.grown == nil {
		l.grown = make(chan struct{})
	}
	return l.grown
}

// readFile reads bytes that have been appended to the file.
func (l *Log) readFile(file File, p []byte, off int64) (int, error) {
	n, err := file.ReadAt(p, off)
	if n == 0 && errors.Is(err, io.EOF) {
		if err := l.show(off); err != nil {
			return 0, err
		}
		n, err = file.ReadAt(p, off)
	}
	if n > 0 {
		return n, nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = navvy.ErrCorrupt
	}
	return 0, fmt.Errorf("output: read the log at byte %d: %w", off, err)
}

// show makes the file show the byte at off. Of all who ask at once, one does it.
func (l *Log) show(off int64) error {
	l.files.Lock()
	defer l.files.Unlock()
	if l.synced > off {
		return nil
	}
	return l.sync()
}
