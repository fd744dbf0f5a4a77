package rabbitqueue

import (
	"bufio"
	"context"
	"net"
	"sync"

	"github.com/navvy-run/navvy"
)

// readAhead is how much is read at once, if it is there.
const readAhead = 64 << 10

// plenty is how much may wait to be written before who writes more should wait, too.
const plenty = 4 << 20

// stream is a connection on which nobody waits to write: what is written goes out behind
// the writer's back, and what comes meanwhile goes out together. A broker that is out of
// memory or disk reads no more from those who publish, and the client library would wait
// for it without regard for any context. Whoever writes much uses room to wait.
type stream struct {
	net.Conn
	in *bufio.Reader

	mu    sync.Mutex
	out   []byte
	busy  bool          // something is being written
	wake  chan struct{} // holds one if there is something to write
	empty chan struct{} // closed when all is written; nil if nobody waits for it
	err   error
	ended bool
	done  chan struct{} // closed when the connection is
	work  sync.WaitGroup
}

func newStream(c net.Conn) *stream {
	s := &stream{Conn: c, in: bufio.NewReaderSize(c, readAhead), wake: make(chan struct{}, 1), done: make(chan struct{})}
	s.work.Go(s.run)
	return s
}

// Read implements net.Conn.
func (s *stream) Read(p []byte) (int, error) { return s.in.Read(p) }

// Write implements net.Conn; an error is that of an earlier Write.
func (s *stream) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return 0, s.err
	}
	if s.ended {
		return 0, net.ErrClosed
	}
	s.out = append(s.out, p...)
	if !s.busy {
		s.busy = true
		s.wake <- struct{}{} // has room: it is filled by who makes it busy only
	}
	return len(p), nil
}

// run writes what there is, until the connection is closed.
func (s *stream) run() {
	var spare []byte
	for {
		select {
		case <-s.done:
			return
		case <-s.wake:
		}
		for {
			s.mu.Lock()
			out := s.out
			if len(out) == 0 {
				s.rest()
				s.mu.Unlock()
				break
			}
			s.out = spare[:0]
			s.mu.Unlock()
			if _, err := s.Conn.Write(out); err != nil {
				s.fail(err)
				return
			}
			if spare = out; cap(spare) > plenty {
				spare = nil // a rare long one
			}
		}
	}
}

// rest tells that all is written; mu must be held.
func (s *stream) rest() {
	s.busy = false
	if s.empty != nil {
		close(s.empty)
		s.empty = nil
	}
}

func (s *stream) fail(err error) {
	s.mu.Lock()
	s.err, s.out = err, nil
	s.rest()
	s.mu.Unlock()
	_ = s.Conn.Close() // whoever reads learns of it
}

// room waits while much is still to be written.
func (s *stream) room(ctx context.Context) error {
	s.mu.Lock()
	if len(s.out) < plenty || s.err != nil || s.ended {
		s.mu.Unlock()
		return nil
	}
	if s.empty == nil {
		s.empty = make(chan struct{})
	}
	empty := s.empty
	s.mu.Unlock()
	select {
	case <-empty:
		return nil
	case <-s.done:
		return navvy.ErrUnavailable
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Close implements net.Conn. It may be called again.
func (s *stream) Close() error {
	s.mu.Lock()
	if !s.ended {
		s.ended = true
		close(s.done)
	}
	s.mu.Unlock()
	err := s.Conn.Close()
	s.work.Wait()
	return err
}
