package output

import (
	"io"
	"os"
	"sync"
)

// disk is a File on a disk, as the operating system has it: what was appended is
// visible at once.
type disk struct{ *os.File }

// Append implements File.
func (d disk) Append(p []byte) error {
	_, err := d.Write(p)
	return err
}

// memory is a File in memory, in pieces that never move. Its zero value is ready.
type memory struct {
	mu     sync.RWMutex
	pieces []*[memoryPiece]byte
	length int64
}

// memoryPiece is by how many bytes a File in memory grows.
const memoryPiece = 64 << 10

// Append implements File.
func (m *memory) Append(p []byte) error {
	m.mu.RLock()
	pieces, length := m.pieces, m.length // which only we change
	m.mu.RUnlock()
	for len(p) > 0 {
		at := length % memoryPiece
		if at == 0 {
			pieces = append(pieces, new([memoryPiece]byte))
		}
		n := copy(pieces[len(pieces)-1][at:], p)
		length += int64(n)
		p = p[n:]
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pieces, m.length = pieces, length
	return nil
}

// ReadAt implements File.
func (m *memory) ReadAt(p []byte, off int64) (int, error) {
	m.mu.RLock()
	pieces, length := m.pieces, m.length
	m.mu.RUnlock()
	n := 0
	for n < len(p) && off < length {
		at := off % memoryPiece
		part := pieces[off/memoryPiece][at:min(memoryPiece, at+length-off)]
		copied := copy(p[n:], part)
		n += copied
		off += int64(copied)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Sync implements File. Memory is as durable as it is.
func (m *memory) Sync() error { return nil }

// Close implements File. What was appended stays as long as the log.
func (m *memory) Close() error { return nil }
