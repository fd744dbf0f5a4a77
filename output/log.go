package output

import (
	"context"
	"errors"
	"fmt"
	"io"
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
// afterwards. Its first bytes, up to InlineLimit, stay in memory, everything is
// in a File once it is longer. A reader that waits costs a goroutine of its
// caller, one that does not read costs nothing, and none slows the writer down,
// but for the Sync that a File may need to show its last bytes.
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

// NewLog returns an empty log. create makes its file, once, when it is needed.
func NewLog(create func() (File, error)) *Log { return &Log{create: create} }

// Append adds p, which it does not keep. After an error the log has ended with it.
func (l *Log) Append(p []byte) error {
	l.files.Lock()
	defer l.files.Unlock()
	if l.ended {
		return fmt.Errorf("output: append to a log that has ended: %w", navvy.ErrClosed)
	}
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
	l.crc = UpdateCRC(l.crc, p)
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

// Read fills p with what the log holds from byte off on: at least one byte, if
// need be one that it waits for. It returns io.EOF at the end of a log that has
// ended, or the error that it ended with, and the error of ctx if that ends first.
func (l *Log) Read(ctx context.Context, p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("output: read the log at byte %d: %w", off, navvy.ErrInvalid)
	}
	for {
		l.mu.RLock()
		n := 0
		if off < int64(len(l.head)) {
			n = copy(p, l.head[off:])
		}
		file, rest, ended, err := l.file, l.length-off, l.ended, l.err
		l.mu.RUnlock()
		switch {
		case n > 0 || len(p) == 0:
			return n, nil
		case rest > 0:
			return l.readFile(file, p[:min(int64(len(p)), rest)], off)
		case ended && err != nil:
			return 0, err
		case ended:
			return 0, io.EOF
		}
		if err := l.wait(ctx, off); err != nil {
			return 0, err
		}
	}
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

// wait blocks until there is more than off, or nothing more.
func (l *Log) wait(ctx context.Context, off int64) error {
	l.mu.Lock()
	if l.length > off || l.ended {
		l.mu.Unlock()
		return nil
	}
	if l.grown == nil {
		l.grown = make(chan struct{})
	}
	grown := l.grown
	l.mu.Unlock()
	select {
	case <-grown:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
