package lifetest

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// Wire is a network between a server and others. It can be cut, when nothing comes
// through and nobody is told, and healed; it can be slow; and it can lose connections
// of which neither end hears. Its methods may be called at once.
type Wire struct {
	// Addr is where the others connect to, HOST:PORT.
	Addr string

	mu    sync.Mutex
	to    string
	cut   chan struct{} // closed when healed; nil while it is whole
	delay time.Duration
	lines map[*line]struct{}
	gone  bool
}

// line is one connection over a wire.
type line struct {
	ends [2]net.Conn
	over chan struct{} // closed when it is
	lost chan struct{} // closed when nothing comes through any more
}

// NewWire makes a wire on loopback that lasts as long as the test.
func NewWire(t testing.TB) *Wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &Wire{Addr: l.Addr().String(), lines: map[*line]struct{}{}}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { w.carry(conn) })
		}
	})
	t.Cleanup(func() {
		w.Heal()
		_ = l.Close()
		w.mu.Lock()
		w.gone = true
		w.mu.Unlock()
		w.Snap()
		all.Wait()
	})
	return w
}

// Lead says where the server is.
func (w *Wire) Lead(to string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.to = to
}

// Past is where the server is.
func (w *Wire) Past() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.to
}

// Part cuts the wire.
func (w *Wire) Part() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cut == nil {
		w.cut = make(chan struct{})
	}
}

// Heal lets what was sent meanwhile come through.
func (w *Wire) Heal() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cut != nil {
		close(w.cut)
		w.cut = nil
	}
}

// Slow delays each piece that is sent from now on.
func (w *Wire) Slow(delay time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.delay = delay
}

// Snap breaks all connections, and both ends are told.
func (w *Wire) Snap() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for l := range w.lines {
		l.close()
	}
}

// Lose lets nothing come through any more on the connections that there are, and
// nobody is told. New ones are as they should be.
func (w *Wire) Lose() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for l := range w.lines {
		select {
		case <-l.lost:
		default:
			close(l.lost)
		}
	}
}

func (l *line) close() {
	for _, end := range l.ends {
		if end != nil {
			_ = end.Close()
		}
	}
	select {
	case <-l.over:
	default:
		close(l.over)
	}
}

// pass waits as long as nothing comes through.
func (w *Wire) pass(l *line) {
	w.mu.Lock()
	cut, delay := w.cut, w.delay
	w.mu.Unlock()
	if cut != nil {
		select {
		case <-cut:
		case <-l.over:
		}
	}
	select {
	case <-l.lost:
		<-l.over
	default:
	}
	if delay > 0 {
		select {
		case <-time.After(delay):
		case <-l.over:
		}
	}
}

func (w *Wire) carry(conn net.Conn) {
	l := &line{ends: [2]net.Conn{conn, nil}, over: make(chan struct{}), lost: make(chan struct{})}
	w.mu.Lock()
	w.lines[l] = struct{}{}
	if w.gone {
		close(l.over)
	}
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		l.close()
		delete(w.lines, l)
	}()
	w.pass(l)
	other, err := net.Dial("tcp", w.Past())
	if err != nil {
		return
	}
	w.mu.Lock()
	l.ends[1] = other
	select {
	case <-l.over:
		l.close() // meanwhile
	default:
	}
	w.mu.Unlock()
	var both sync.WaitGroup
	for i, to := range l.ends {
		both.Go(func() {
			_, _ = io.Copy(sender{w, l, to}, l.ends[1-i]) // its error is the end of the connection
			w.mu.Lock()
			defer w.mu.Unlock()
			l.close()
		})
	}
	both.Wait()
}

// sender is one end of a connection.
type sender struct {
	w    *Wire
	line *line
	to   net.Conn
}

// Write sends, once the wire lets it.
func (s sender) Write(b []byte) (int, error) {
	s.w.pass(s.line)
	return s.to.Write(b)
}
