package output_test

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/navvy-run/navvy/output"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errDisk = errors.New("the disk is full")

// file is an output.File in memory that shows what was appended only after a Sync.
type file struct {
	mu       sync.Mutex
	bytes    []byte
	visible  int
	syncs    int
	closed   bool
	failFrom int // appends and syncs fail once so many bytes are there; 0 means never
}

var _ output.File = (*file)(nil)

func (f *file) Append(p []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failFrom > 0 && len(f.bytes)+len(p) >= f.failFrom {
		return errDisk
	}
	f.bytes = append(f.bytes, p...)
	return nil
}

func (f *file) Sync() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.visible = len(f.bytes)
	f.syncs++
	return nil
}

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if off >= int64(f.visible) {
		return 0, io.EOF
	}
	n := copy(p, f.bytes[off:f.visible])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *file) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	return nil
}

// sink is an output.Sink that keeps what it is given.
type sink struct {
	mu      sync.Mutex
	frames  []byte
	pieces  int
	grown   chan struct{} // gets a value at each upload, if there is room
	err     error
	blocked chan struct{} // uploads wait until it is closed
}

func newSink() *sink { return &sink{grown: make(chan struct{}, 1)} }

func (s *sink) Upload(frames []byte) error {
	if s.blocked != nil {
		<-s.blocked
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	s.frames = append(s.frames, frames...)
	s.pieces++
	select {
	case s.grown <- struct{}{}:
	default:
	}
	return nil
}

func (s *sink) bytes() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bytes.Clone(s.frames)
}

// pattern is n bytes that differ from one offset to the next.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i ^ i>>8 ^ i>>16)
	}
	return b
}
