package fleet

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/manager"
	"github.com/navvy-run/navvy/worker"
)

// tells is a task that tells what it finds in its environment in a file of its attempt,
// and waits for the gate.
func tells(path string) navvy.Job {
	return script(`echo $NAVVY_ADDR $NAVVY_TASK_TOKEN > ` + path + `.tmp$$ && mv ` + path + `.tmp$$ ` + path + `.$NAVVY_ATTEMPT
		until test -e ` + path + `; do sleep 0.01; done`)
}

// hireServing is hireAt for a worker whose tasks can call.
func (s *site) hireServing(addr, name string) *crew {
	s.Helper()
	dir, err := os.MkdirTemp("", "fleet") // short enough for a socket
	s.must(err)
	s.Cleanup(func() { s.must(os.RemoveAll(dir)) })
	return s.hireWith(addr, &worker.Options{Name: name, Slots: 1, Dir: dir, TaskSocket: filepath.Join(dir, "tasks.sock")})
}

// asTask connects as the attempt of that number does.
func (s *site) asTask(path string, attempt int) *grpc.ClientConn {
	s.Helper()
	file := fmt.Sprintf("%s.%d", path, attempt)
	awaitFile(s.T, file)
	addr, token, _ := strings.Cut(lines(s.T, file)[0], " ")
	conn, err := client.DialTask(s.Context(), addr, token)
	s.must(err)
	s.Cleanup(func() { _ = conn.Close() })
	return conn
}

// watchUntilBroken watches, and gives why that ends.
func watchUntilBroken(t *testing.T, kv client.KV) (ended <-chan error) {
	t.Helper()
	told, why := make(chan struct{}), make(chan error, 1)
	go func() {
		first := sync.OnceFunc(func() { close(told) })
		for _, err := range kv.Watch(t.Context(), "", 0) {
			if first(); err != nil {
				why <- err
			}
		}
	}()
	<-told
	return why
}

// A task reaches its owner's values through its worker, also when the server was away:
// meanwhile it is told so, or waits.
func TestTaskValuesOverARestart(t *testing.T) {
	t.Parallel()
	s := newSite(t, manager.Options{Dispatch: manager.Push, Parallelism: 8})
	path, open := gate(t)
	s.hireServing(s.wire.Addr, "w1")
	c := client.New(s.dial())
	id := s.submit(c, tells(path), 1)
	kv := client.New(s.asTask(path, 1)).KV()
	_, err := kv.Put(t.Context(), "k", []byte("before"), client.PutOptions{})
	s.must(err)
	if v, err := c.KV().Get(t.Context(), "k"); err != nil || string(v.Bytes) != "before" {
		t.Errorf("its owner sees %+v, %v", v, err)
	}
	ended := watchUntilBroken(t, kv)
	s.kill()
	if err := <-ended; !errors.Is(err, navvy.ErrUnavailable) || !strings.Contains(err.Error(), "has lost its server") {
		t.Errorf("the watch ends with %v", err)
	}
	s.start()
	for {
		_, err := kv.Put(t.Context(), "k", []byte("after"), client.PutOptions{})
		if err == nil {
			break
		}
		if !errors.Is(err, navvy.ErrUnavailable) {
			t.Fatal(err)
		}
	}
	c = client.New(s.dial())
	if v, err := c.KV().Get(t.Context(), "k"); err != nil || string(v.Bytes) != "after" {
		t.Errorf("its owner sees %+v, %v", v, err)
	}
	open()
	if results, _ := s.answers(c, id); len(results) != 1 || results[0].State != navvy.Succeeded || results[0].ID.Number != 1 {
		t.Errorf("%+v", results)
	}
	if _, err := kv.Get(t.Context(), "k"); !errors.Is(err, navvy.ErrDenied) {
		t.Errorf("after its end: %v", err)
	}
}

// An attempt whose lease is lost changes nothing any more, although it still runs.
func TestTaskOfALostLease(t *testing.T) {
	t.Parallel()
	s := newSite(t, manager.Options{Dispatch: manager.Push, Parallelism: 8})
	path, open := gate(t)
	s.hireServing(s.wire.Addr, "w1")
	near := client.New(s.direct())
	id := s.submit(near, tells(path), 1)
	first := client.New(s.asTask(path, 1)).KV()
	_, err := first.Put(t.Context(), "who", []byte("first"), client.PutOptions{})
	s.must(err)
	s.wire.Part()
	s.await(near, id, "taken back", func(st *navvy.Status) bool { return st.Counts.Running == 0 })
	s.hireServing(s.wire.Past(), "w2")
	second := client.New(s.asTask(path, 2)).KV()
	_, err = second.Put(t.Context(), "who", []byte("second"), client.PutOptions{})
	s.must(err)
	s.wire.Heal()
	for {
		_, err := first.Put(t.Context(), "who", []byte("first again"), client.PutOptions{})
		if errors.Is(err, navvy.ErrLeaseLost) || errors.Is(err, navvy.ErrDenied) {
			break
		}
		if !errors.Is(err, navvy.ErrUnavailable) {
			t.Fatalf("an attempt that was lost: %v", err)
		}
	}
	if v, err := second.Get(t.Context(), "who"); err != nil || string(v.Bytes) != "second" {
		t.Errorf("there is %q, %v", v.Bytes, err)
	}
	open()
	if results, _ := s.answers(near, id); len(results) != 1 || results[0].Worker != "w2" {
		t.Errorf("%+v", results)
	}
}
