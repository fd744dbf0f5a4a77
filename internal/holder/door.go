package holder

import (
	"container/list"
	"errors"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc/credentials"
)

// Bounds of what people without a certificate can make a server hold.
const (
	// maxStrangers is how many connections may be open whose handshake is not over,
	// or that have shown no certificate: the oldest goes when one more comes.
	maxStrangers = 1024
	// maxJoining is how many of them may be those that joined without one, and
	// joiningBytes how much each may send: it asks for a certificate, and goes.
	maxJoining   = 64
	joiningBytes = 64 << 10
	joiningTime  = 30 * time.Second
)

// door is where connections from the network come in: it bounds those of strangers.
type door struct {
	net.Listener
	strangers, joining waiting
}

func newDoor(l net.Listener) *door {
	return &door{Listener: l, strangers: waiting{limit: maxStrangers}, joining: waiting{limit: maxJoining}}
}

// Accept waits for the next connection, which is a stranger's until it is known.
func (d *door) Accept() (net.Conn, error) {
	conn, err := d.Listener.Accept()
	if err != nil {
		return nil, err
	}
	s := &stranger{Conn: conn}
	s.leave = d.strangers.enter(conn)
	return s, nil
}

// waiting are connections of which there may be a number, oldest first.
type waiting struct {
	limit int
	mu    sync.Mutex
	conns list.List
}

// enter adds a connection, and closes the oldest if there are too many. leave,
// which may be called more than once, takes it out.
func (w *waiting) enter(conn net.Conn) (leave func()) {
	w.mu.Lock()
	e := w.conns.PushBack(conn)
	var oldest net.Conn
	if w.conns.Len() > w.limit {
		oldest = w.conns.Remove(w.conns.Front()).(net.Conn)
	}
	w.mu.Unlock()
	if oldest != nil {
		_ = oldest.Close() // whoever reads from it is told
	}
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.conns.Remove(e) // nothing, if it is out already
	}
}

// count is how many there are.
func (w *waiting) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.conns.Len()
}

// stranger is a connection of somebody who has not been met.
type stranger struct {
	net.Conn
	mu    sync.Mutex
	leave func()
	left  int64 // bytes that may still be read; 0 if that is not bounded
	bound bool
}

// Close closes the connection.
func (s *stranger) Close() error {
	s.mu.Lock()
	leave := s.leave
	s.mu.Unlock()
	leave()
	return s.Conn.Close()
}

// CloseWrite ends one direction, as net/http does before it closes what it refuses.
func (s *stranger) CloseWrite() error {
	if c, ok := s.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}

var errTalkative = errors.New("too much for a client without a certificate")

// Read reads, no more than is bounded.
func (s *stranger) Read(p []byte) (int, error) {
	n, err := s.Conn.Read(p)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.left -= int64(n); s.bound && s.left < 0 {
		return 0, errTalkative
	}
	return n, err
}

// met ends what bounded the connection as that of a stranger.
func (s *stranger) met() {
	s.mu.Lock()
	leave := s.leave
	s.leave = func() {}
	s.mu.Unlock()
	leave()
}

// joins bounds the connection as that of somebody who only joins.
func (s *stranger) joins(w *waiting) {
	over := time.AfterFunc(joiningTime, func() { _ = s.Conn.Close() })
	leave := w.enter(s.Conn)
	s.mu.Lock()
	s.left, s.bound = joiningBytes, true
	s.leave = func() {
		over.Stop()
		leave()
	}
	s.mu.Unlock()
}

// meet wraps the credentials of a port, so that its door learns who was met.
func (d *door) meet(c credentials.TransportCredentials) credentials.TransportCredentials {
	return &meeting{TransportCredentials: c, door: d}
}

type meeting struct {
	credentials.TransportCredentials
	door *door
}

// Clone gives credentials that are used alike.
func (m *meeting) Clone() credentials.TransportCredentials {
	return m.door.meet(m.TransportCredentials.Clone())
}

// peerCerts is what can be asked of TLS credentials.
type peerCerts interface {
	GetSecurityValue() credentials.ChannelzSecurityValue
}

// ServerHandshake meets one client.
func (m *meeting) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := m.TransportCredentials.ServerHandshake(raw)
	s, ok := raw.(*stranger)
	if err != nil || !ok {
		return conn, info, err
	}
	s.met()
	if !certified(info) {
		s.joins(&m.door.joining)
	}
	return conn, info, nil
}

// certified tells whether a client has shown a certificate.
func certified(info credentials.AuthInfo) bool {
	v, ok := info.(peerCerts)
	if !ok {
		return false
	}
	value, ok := v.GetSecurityValue().(*credentials.TLSChannelzSecurityValue)
	return ok && len(value.RemoteCertificate) > 0
}
