package mstc_test

import (
	"io"
	"net"
	"sync"
	"testing"
)

// line is a connection to the broker that can be cut.
type line struct {
	listener net.Listener
	to       string

	mu     sync.Mutex
	broken bool
	held   chan struct{} // nil if what the broker says gets through; closed when it does again
	conns  map[net.Conn]bool
	done   sync.WaitGroup
}

func newLine(t *testing.T, to string) *line {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &line{listener: l, to: to, conns: map[net.Conn]bool{}}
	p.done.Go(p.serve)
	t.Cleanup(func() {
		_ = l.Close()
		p.hold(false)
		p.set(true)
		p.done.Wait()
	})
	return p
}

func (p *line) addr() string { return p.listener.Addr().String() }

// set cuts what there is, and with broken lets nobody through any more.
func (p *line) set(broken bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.broken = broken
	for c := range p.conns {
		_ = c.Close()
	}
}

// hold keeps back what the broker says, or lets it through again.
func (p *line) hold(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held != nil {
		close(p.held)
		p.held = nil
	}
	if on {
		p.held = make(chan struct{})
	}
}

// said is what the broker says.
type said struct {
	net.Conn
	p *line
}

func (s said) Read(b []byte) (int, error) {
	n, err := s.Conn.Read(b)
	s.p.mu.Lock()
	held := s.p.held
	s.p.mu.Unlock()
	if held != nil {
		<-held
	}
	return n, err
}

// add notes a connection, unless the line is broken.
func (p *line) add(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.broken {
		return false
	}
	p.conns[c] = true
	return true
}

func (p *line) serve() {
	for {
		near, err := p.listener.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", p.to)
		if err != nil || !p.add(near) || !p.add(far) {
			_ = near.Close()
			if far != nil {
				_ = far.Close()
			}
			continue
		}
		for _, pair := range [][2]net.Conn{{near, said{far, p}}, {far, near}} {
			p.done.Go(func() {
				_, _ = io.Copy(pair[0], pair[1])
				_, _ = pair[0].Close(), pair[1].Close()
			})
		}
	}
}
