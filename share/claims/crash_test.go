package claims_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/navvy-run/navvy/queue"
	"github.com/navvy-run/navvy/queue/driver"
	"github.com/navvy-run/navvy/queue/drivertest"
	"github.com/navvy-run/navvy/queue/redisqueue"
	"github.com/navvy-run/navvy/queue/redisqueue/redistest"
	"github.com/navvy-run/navvy/share"
	"github.com/navvy-run/navvy/share/claims"
)

// childVariable makes the test's program one that is killed: at what step, with which
// queue, and which directory.
const childVariable = "NAVVY_CLAIMS_TEST_KILL"

// fatal is a place that kills this process at a step.
type fatal struct {
	queue.Claims
	step string
}

func (f *fatal) die(step string) {
	if f.step == step {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}

func (f *fatal) Put(ctx context.Context, name string, body []byte) error {
	defer f.die("put")
	return f.Claims.Put(ctx, name, body)
}

func (f *fatal) Remove(ctx context.Context, name string) error {
	f.die("remove")
	return f.Claims.Remove(ctx, name)
}

var crashBody = bytes.Repeat([]byte("crash\xff"), 50_000)

func openRedis(ctx context.Context, at string, c queue.Claims) (*queue.Queue, error) {
	return queue.Open(ctx, at, map[string]driver.Driver{"redis": redisqueue.Driver}, &queue.Options{Lease: 2 * time.Second, Claims: c, ClaimOver: 1000})
}

// child sends a message if it is to die between its body and it, else it receives one and
// acknowledges it.
func child() {
	ctx := context.Background()
	words := strings.Fields(os.Getenv(childVariable))
	s, err := share.OpenDir(words[2])
	if err == nil {
		var place *claims.Place
		if place, err = claims.Open(ctx, s, ""); err == nil {
			err = (&fatal{place, words[0]}).live(ctx, words[1])
		}
	}
	fmt.Fprintln(os.Stderr, "it lives:", err)
	os.Exit(1)
}

func (f *fatal) live(ctx context.Context, at string) error {
	q, err := openRedis(ctx, at, f)
	if err != nil {
		return err
	}
	if f.step == "put" {
		return q.Send(ctx, queue.Message{ID: "never", Body: crashBody})
	}
	leases, err := q.Receive(ctx, 1)
	if err != nil {
		return err
	}
	if _, err := leases[0].Body(ctx); err != nil {
		return err
	}
	f.die("body")
	return leases[0].Ack(ctx)
}

// Whoever is killed between any two steps leaves a body that nobody wants, and never a
// message without its body.
func TestKilled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	place := open(t, "file://"+dir, "", nil)
	at := "redis://" + redistest.Start(t).Addr + "/crash?envelope=json"
	q, err := openRedis(t.Context(), at, place)
	if err != nil {
		t.Fatal(err)
	}
	send := func() {
		t.Helper()
		if err := q.Send(t.Context(), queue.Message{ID: "whole", Body: crashBody}); err != nil {
			t.Fatal(err)
		}
	}
	kill := func(step string, left int) {
		t.Helper()
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childVariable+"="+strings.Join([]string{step, at, dir}, " "))
		out, err := cmd.CombinedOutput()
		if state, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || state.Signal() != syscall.SIGKILL {
			t.Fatalf("%s: %v: %s", step, err, out)
		}
		if n := len(files(t, dir)); n != left {
			t.Errorf("%s: %d bodies are there, want %d", step, n, left)
		}
	}
	nothing := func() {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 6*time.Second) // some leases
		defer cancel()
		if leases, err := q.Receive(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%d messages, %v", len(leases), err)
		}
	}
	kill("put", 1)
	nothing()
	send()
	kill("body", 2) // the message comes again, when its lease is over
	ctx, cancel := context.WithTimeout(t.Context(), drivertest.Patience)
	defer cancel()
	leases, err := q.Receive(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	if l := leases[0]; l.ID() != "whole" || l.Attempt() != 2 || !bytes.Equal(drivertest.Body(t, l), crashBody) {
		t.Errorf("message %s, attempt %d", l.ID(), l.Attempt())
	}
	if err := leases[0].Nack(ctx, 0); err != nil {
		t.Fatal(err)
	}
	kill("remove", 2)
	nothing()
	if err := q.Close(ctx); err != nil {
		t.Error(err)
	}
}
