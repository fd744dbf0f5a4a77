package rabbitqueue_test

import (
	"errors"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/queue/driver"
	"github.com/navvy-run/navvy/queue/rabbitqueue"
)

// line leads to a broker, and can be cut.
type line struct {
	net.Listener
	to   string
	work sync.WaitGroup

	mu    sync.Mutex
	ends  []net.Conn
	quiet bool // what comes is kept
}

func newLine(t *testing.T, to string) *line {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &line{Listener: listener, to: to}
	l.work.Go(l.serve)
	t.Cleanup(func() {
		_ = l.Close()
		l.cut()
		l.work.Wait()
	})
	return l
}

func (l *line) serve() {
	for {
		near, err := l.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", l.to)
		if err != nil {
			_ = near.Close()
			continue
		}
		l.mu.Lock()
		l.ends = append(l.ends, near, far)
		l.mu.Unlock()
		l.work.Go(func() { l.carry(near, far) })
		l.work.Go(func() { l.carry(far, near) })
	}
}

func (l *line) carry(from, to net.Conn) {
	defer to.Close()
	buffer := make([]byte, 1<<16)
	for {
		n, err := from.Read(buffer)
		l.mu.Lock()
		if !l.quiet {
			_, _ = to.Write(buffer[:n])
		}
		l.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// cut ends the connections.
func (l *line) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.ends {
		_ = c.Close()
	}
}

// hush has nothing come through any more, and says nothing.
func (l *line) hush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.quiet = true
}

// A connection ends well only if the broker has confirmed its end: else nobody knows
// whether it has had the acknowledgements.
func TestCloseTells(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		end  func(*line)
		want error
	}{
		"well": {func(*line) {}, nil}, "cut": {(*line).cut, navvy.ErrUnavailable}, "silent": {(*line).hush, navvy.ErrUnavailable},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			u, err := url.Parse(broker(t).URL(fresh()))
			if err != nil {
				t.Fatal(err)
			}
			l := newLine(t, u.Host)
			u.Host = l.Addr().String()
			dial, err := rabbitqueue.Driver(u, &driver.Options{Lease: time.Minute, Outstanding: 1, Create: true})
			if err != nil {
				t.Fatal(err)
			}
			q, err := dial(within(t))
			if err != nil {
				t.Fatal(err)
			}
			if errs := q.Send(within(t), []*driver.Message{{ID: "x", Body: []byte("x")}}); errs != nil {
				t.Fatal(errs)
			}
			ds, err := q.Receive(within(t), 1)
			if err != nil || len(ds) != 1 {
				t.Fatal(ds, err)
			}
			if errs := q.Ack(within(t), ds); errs != nil {
				t.Fatal(errs)
			}
			c.end(l)
			if err := q.Close(); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
}
