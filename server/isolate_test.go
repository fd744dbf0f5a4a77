package server

import (
	"context"
	"errors"
	"strings"
	"testing"

	"google.golang.org/grpc"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/api"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
	"github.com/navvy-run/navvy/policy"
	"github.com/navvy-run/navvy/server/auth"
)

// What a job may say about its isolation, and what becomes of it.
const (
	says, not, nothing   = "isolated", "not isolated", "nothing"
	asked, unasked, none = "isolated, as asked for", "isolated by default", "not isolated"
)

// scripted is a call whose client gives all messages at once.
type scripted struct {
	grpc.ServerStream
	ctx  context.Context //nolint:containedctx // of the call, as grpc has it
	in   []*navvyv1.SubmitRequest
	told []*navvyv1.SubmitResponse
}

func (s *scripted) Context() context.Context { return s.ctx }

func (s *scripted) Recv() (*navvyv1.SubmitRequest, error) {
	if len(s.in) == 0 {
		<-s.ctx.Done()
		return nil, s.ctx.Err()
	}
	m := s.in[0]
	s.in = s.in[1:]
	return m, nil
}

func (s *scripted) Send(m *navvyv1.SubmitResponse) error {
	s.told = append(s.told, m)
	return nil
}

// submitted is the spec of a job as it is kept, if it is.
func submitted(t *testing.T, s *jobs, who auth.Identity, spec *navvyv1.Spec) (navvy.Spec, error) {
	t.Helper()
	ctx, cancel := context.WithCancel(auth.With(t.Context(), who))
	defer cancel()
	stream := &scripted{ctx: ctx, in: []*navvyv1.SubmitRequest{
		{Part: &navvyv1.SubmitRequest_Header{Header: &navvyv1.SubmitHeader{Job: &navvyv1.Job{Spec: spec, Detached: true}}}},
		{Part: &navvyv1.SubmitRequest_Inputs{Inputs: &navvyv1.Inputs{Inputs: [][]byte{[]byte("a")}}}},
		{Part: &navvyv1.SubmitRequest_Seal{Seal: &navvyv1.Seal{}}},
	}}
	if err := s.Submit(stream); err != nil {
		return navvy.Spec{}, api.FromWire(err)
	}
	for _, m := range stream.told {
		if id := m.GetAccepted().GetId(); id != "" {
			job, _, err := s.mgr.Job(ctx, navvy.JobID(id))
			if err != nil {
				t.Fatal(err)
			}
			return job.Spec, nil
		}
	}
	t.Fatal("the job is neither accepted nor refused")
	return navvy.Spec{}, nil
}

// Jobs of users that come over the network are isolated, unless the policy says
// otherwise; what is required cannot be chosen.
func TestIsolationByDefault(t *testing.T) {
	t.Parallel()
	user, admin := auth.Identity{Name: "ann", Role: auth.RoleUser}, auth.Identity{Name: "bob", Role: auth.RoleAdmin}
	local := auth.Identity{Name: "eve", Role: auth.RoleAdmin, Local: true}
	usual := map[string]string{says: asked, not: none, nothing: none}
	forced := map[string]string{says: asked, not: "", nothing: unasked}
	chosen := map[string]string{says: asked, not: none, nothing: unasked}
	required := map[string]string{says: asked, not: "", nothing: asked}
	for name, c := range map[string]struct {
		policy string
		who    auth.Identity
		want   map[string]string
		why    string // part of the refusal
	}{
		"user":           {"", user, forced, `role admin may do without it, and whoever runs the server can let others choose, by a policy with "isolate: choose"`},
		"admin":          {"", admin, usual, ""},
		"local":          {"", local, usual, ""},
		"user, silent":   {"roles: {user: {ceilings: {cpus: 1}}}", user, forced, "; role admin may ask for it, and who may write p.yaml can change that"},
		"user, on":       {"roles: {user: {isolate: on}, admin: {isolate: on}}", user, forced, "; who may write p.yaml can change that"},
		"user, choose":   {"roles: {user: {isolate: choose}}", user, chosen, ""},
		"user, off":      {"roles: {user: {isolate: off}}", user, usual, ""},
		"user, required": {"roles: {user: {isolate: off, require: {isolate: true}}}", user, required, "not optional for jobs of role user"},
		"admin, on":      {"roles: {admin: {isolate: on}}", admin, forced, "not optional for jobs of role admin; who may write"},
		"admin, choose":  {"roles: {admin: {isolate: choose}}", admin, chosen, ""},
		"local user":     {"local: user\nroles: {user: {isolate: on}}", local, usual, ""},
		"local required": {"local: user\nroles: {user: {require: {isolate: true}}}", local, required, "not optional for jobs of role user"},
	} {
		for say, want := range c.want {
			t.Run(name+" says "+say, func(t *testing.T) {
				t.Parallel()
				s := newJobs(t)
				if c.policy != "" {
					var err error
					if s.opts.Policy, err = policy.Parse("p.yaml", []byte(c.policy)); err != nil {
						t.Fatal(err)
					}
				}
				spec := &navvyv1.Spec{Kind: &navvyv1.Spec_Command{Command: &navvyv1.Command{Args: [][]byte{[]byte("true")}}}, IsolateByDefault: true}
				if say != nothing {
					isolate := say == says
					spec.Isolate = &isolate
				}
				got, err := submitted(t, s, c.who, spec)
				if want == "" {
					if !errors.Is(err, navvy.ErrDenied) || !strings.Contains(err.Error(), c.why) {
						t.Errorf("it is told %v", err)
					}
					return
				}
				if err != nil || got.Isolate != (want != none) || got.IsolateByDefault != (want == unasked) {
					t.Errorf("isolated %t, by default %t, %v; want it %s", got.Isolate, got.IsolateByDefault, err, want)
				}
			})
		}
	}
}

// Work that is no process needs no isolation.
func TestNoopsAreNotIsolated(t *testing.T) {
	t.Parallel()
	got, err := submitted(t, newJobs(t), auth.Identity{Name: "ann", Role: auth.RoleUser}, &navvyv1.Spec{Kind: &navvyv1.Spec_Noop{Noop: &navvyv1.Noop{}}})
	if err != nil || got.Isolate || got.IsolateByDefault {
		t.Errorf("%+v, %v", got, err)
	}
}
