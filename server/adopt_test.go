package server

import (
	"context"
	"io"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/api"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
	"github.com/navvy-run/navvy/server/auth"
)

// running is a stream of calls.
type running struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // of the call, as grpc has it
	in  chan *navvyv1.RunRequest
	out chan *navvyv1.RunResponse
}

func (r *running) Context() context.Context { return r.ctx }

func (r *running) Recv() (*navvyv1.RunRequest, error) {
	select {
	case m, ok := <-r.in:
		if !ok {
			return nil, io.EOF
		}
		return m, nil
	case <-r.ctx.Done():
		return nil, r.ctx.Err()
	}
}

func (r *running) Send(m *navvyv1.RunResponse) error {
	select {
	case r.out <- m:
		return nil
	case <-r.ctx.Done():
		return r.ctx.Err()
	}
}

// newRunning opens a stream of calls, which over tells the end of.
func newRunning(t *testing.T, s *jobs) (r *running, over <-chan error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(auth.With(t.Context(), auth.Identity{Name: "ann", Role: auth.RoleUser}), time.Minute)
	r = &running{ctx: ctx, in: make(chan *navvyv1.RunRequest), out: make(chan *navvyv1.RunResponse)}
	end, ended := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(ended)
		end <- s.Run(r)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return r, end
}

// call makes n calls with numbers as of the first, which wait for one job.
func (r *running) call(first, n int, key string) {
	job := api.FromJob(&navvy.Job{IdempotencyKey: key, Spec: navvy.Spec{Noop: &navvy.Noop{}}})
	m := &navvyv1.RunRequest{}
	for i := range n {
		m.Calls = append(m.Calls, &navvyv1.RunCall{Number: uint64(first + i), Notify: true, Job: job})
	}
	r.in <- m
}

// hear takes n answers.
func (r *running) hear(t *testing.T, n int) []*navvyv1.RunAnswer {
	t.Helper()
	var list []*navvyv1.RunAnswer
	for len(list) < n {
		select {
		case m := <-r.out:
			list = append(list, m.GetAnswers()...)
		case <-r.ctx.Done():
			t.Fatalf("%d of %d answers came", len(list), n)
		}
	}
	return list
}

// Thousands of repeated calls, which wait for jobs that nobody runs, do not keep a new
// one from being accepted, and each is answered when its job ends.
func TestRepeatedCalls(t *testing.T) {
	t.Parallel()
	const repeated, together = 3000, 500
	s := newJobs(t)
	r, over := newRunning(t, s)
	r.call(0, 1, "k")
	id := navvy.JobID(r.hear(t, 1)[0].GetId())
	for number := 1; number <= repeated; number += together {
		r.call(number, together, "k")
		for _, a := range r.hear(t, together) {
			if !a.GetAccepted() || a.GetId() != string(id) {
				t.Fatalf("a repeated call: %v", a)
			}
		}
	}
	r.call(repeated+1, 1, "other")
	other := r.hear(t, 1)[0]
	if !other.GetAccepted() || other.GetId() == string(id) {
		t.Fatalf("a new call: %v", other)
	}
	stop(t, s, id)
	seen := map[uint64]bool{}
	for _, a := range r.hear(t, repeated+1) {
		if a.GetAccepted() || a.GetStatus() == nil || a.GetId() != string(id) {
			t.Fatalf("the end of a repeated call: %v", a)
		}
		seen[a.GetNumber()] = true
	}
	if len(seen) != repeated+1 || seen[repeated+1] {
		t.Errorf("%d calls are answered", len(seen))
	}
	close(r.in)
	stop(t, s, navvy.JobID(other.GetId()))
	r.hear(t, 1)
	if err := r.end(over); err != nil {
		t.Errorf("the stream ends: %v", err)
	}
}

// end waits for the end, and takes what says that all are durable.
func (r *running) end(over <-chan error) error {
	for {
		select {
		case <-r.out:
		case err := <-over:
			return err
		}
	}
}

func stop(t *testing.T, s *jobs, id navvy.JobID) {
	t.Helper()
	if _, err := s.mgr.Stop(t.Context(), id, "enough"); err != nil {
		t.Fatal(err)
	}
}
