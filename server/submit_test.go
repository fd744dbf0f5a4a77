package server

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/api"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
	"github.com/navvy-run/navvy/engine"
	"github.com/navvy-run/navvy/engine/memory"
	"github.com/navvy-run/navvy/manager"
	"github.com/navvy-run/navvy/server/auth"
)

// newJobs is a server of jobs that nobody runs.
func newJobs(t *testing.T) *jobs {
	t.Helper()
	store := memory.New()
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	eng, err := engine.Open(t.Context(), store, nil)
	if err != nil {
		t.Fatal(err)
	}
	return &jobs{Server: New(manager.New(eng, nil), eng, nil)}
}

// submitter is a call of Submit, whose end can be waited for.
type submitter struct {
	grpc.ServerStream
	ctx  context.Context //nolint:containedctx // of the call, as grpc has it
	in   chan *navvyv1.SubmitRequest
	out  chan *navvyv1.SubmitResponse
	gone func() // the client leaves; returns when the server knows
	over chan struct{}
	err  error // of the call; good when over is closed
}

func (s *submitter) Context() context.Context { return s.ctx }

func (s *submitter) Recv() (*navvyv1.SubmitRequest, error) {
	select {
	case m := <-s.in:
		return m, nil
	case <-s.ctx.Done():
		return nil, io.EOF
	}
}

func (s *submitter) Send(m *navvyv1.SubmitResponse) error {
	select {
	case s.out <- m:
		return nil
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}

// newSubmitter begins to submit a job of one input, up to its seal.
func newSubmitter(t *testing.T, s *jobs, job *navvy.Job) *submitter {
	t.Helper()
	ctx, cancel := context.WithCancel(auth.With(t.Context(), auth.Identity{Name: "ann", Role: auth.RoleUser}))
	c := &submitter{ctx: ctx, in: make(chan *navvyv1.SubmitRequest), out: make(chan *navvyv1.SubmitResponse), over: make(chan struct{})}
	go func() {
		defer close(c.over)
		c.err = s.Submit(c)
	}()
	c.gone = sync.OnceFunc(func() {
		cancel()
		<-c.over
	})
	t.Cleanup(c.gone)
	c.in <- &navvyv1.SubmitRequest{Part: &navvyv1.SubmitRequest_Header{Header: &navvyv1.SubmitHeader{Job: api.FromJob(job)}}}
	<-c.out // it may send inputs
	c.in <- &navvyv1.SubmitRequest{Part: &navvyv1.SubmitRequest_Inputs{Inputs: &navvyv1.Inputs{Inputs: [][]byte{[]byte("a")}}}}
	return c
}

func (s *submitter) seal() *navvyv1.Accepted {
	s.in <- &navvyv1.SubmitRequest{Part: &navvyv1.SubmitRequest_Seal{Seal: &navvyv1.Seal{}}}
	return (<-s.out).GetAccepted()
}

// Of two who submit with one key at once, both wait for the one job: it is held
// when the last of them has left, and not before.
func TestLateExistsStays(t *testing.T) {
	t.Parallel()
	for name, firstLeaves := range map[string]bool{"the first leaves first": true, "the second leaves first": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newJobs(t)
			job := &navvy.Job{IdempotencyKey: "k", Spec: navvy.Spec{Noop: &navvy.Noop{}}}
			first, second := newSubmitter(t, s, job), newSubmitter(t, s, job)
			made, late := first.seal(), second.seal()
			if made.GetExisted() || !late.GetExisted() || made.GetId() != late.GetId() {
				t.Fatalf("the first is told %v, the second %v", made, late)
			}
			held := func() bool {
				_, st, err := s.mgr.Job(t.Context(), navvy.JobID(made.GetId()))
				if err != nil {
					t.Fatal(err)
				}
				return st.Held
			}
			if !firstLeaves {
				first, second = second, first
			}
			first.gone()
			if held() {
				t.Error("the job is held, and somebody waits for it")
			}
			second.gone()
			if !held() {
				t.Error("nobody waits for the job, and it is not held")
			}
		})
	}
}

// A key that is given again with another command is refused, also when both
// submit at once, and the first job goes on.
func TestKeyOfAnotherCommand(t *testing.T) {
	t.Parallel()
	s := newJobs(t)
	run := func(line string) *navvy.Job {
		return &navvy.Job{IdempotencyKey: "k", Spec: navvy.Spec{Command: &navvy.Command{Args: []string{line}, Shell: true, Dir: "/"}}}
	}
	first, second := newSubmitter(t, s, run("echo 1")), newSubmitter(t, s, run("echo 2"))
	made := first.seal()
	second.in <- &navvyv1.SubmitRequest{Part: &navvyv1.SubmitRequest_Seal{Seal: &navvyv1.Seal{}}}
	<-second.over
	if err := api.FromWire(second.err); !errors.Is(err, navvy.ErrConflict) || !strings.Contains(err.Error(), made.GetId()+`, which does something else: "echo 1"`) {
		t.Errorf("the second is told %v", err)
	}
	_, st, err := s.mgr.Job(t.Context(), navvy.JobID(made.GetId()))
	if err != nil || st.Held {
		t.Errorf("the first job is held: %t, %v", st.Held, err)
	}
}
