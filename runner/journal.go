package runner

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
)

// Journal remembers which attempts are running, in a file, so that the next
// navvy finds what this one leaves behind if it is killed. It is a fixed number
// of bytes for each attempt that runs at once, written in place.
//
// It survives the death of the process, not a loss of power, and but for its
// header is never flushed: what a journal of processes is for ends with the
// machine, and a remote kind is also found by its token. All methods may be called at once;
// the file is for one process at a time, which the caller sees to.
type Journal struct {
	file *os.File
	left []Entry

	mu   sync.Mutex
	free []int  // slots that hold nothing
	next int    // the first slot behind the end of the file
	seq  uint64 // no record in the file has a higher one
}

// Entry is one attempt in a journal.
type Entry struct {
	Kind    string
	Task    navvy.TaskID
	Attempt navvy.AttemptID
	Token   string
	Started time.Time
	Handle  []byte // nil if navvy died before it was known

	slot Slot
}

// Forget drops an attempt of which nobody need be told any more.
func (j *Journal) Forget(e *Entry) error { return j.Release(e.slot) }

// Slot is the place of one attempt in a journal.
type Slot struct {
	n   int
	seq uint64 // of the intent: a handle counts only beside the one that it was written for
}

// OpenJournal opens the journal at path and reads what an earlier process left
// in it, or makes an empty one. The error wraps navvy.ErrCorrupt if the file is
// no journal, or one of an unknown version.
func OpenJournal(path string) (*Journal, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("runner: open the journal: %w", err)
	}
	j := &Journal{file: file}
	if err := j.load(); err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("runner: journal %s: %w", path, err)
	}
	return j, nil
}

func (j *Journal) load() error {
	header := make([]byte, slotSize)
	n, err := j.file.ReadAt(header, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	// Zeros are what a loss of power may leave of a header.
	if len(bytes.Trim(header[:n], "\x00")) == 0 {
		err = j.begin()
	} else {
		err = checkHeader(header[:n])
	}
	if err != nil {
		return err
	}
	slot := make([]byte, slotSize)
	for ; ; j.next++ {
		n, err := j.file.ReadAt(slot, slotOffset(j.next))
		if n == 0 && errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		clear(slot[n:])
		// A slot that is free may still hold the handle of its last attempt.
		if seq, _, ok := decodeHandle(slot); ok {
			j.seq = max(j.seq, seq)
		}
		e, seq, ok := decodeSlot(slot)
		if !ok {
			j.free = append(j.free, j.next)
			continue
		}
		e.slot = Slot{n: j.next, seq: seq}
		j.seq = max(j.seq, seq)
		j.left = append(j.left, e)
	}
}

// begin writes the header, durably: a file without one is no journal.
func (j *Journal) begin() error {
	if _, err := j.file.WriteAt(journalHeader(), 0); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(j.file.Name()))
	if err != nil {
		return err
	}
	return errors.Join(j.file.Sync(), dir.Sync(), dir.Close())
}

// Left is what an earlier process left behind. Each entry stays in the file until it is released.
func (j *Journal) Left() []Entry { return j.left }

// Reserve writes down that an attempt is about to start. The slot is what Set
// and Release want to be told. The error wraps navvy.ErrInvalid if the entry is
// too long; whatever it is, nothing was written down.
func (j *Journal) Reserve(e *Entry) (slot Slot, err error) {
	j.mu.Lock()
	j.seq++
	slot.seq = j.seq
	if last := len(j.free) - 1; last >= 0 {
		slot.n, j.free = j.free[last], j.free[:last]
	} else {
		slot.n = j.next
		j.next++
	}
	j.mu.Unlock()
	var buf [handleAt]byte
	intent, err := encodeIntent(buf[:0], e, slot.seq)
	if err == nil {
		_, err = j.file.WriteAt(intent, slotOffset(slot.n))
	}
	if err == nil && e.Handle != nil {
		err = j.Set(slot, e.Handle)
	}
	if err != nil {
		_ = j.Release(slot)
		return Slot{}, fmt.Errorf("runner: journal: %w", err)
	}
	return slot, nil
}

// Set adds the handle of the attempt that has started.
func (j *Journal) Set(slot Slot, handle []byte) error {
	if len(handle) > driver.MaxHandle {
		return fmt.Errorf("runner: a handle of %d bytes, more than %d: %w", len(handle), driver.MaxHandle, navvy.ErrInvalid)
	}
	var buf [slotSize - handleAt]byte
	if _, err := j.file.WriteAt(encodeHandle(buf[:0], slot.seq, handle), slotOffset(slot.n)+handleAt); err != nil {
		return fmt.Errorf("runner: journal: %w", err)
	}
	return nil
}

// Release forgets an attempt: nothing of it is left.
func (j *Journal) Release(slot Slot) error {
	if _, err := j.file.WriteAt([]byte{slotFree}, slotOffset(slot.n)); err != nil {
		return fmt.Errorf("runner: journal: %w", err)
	}
	j.mu.Lock()
	j.free = append(j.free, slot.n)
	j.mu.Unlock()
	return nil
}

// Close closes the file.
func (j *Journal) Close() error { return j.file.Close() }
