package relay

import (
	"container/list"
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
)

// Bounds of what tasks can make a worker hold.
const (
	// maxStrangers is how many connections may be open that have shown no token, and
	// strangerTime for how long: the oldest goes when one more comes.
	maxStrangers = 128
	strangerTime = 10 * time.Second
	// maxConns is how many connections one attempt may have: the oldest goes.
	maxConns = 128
	// maxCalls is how many calls one attempt may have under way, watches among them.
	maxCalls = 64
	// maxAllCalls is how many all attempts may have together: they share the worker's
	// connection with what it has to say itself.
	maxAllCalls = 2048
	// maxRequest is longer than any request that can be granted, in bytes: a value
	// has less than 1 MiB, a key 512 bytes.
	maxRequest = 1<<20 + 4<<10
	// bufferSize is that of a connection, in each direction, and window how much of a
	// request may come before it is read.
	bufferSize = 8 << 10
	window     = 64 << 10
	// idleTime is how long a connection may be without a call.
	idleTime = time.Minute
)

// door is where connections come in.
type door struct {
	net.Listener
	strangers row
}

// Accept waits for the next connection, which is a stranger's until it shows a token.
func (d *door) Accept() (net.Conn, error) {
	conn, err := d.Listener.Accept()
	if err != nil {
		return nil, err
	}
	v := &visitor{Conn: conn}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.leave = d.strangers.enter(v, maxStrangers)
	v.hurry = time.AfterFunc(strangerTime, func() { _ = v.Close() })
	return v, nil
}

// row is connections in the order in which they came. Its zero value is empty, and
// its methods may be called at once.
type row struct {
	mu    sync.Mutex
	conns list.List
}

// enter adds a connection, and closes the oldest if there are more than so many.
// leave, which may be called more than once, takes it out.
func (r *row) enter(v *visitor, most int) (leave func()) {
	r.mu.Lock()
	e := r.conns.PushBack(v)
	var oldest *visitor
	if r.conns.Len() > most {
		oldest = r.conns.Remove(r.conns.Front()).(*visitor)
	}
	r.mu.Unlock()
	if oldest != nil {
		_ = oldest.Conn.Close() // who reads from it closes the rest
	}
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.conns.Remove(e) // nothing, if it is out already
	}
}

// clear closes all connections, without waiting for anything.
func (r *row) clear() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.conns.Len() > 0 { // one by one, so that whoever leaves later finds itself out
		_ = r.conns.Remove(r.conns.Front()).(*visitor).Conn.Close()
	}
}

// count is how many there are.
func (r *row) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.conns.Len()
}

// visitor is a connection.
type visitor struct {
	net.Conn
	hurry *time.Timer // closes it, if it stays a stranger

	mu    sync.Mutex
	known bool
	over  bool
	leave func() // the row in which it is
}

// meet makes a stranger a connection of an attempt, that of its first call.
func (v *visitor) meet(p *Pass) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.known || v.over {
		return
	}
	v.known = true
	v.hurry.Stop()
	v.leave()
	v.leave = p.conns.enter(v, maxConns)
}

// Close closes the connection.
func (v *visitor) Close() error {
	v.mu.Lock()
	v.over = true
	v.hurry.Stop()
	leave := v.leave
	v.mu.Unlock()
	leave()
	return v.Conn.Close()
}

// handshake is the credentials of a socket that has none: calls come to know on which
// connection they are.
type handshake struct {
	credentials.TransportCredentials
}

// origin is the connection that a call came on.
type origin struct {
	credentials.CommonAuthInfo
	visitor *visitor
}

// AuthType implements credentials.AuthInfo.
func (origin) AuthType() string { return "task" }

// ServerHandshake implements credentials.TransportCredentials.
func (handshake) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	v, ok := conn.(*visitor)
	if !ok {
		return nil, nil, errors.New("relay: a connection that came in past the door")
	}
	return conn, origin{credentials.CommonAuthInfo{SecurityLevel: credentials.NoSecurity}, v}, nil
}

// visitorOf is the connection that a call came on; nil if that is not known.
func visitorOf(ctx context.Context) *visitor {
	if p, ok := peer.FromContext(ctx); ok {
		if o, ok := p.AuthInfo.(origin); ok {
			return o.visitor
		}
	}
	return nil
}
