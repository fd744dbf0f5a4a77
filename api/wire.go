package api

import "time"

// What both ends of a connection agree on.
const (
	// MaxMessage bounds one message of the API, in bytes: a batch of results, or
	// one input that is very long.
	MaxMessage = 128 << 20
	// StreamWindow and ConnWindow are how many bytes may be under way on one stream, and
	// on all of a connection. They are fixed: a window that is measured costs a ping for
	// what little a heartbeat or a result sends.
	StreamWindow = 1 << 20
	ConnWindow   = 8 << 20
	// KeepaliveTime is how long a connection may be silent before the client asks
	// whether the server is there, and KeepaliveTimeout how long it waits for an
	// answer. A server allows to be asked as often as every KeepaliveTime / 2.
	KeepaliveTime    = 15 * time.Second
	KeepaliveTimeout = 10 * time.Second
)
