package link

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/navvy-run/navvy"
)

// How long hosts may take.
const (
	// DialTime is how long a host may take until somebody has signed in.
	DialTime = 10 * time.Second
	// A connection is asked for a sign of life so often, and is dead without one for so long.
	aliveEvery = 5 * time.Second
	aliveTime  = 15 * time.Second
)

// sessions are the commands that run on one connection at once: sshd allows 10.
const sessions = 6

// Conn is a connection to a host, somebody has signed in on it. Its methods may be called by
// many at once.
type Conn struct {
	host   Host
	client *ssh.Client
	room   chan struct{}
	dead   chan struct{} // closed when the connection has ended
}

// Dial signs in on a host, in DialTime at most. The error wraps navvy.ErrUnavailable for a host
// that does not answer, is a *KeyError for one that is not trusted, and wraps navvy.ErrDenied
// for one that lets nobody in; it is a *HereError if the cause is on this machine, whatever it
// wraps.
func Dial(ctx context.Context, h Host, o *Options) (*Conn, error) {
	known, err := o.known(h)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, DialTime)
	defer cancel()
	signers, held, err := o.signers(ctx)
	if err != nil {
		return nil, &HereError{err}
	}
	defer held.release()
	raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", h.Address())
	if err != nil {
		return nil, fmt.Errorf("it does not answer: %w: %w", err, navvy.ErrUnavailable)
	}
	// One that accepts and says nothing more is left, too.
	stop := context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })
	conn, channels, requests, err := ssh.NewClientConn(raw, h.Address(), &ssh.ClientConfig{
		User: h.User, Auth: []ssh.AuthMethod{ssh.PublicKeys(signers...)}, HostKeyCallback: known.check, HostKeyAlgorithms: known.algorithms(),
	})
	if !stop() && err == nil { // it has come just too late
		err = errors.Join(errLate, conn.Close())
	}
	if err != nil {
		if silent := held.silent(ctx); silent != nil {
			return nil, errors.Join(&HereError{silent}, closed(raw))
		}
		return nil, errors.Join(o.missed(held, failed(h, err)), closed(raw))
	}
	c := &Conn{host: h, client: ssh.NewClient(conn, channels, requests), room: make(chan struct{}, sessions), dead: make(chan struct{})}
	go func() {
		_ = c.client.Wait() // as whoever uses it is told
		close(c.dead)
	}()
	go c.watch()
	return c, nil
}

// errLate says that a host was too slow.
var errLate = errors.New("it took too long")

// closed closes what may be closed already.
func closed(conn net.Conn) error {
	if err := conn.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// failed says why nobody could sign in.
func failed(h Host, err error) error {
	if untrusted, is := errors.AsType[*KeyError](err); is {
		return untrusted
	}
	if strings.Contains(err.Error(), "unable to authenticate") { // there is no error value for it
		return fmt.Errorf("it does not let %s in with the keys that there are; try %s: %w: %w", h.User, h.Command(), err, navvy.ErrDenied)
	}
	if strings.Contains(err.Error(), "Too many authentication failures") { // likewise: of OpenSSH's server
		return fmt.Errorf("it refuses to be shown so many keys; set ssh.identity to the one for %s: %w: %w", h.User, err, navvy.ErrDenied)
	}
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return fmt.Errorf("it does not answer in %s: %w", DialTime, navvy.ErrUnavailable)
	}
	return fmt.Errorf("it does not answer as ssh does: %w: %w", err, navvy.ErrUnavailable)
}

// HereError says that nobody has signed in for a cause on this machine, and not on the host: there
// is no key, or ssh-agent does not answer. It tells nothing of the host.
type HereError struct{ Err error }

// Error implements error.
func (e *HereError) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *HereError) Unwrap() error { return e.Err }

// Lives asks the other end for a sign of life. Without one the connection has ended.
func (c *Conn) Lives() bool {
	_, _, err := c.client.SendRequest("keepalive@openssh.com", true, nil)
	if err != nil {
		_ = c.Close() // it may have ended long ago
	}
	return err == nil
}

// watch ends a connection whose other end is silent.
func (c *Conn) watch() {
	tick := time.NewTicker(aliveEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-c.dead:
			return
		}
		late := time.AfterFunc(aliveTime, func() { _ = c.client.Close() })
		_, _, err := c.client.SendRequest("keepalive@openssh.com", true, nil)
		late.Stop()
		if err != nil {
			return
		}
	}
}

// Dead is closed when the connection has ended.
func (c *Conn) Dead() <-chan struct{} { return c.dead }

// Close ends the connection, with what runs on it.
func (c *Conn) Close() error {
	err := c.client.Close()
	<-c.dead
	if errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// ExitError says how a command has ended that did not go well.
type ExitError struct {
	Status int    // 0 if a signal has ended it
	Said   string // the end of what it has written to standard error
}

// Error implements error.
func (e *ExitError) Error() string {
	how := "exit status " + strconv.Itoa(e.Status)
	if e.Status == 0 {
		how = "ended by a signal"
	}
	if e.Said == "" {
		return how
	}
	return e.Said + " (" + how + ")"
}

// Run runs a script of POSIX's shell, of one line, with arguments $1 and so on; in is its
// standard input, nil for none. It gives what the script wrote to standard output. The error is
// an *ExitError, or wraps navvy.ErrUnavailable if the connection has ended, or navvy.ErrCorrupt
// if the script wrote more than anything that is asked does, or is that of ctx.
func (c *Conn) Run(ctx context.Context, script string, args []string, in io.Reader) ([]byte, error) {
	select {
	case c.room <- struct{}{}:
		defer func() { <-c.room }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	type end struct {
		out []byte
		err error
	}
	ended := make(chan end, 1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		out, err := c.session(ctx, script, args, in)
		ended <- end{out, err}
	}()
	select {
	case e := <-ended:
		if e.err != nil && ctx.Err() != nil { // that has ended it, and not the host
			return e.out, context.Cause(ctx)
		}
		return e.out, e.err
	case <-ctx.Done(): // the goroutine ends with its session or the connection
		return nil, context.Cause(ctx)
	}
}

func (c *Conn) session(ctx context.Context, script string, args []string, in io.Reader) ([]byte, error) {
	lost := func(err error) error {
		return fmt.Errorf("the connection has ended: %w: %w", err, navvy.ErrUnavailable)
	}
	s, err := c.open(ctx)
	if err != nil {
		return nil, lost(err)
	}
	defer context.AfterFunc(ctx, func() { _ = s.Close() })()
	defer s.Close() //nolint:errcheck // it has ended
	out := &bounded{end: func() { _ = s.Close() }}
	said := &tail{}
	s.Stdin, s.Stdout, s.Stderr = in, out, said
	if err := s.Start("exec sh -c " + Quote(append([]string{script, "navvy"}, args...)...)); err != nil {
		return nil, lost(err)
	}
	err = s.Wait()
	var exit *ssh.ExitError
	switch {
	case out.over:
		return nil, fmt.Errorf("it writes more than %d MiB, such as %.100q: %w", mostOut>>20, out.text, navvy.ErrCorrupt)
	case errors.Is(err, io.EOF): // it has ended well, and not read all of its input
		return out.text, nil
	case errors.As(err, &exit):
		return out.text, &ExitError{exit.ExitStatus(), said.String()}
	case err != nil:
		return out.text, lost(err)
	}
	return out.text, nil
}

// mostOut is the most that a script may write.
const mostOut = 8 << 20

// bounded keeps what is written, and ends the session when that is too much. It is of one
// goroutine, which ssh.Session.Run waits for.
type bounded struct {
	text []byte
	over bool
	end  func()
}

func (b *bounded) Write(p []byte) (int, error) {
	if len(b.text)+len(p) > mostOut {
		if !b.over {
			b.over = true
			b.end()
		}
		return 0, bytes.ErrTooLarge
	}
	b.text = append(b.text, p...)
	return len(p), nil
}

// open opens a session. sshd counts those for a while longer that have just ended.
func (c *Conn) open(ctx context.Context) (*ssh.Session, error) {
	const most, wait = 200, 50 * time.Millisecond
	for try := 0; ; try++ {
		s, err := c.client.NewSession()
		if _, full := errors.AsType[*ssh.OpenChannelError](err); !full || try == most {
			return s, err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// Listen has a port of the host's loopback lead here; 0 for any. It ends with the connection.
func (c *Conn) Listen(port int) (net.Listener, error) {
	return c.client.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
}

// Quote writes words so that a shell reads them as they are.
func Quote(words ...string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
	}
	return strings.Join(quoted, " ")
}

// tail keeps the end of what is written to it.
type tail struct{ text []byte }

func (t *tail) Write(p []byte) (int, error) {
	const most = 2 << 10
	t.text = append(t.text, p...)
	t.text = t.text[max(0, len(t.text)-most):]
	return len(p), nil
}

func (t *tail) String() string {
	return strings.Join(strings.Fields(strings.ToValidUTF8(string(t.text), "?")), " ")
}
