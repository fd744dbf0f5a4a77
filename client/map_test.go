package client_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/output"
)

func sh(name, line string) navvy.Job {
	return navvy.Job{Name: name, Spec: navvy.Spec{Command: &navvy.Command{Args: []string{"sh", "-c", line}}}}
}

// newest gives the newest job of that name.
func newest(t *testing.T, c *client.Client, name string) client.Job {
	t.Helper()
	for job, err := range c.Jobs(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if job.Name == name {
			return job
		}
	}
	t.Fatalf("there is no job %s", name)
	return client.Job{}
}

// Each input has its answer, in order or as they come, also more than go into one message.
func TestMap(t *testing.T) {
	t.Parallel()
	c, done := dial(t.Context())
	defer done()
	const n = 600
	numbers := func(yield func([]byte) bool) {
		for i := range n {
			if !yield([]byte(strconv.Itoa(i))) {
				return
			}
		}
	}
	for _, o := range []client.MapOptions{{Inputs: true}, {Inputs: true, AsCompleted: true}} {
		seen := map[string]int{}
		for a, err := range c.Map(t.Context(), navvy.Job{Spec: navvy.Spec{Command: &navvy.Command{Args: []string{"true"}}}}, numbers, o) {
			if err != nil {
				t.Fatal(err)
			}
			if !o.AsCompleted && a.Task.Index != int64(len(seen)) {
				t.Fatalf("answer %d is of task %d", len(seen), a.Task.Index)
			}
			if string(a.Input) != strconv.FormatInt(a.Task.Index, 10) {
				t.Fatalf("the input of task %d is %q", a.Task.Index, a.Input)
			}
			seen[string(a.Input)]++
		}
		if len(seen) != n {
			t.Errorf("%d inputs have answers, want %d (%+v)", len(seen), n, o)
		}
	}
}

// Who leaves the loop stops the job.
func TestMapLeft(t *testing.T) {
	t.Parallel()
	c, done := dial(t.Context())
	defer done()
	for _, err := range c.Map(t.Context(), sh("left", "test {} = 0 || exec sleep 3600"), words("0", "1", "2"), client.MapOptions{}) {
		if err != nil {
			t.Error(err)
		}
		break
	}
	job := newest(t, c, "left")
	if st, err := c.Wait(t.Context(), job.ID); err != nil || st.State() != navvy.Stopped {
		t.Errorf("its job is %s: %v", st.State(), err)
	}
}

// When ctx ends, so do the job and the loop, also while it waits for an input.
func TestMapCancelled(t *testing.T) {
	t.Parallel()
	c, done := dial(t.Context())
	defer done()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	slow := func(yield func([]byte) bool) {
		if yield([]byte("first")) {
			<-ctx.Done()
		}
	}
	var last error
	answers := 0
	for _, err := range c.Map(ctx, sh("cancelled", "echo {}"), slow, client.MapOptions{}) {
		if last = err; err == nil {
			answers++
			cancel()
		}
	}
	if !errors.Is(last, context.Canceled) || answers != 1 {
		t.Errorf("after %d answers it ends with %v", answers, last)
	}
	job := newest(t, c, "cancelled")
	if st, err := c.Wait(t.Context(), job.ID); err != nil || st.Open || st.Held {
		t.Errorf("its job is %+v: %v", st, err)
	}
}

// What is wrong with the job, or that somebody else has stopped it, is the last error.
func TestMapErrors(t *testing.T) {
	t.Parallel()
	c, done := dial(t.Context())
	defer done()
	last := func(job navvy.Job, each func(), list ...string) (err error) {
		for _, err = range c.Map(t.Context(), job, words(list...), client.MapOptions{}) {
			each()
		}
		return err
	}
	if err := last(sh("none", "true"), func() {}); !errors.Is(err, navvy.ErrInvalid) {
		t.Errorf("no inputs: %v", err)
	}
	if _, err := c.Start(t.Context(), sh("none", "true"), words()); !errors.Is(err, navvy.ErrInvalid) {
		t.Errorf("no inputs of a job that is left: %v", err)
	}
	if err := last(navvy.Job{Name: "odd"}, func() {}, "a"); !errors.Is(err, navvy.ErrInvalid) {
		t.Errorf("a job of no kind: %v", err)
	}
	stop := func() {
		if _, err := c.Stop(t.Context(), newest(t, c, "stopped").ID, "enough"); err != nil {
			t.Error(err)
		}
	}
	if err := last(sh("stopped", "test {} = 0 || exec sleep 3600"), stop, "0", "1"); !errors.Is(err, navvy.ErrClosed) {
		t.Errorf("stopped by somebody else: %v", err)
	}
}

// What an attempt wrote is read whole, also where it is long, and chunk by chunk.
func TestRead(t *testing.T) {
	t.Parallel()
	c, done := dial(t.Context())
	defer done()
	const size = 300_000
	for a, err := range c.Map(t.Context(), sh("long", fmt.Sprintf("head -c %d /dev/zero; echo x >&2", size)), words("a"), client.MapOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		long, err := c.Read(t.Context(), &a, output.Stdout)
		if err != nil || len(long) != size {
			t.Errorf("%d bytes, %v", len(long), err)
		}
		if short, err := c.Read(t.Context(), &a, output.Stderr); err != nil || string(short) != "x\n" {
			t.Errorf("%q, %v", short, err)
		}
		for chunk, err := range c.Chunks(t.Context(), a.Task, client.OutputOptions{}) {
			if err != nil || chunk.Attempt != a.ID || len(chunk.Bytes) == 0 {
				t.Errorf("chunk %+v, %v", chunk.Attempt, err)
			}
			break
		}
	}
}
