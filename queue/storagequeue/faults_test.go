package storagequeue_test

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/queue"
	"github.com/navvy-run/navvy/queue/drivertest"
	"github.com/navvy-run/navvy/queue/storagequeue/azuritetest"
)

// between stands between the driver and the emulator. What it is told to do with a request
// it does instead of passing it on, unless that gives false.
type between struct {
	*httptest.Server
	proxy   *httputil.ReverseProxy
	instead atomic.Pointer[func(http.ResponseWriter, *http.Request) bool]
}

func stand(t *testing.T, a *azuritetest.Azurite) *between {
	t.Helper()
	target, err := url.Parse(a.Endpoint())
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 100}
	b := &between{proxy: &httputil.ReverseProxy{Transport: transport, Rewrite: func(r *httputil.ProxyRequest) {
		r.Out.URL.Scheme, r.Out.URL.Host = target.Scheme, target.Host
	}}}
	b.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if instead := b.instead.Load(); instead == nil || !(*instead)(w, r) {
			b.proxy.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(func() {
		b.Close()
		transport.CloseIdleConnections()
	})
	return b
}

func (b *between) do(instead func(http.ResponseWriter, *http.Request) bool) {
	b.instead.Store(&instead)
}

// connection is a connection string that leads through here.
func (b *between) connection(a *azuritetest.Azurite) string {
	return strings.ReplaceAll(a.ConnectionString(), a.Endpoint(), b.URL+"/"+azuritetest.Account)
}

// unheard has a request done, and its answer lost.
func (b *between) unheard(t *testing.T, w http.ResponseWriter, r *http.Request) {
	t.Helper()
	b.proxy.ServeHTTP(httptest.NewRecorder(), r)
	c, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		t.Error(err)
		return
	}
	_ = c.Close() // that is the point
}

// TestUnheard loses the answer to what acknowledges a message: it was acknowledged.
func TestUnheard(t *testing.T) {
	t.Parallel()
	a := azuritetest.Start(t)
	b := stand(t, a)
	q := open(t, "azqueue:///unheard?interval=50ms", b.connection(a), nil)
	if err := q.Send(within(t), queue.Message{Body: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	l := receive(t, q)
	var lost atomic.Int32
	b.do(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodDelete || lost.Add(1) > 1 {
			return false
		}
		b.unheard(t, w, r)
		return true
	})
	if err := l.Ack(within(t)); err != nil {
		t.Error(err)
	}
	if n := lost.Load(); n != 2 {
		t.Errorf("it was deleted %d times, want twice", n)
	}
}

// TestThrottled has a service that is busy: all goes well in the end, and nothing but
// package queue tries again.
func TestThrottled(t *testing.T) {
	t.Parallel()
	a := azuritetest.Start(t)
	b := stand(t, a)
	q := open(t, "azqueue:///throttled?interval=50ms", b.connection(a), nil)
	var busy atomic.Int32
	b.do(func(w http.ResponseWriter, _ *http.Request) bool {
		if busy.Add(1)%4 == 0 {
			return false
		}
		w.Header().Set("x-ms-error-code", "ServerBusy")
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
	if err := q.Send(within(t), queue.Message{Body: []byte("patience")}); err != nil {
		t.Fatal(err)
	}
	l := receive(t, q)
	if string(drivertest.Body(t, l)) != "patience" {
		t.Errorf("received %q", drivertest.Body(t, l))
	}
	if err := l.Ack(within(t)); err != nil {
		t.Error(err)
	}
	if n := busy.Load(); n != 12 {
		t.Errorf("%d requests, want 3 calls of 4 each", n)
	}
}

// held keeps the answers to those who ask for messages until it is let go.
func (b *between) held() (asked <-chan bool, let func()) {
	waiting, free := make(chan bool, 100), make(chan bool)
	b.do(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet {
			return false
		}
		answer := httptest.NewRecorder()
		b.proxy.ServeHTTP(answer, r.WithContext(context.WithoutCancel(r.Context())))
		waiting <- true
		<-free
		maps.Copy(w.Header(), answer.Header())
		w.WriteHeader(answer.Code)
		_, _ = w.Write(answer.Body.Bytes()) // whether anybody reads it is what is tested
		return true
	})
	return waiting, sync.OnceFunc(func() { close(free) })
}

// TestCancelled ends a wait when the answer is on its way: its messages are not lost.
func TestCancelled(t *testing.T) {
	t.Parallel()
	a := azuritetest.Start(t)
	b := stand(t, a)
	q := open(t, "azqueue:///cancelled", b.connection(a), nil)
	if err := q.Send(within(t), queue.Message{Body: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	asked, let := b.held()
	defer let()
	ctx, cancel := context.WithCancel(within(t))
	go func() {
		<-asked
		cancel()
		let()
	}()
	leases, err := q.Receive(ctx, 1)
	if err != nil || len(leases) != 1 {
		t.Fatalf("%d messages, %v", len(leases), err)
	}
	if err := leases[0].Ack(within(t)); err != nil {
		t.Error(err)
	}
}

// TestClosed closes a queue when an answer is on its way: its messages go back at once.
func TestClosed(t *testing.T) {
	t.Parallel()
	a := azuritetest.Start(t)
	b := stand(t, a)
	const u = "azqueue:///closed?interval=50ms"
	q, err := tryOpen(within(t), u, b.connection(a), &queue.Options{Lease: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if err := q.Send(within(t), queue.Message{Body: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	asked, let := b.held()
	defer let()
	received := make(chan error, 1)
	go func() {
		leases, err := q.Receive(within(t), 1)
		if len(leases) > 0 {
			t.Errorf("%d messages of a queue that is closed", len(leases))
		}
		received <- err
	}()
	<-asked
	stop := time.AfterFunc(100*time.Millisecond, let) // when Close waits for it, or has not begun
	defer stop.Stop()
	if err := q.Close(within(t)); err != nil {
		t.Error(err)
	}
	if err := <-received; !errors.Is(err, navvy.ErrClosed) {
		t.Errorf("who waits: %v", err)
	}
	if l := receive(t, open(t, u, a.ConnectionString(), nil)); l.Attempt() != 2 {
		t.Errorf("attempt %d", l.Attempt())
	}
}

// TestIdle has many wait for an empty queue: it is asked no more often than for one.
func TestIdle(t *testing.T) {
	t.Parallel()
	const receivers, interval = 8, 100 * time.Millisecond
	a := azuritetest.Start(t)
	b := stand(t, a)
	q := open(t, "azqueue:///idle?interval="+interval.String(), b.connection(a), nil)
	var asked atomic.Int64
	b.do(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodGet {
			asked.Add(1)
		}
		return false
	})
	begun := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 20*interval)
	defer cancel()
	var all sync.WaitGroup
	for range receivers {
		all.Go(func() {
			if _, err := q.Receive(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("receive: %v", err)
			}
		})
	}
	all.Wait()
	// Each asks once when it comes, and one in each interval from then on.
	most := receivers + int64(time.Since(begun)/interval) + 1
	if n := asked.Load(); n < receivers || n > most {
		t.Errorf("the queue was asked %d times, want %d to %d", n, receivers, most)
	}
}
