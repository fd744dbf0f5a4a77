package holder

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/engine"
	"github.com/navvy-run/navvy/engine/driver"
	"github.com/navvy-run/navvy/engine/memory"
	"github.com/navvy-run/navvy/server/auth"
)

// fullStore is a store whose disk can be full: Apply then waits for space, the
// end of its context, or Close.
type fullStore struct {
	*memory.Store
	full    atomic.Bool
	waiting chan struct{} // told of each Apply that waits
	space   chan struct{} // closed when there is space again
	closed  chan struct{}
}

func (s *fullStore) Apply(ctx context.Context, b *driver.Batch) error {
	if s.full.Load() {
		select {
		case s.waiting <- struct{}{}:
		default:
		}
		select {
		case <-s.space:
		case <-s.closed:
			return navvy.ErrClosed
		case <-ctx.Done():
			return errors.Join(navvy.ErrUnavailable, ctx.Err())
		}
	}
	return s.Store.Apply(ctx, b)
}

func (s *fullStore) Close() error {
	close(s.closed)
	return s.Store.Close()
}

// tightStore is a store that has so many bytes left.
type tightStore struct {
	*memory.Store
	free atomic.Uint64
}

func (s *tightStore) Info() driver.Info {
	return driver.Info{Kind: "tight", Place: "nowhere", Free: func() (uint64, error) { return s.free.Load(), nil }}
}

// While less is free than is kept for answers, all say what submits are told: the
// readiness, the metric and the overview; and a server that starts so says it at once.
func TestLittleSpace(t *testing.T) {
	t.Parallel()
	ca, _, err := auth.OpenAuthority(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	own := issue(t, ca, auth.Subject{Name: "server", Server: true, Hosts: []string{"127.0.0.1"}})
	cfg := testConfig(t)
	store := &tightStore{Store: memory.New()}
	cfg.OpenStore = func(context.Context, func(bool), func(error)) (driver.Store, error) { return store, nil }
	cfg.Serving = &Serving{Listen: "127.0.0.1:0", Authority: ca, Certificate: auth.Fixed(own), Pool: ca.Pool(), HTTP: HTTPOptions{Health: "127.0.0.1:0"}}
	log := &logText{}
	cfg.Logger = slog.New(slog.NewTextHandler(log, nil))
	h, _ := start(t, cfg)
	c := client.New(h.Conn())
	for _, free := range []uint64{0, engine.DefaultReserve - 1, engine.DefaultReserve} {
		store.free.Store(free)
		little := free < engine.DefaultReserve
		if err := h.Ready(); (err != nil) != little {
			t.Errorf("%d bytes are free: ready: %v", free, err)
		}
		page := numbers(t, h)
		if has := strings.Contains(page, "\nnavvy_ready 0\n"); has != little {
			t.Errorf("%d bytes are free: navvy_ready is 0: %v", free, has)
		}
		o, err := c.Overview(t.Context())
		if err != nil || o.GetFull() != little || o.Free == nil || o.GetFree() != free {
			t.Errorf("%d bytes are free: %v, %v", free, o, err)
		}
		if err := told(t, c); little && !errors.Is(err, navvy.ErrExhausted) || !little && err != nil {
			t.Errorf("%d bytes are free: a submit is told: %v", free, err)
		}
	}
	if !strings.Contains(log.String(), `level=WARN msg="the disk is nearly full: new jobs are refused"`) {
		t.Errorf("the log says nothing of the disk:\n%s", log)
	}
}

// told is what somebody is told who submits a job.
func told(t *testing.T, c *client.Client) error {
	t.Helper()
	sub, err := c.Submit(t.Context(), navvy.Job{Detached: true, Spec: navvy.Spec{Noop: &navvy.Noop{}}}, client.SubmitOptions{})
	if err != nil {
		return err
	}
	defer sub.Close()
	_ = errors.Join(sub.Send(inputs("x")), sub.Seal()) // why not, Accepted says
	_, _, err = sub.Accepted(t.Context())
	return err
}

// numbers are the metrics of a server.
func numbers(t *testing.T, h *Holder) string {
	t.Helper()
	defer http.DefaultClient.CloseIdleConnections()
	resp, err := http.Get("http://" + h.healthAddr.String() + metricsPath)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// logText is a log that can be read while it is written.
type logText struct {
	mu  sync.Mutex
	all strings.Builder
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(p)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.String()
}

// A holder on a full disk leaves when its context ends, whatever waits for space.
func TestCloseOnFullDisk(t *testing.T) {
	t.Parallel()
	for name, write := range map[string]func(t *testing.T, h *Holder, fill func()){
		"an answer": func(t *testing.T, h *Holder, fill func()) {
			c, gate := client.New(h.Conn()), t.TempDir()+"/gate"
			id := submit(t, c, navvy.Job{Detached: true, Spec: shell("until test -e " + gate + "; do sleep 0.01; done")}, "x")
			awaitStatus(t, c, id, func(st *navvy.Status) bool { return st.Counts.Running == 1 })
			fill()
			touch(t, gate)
		},
		"a call": func(t *testing.T, h *Holder, fill func()) {
			c := client.New(dial(t, h.cfg.Dir))
			id := submit(t, c, navvy.Job{Detached: true, Spec: navvy.Spec{Noop: &navvy.Noop{}}}, "x")
			if _, err := c.Wait(t.Context(), id); err != nil {
				t.Fatal(err)
			}
			fill()
			called := make(chan struct{})
			go func() {
				defer close(called)
				if err := c.Printed(t.Context(), id, nil); err == nil {
					t.Error("it was written on a full disk")
				}
			}()
			t.Cleanup(func() { <-called })
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := testConfig(t)
			store := &fullStore{Store: memory.New(), waiting: make(chan struct{}, 1), space: make(chan struct{}), closed: make(chan struct{})}
			cfg.OpenStore = func(context.Context, func(bool), func(error)) (driver.Store, error) { return store, nil }
			lock, _, err := cfg.Dir.TryLock()
			if err != nil {
				t.Fatal(err)
			}
			h, err := Start(t.Context(), lock, cfg)
			if err != nil {
				t.Fatal(err)
			}
			write(t, h, func() { store.full.Store(true) })
			<-store.waiting
			closed := make(chan struct{})
			go func() {
				defer close(closed)
				ctx, cancel := context.WithCancel(context.Background())
				cancel()
				_, _ = h.Close(ctx, true) // what it could not do any more is no matter here
			}()
			select {
			case <-closed:
			case <-time.After(20 * time.Second):
				t.Error("it waits for space although it must leave")
				close(store.space)
				<-closed
			}
			again, pid, err := cfg.Dir.TryLock()
			if err != nil || again == nil {
				t.Fatalf("the lock is held by %d: %v", pid, err)
			}
			if err := again.Unlock(); err != nil {
				t.Error(err)
			}
		})
	}
}
