package unit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/navvy-run/navvy"
)

// A supervisor is asked over a socket in its directory: one request a connection, an object
// of JSON, and one answer.

// The operations.
const (
	opList   = "list"
	opPut    = "put"
	opRemove = "remove"
)

// requestTime is how long one may take to be sent.
const requestTime = 10 * time.Second

type request struct {
	Op   string `json:"op"`
	Spec Spec   `json:"spec,omitzero"`  // to put
	Name string `json:"name,omitempty"` // to remove
}

type answer struct {
	Error string  `json:"error,omitempty"` // empty if all went well
	Kind  string  `json:"kind,omitempty"`  // which sentinel it wraps
	Units []State `json:"units,omitempty"`
}

// kinds are the sentinels that cross the socket.
var kinds = map[string]error{
	"invalid": navvy.ErrInvalid, "unavailable": navvy.ErrUnavailable, "denied": navvy.ErrDenied, "corrupt": navvy.ErrCorrupt,
	"conflict": navvy.ErrConflict, "exhausted": navvy.ErrExhausted,
}

// fail puts an error into an answer.
func (a *answer) fail(err error) {
	if err == nil {
		return
	}
	a.Error = err.Error()
	for name, sentinel := range kinds {
		if errors.Is(err, sentinel) {
			a.Kind = name
		}
	}
}

// remoteError is one that a supervisor has told of.
type remoteError struct {
	text string
	kind error
}

func (e *remoteError) Error() string { return e.text }
func (e *remoteError) Unwrap() error { return e.kind }

func (a *answer) err() error {
	if a.Error == "" {
		return nil
	}
	return &remoteError{a.Error, kinds[a.Kind]}
}

func writeJSON(w io.Writer, v any) error { return json.NewEncoder(w).Encode(v) }
func readJSON(r io.Reader, v any) error  { return json.NewDecoder(r).Decode(v) }

// maxSocketPath is what fits into sockaddr_un with its closing zero; see unix(7).
const maxSocketPath = 107

// withSocket calls fn with a path to the socket that is short enough for the kernel: one
// through an open directory where the real one is too long.
func withSocket(dir string, fn func(path string) error) error {
	path := filepath.Join(dir, socketName)
	if len(path) <= maxSocketPath {
		return fn(path)
	}
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return fn(filepath.Join("/proc/self/fd", fmt.Sprint(f.Fd()), socketName))
}

// listen opens the socket; whoever has the lock takes an old one away.
func listen(dir string) (net.Listener, error) {
	path := filepath.Join(dir, socketName)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var l net.Listener
	err := withSocket(dir, func(path string) (err error) {
		l, err = net.Listen("unix", path)
		return err
	})
	if err != nil {
		return nil, err
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // its path may lead through a directory that is closed by now
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// errNobody says that no supervisor listens, or that it has ended before it answered.
var errNobody = errors.New("nobody answers")

// call asks the supervisor of a directory; errNobody if there is none.
func call(ctx context.Context, dir string, q *request) (*answer, error) {
	var conn net.Conn
	err := withSocket(dir, func(path string) (err error) {
		conn, err = (&net.Dialer{}).DialContext(ctx, "unix", path)
		return err
	})
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNobody, err)
	}
	defer conn.Close() //nolint:errcheck // all was said
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	var a answer
	if err = writeJSON(conn, q); err == nil {
		err = readJSON(conn, &a)
	}
	if err != nil && ctx.Err() != nil {
		return nil, context.Cause(ctx)
	} else if err != nil {
		return nil, fmt.Errorf("%w: %w", errNobody, err)
	}
	return &a, nil
}
