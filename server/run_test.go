package server_test

import (
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/api"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/server/auth"
)

// Calls are refused that mean something this server does not know, or are more than a
// message may have.
func TestRunRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	conn := w.conn(t, "root", auth.RoleAdmin)
	later1 := api.FromJob(&navvy.Job{Spec: navvy.Spec{Noop: &navvy.Noop{}, Limits: navvy.Limits{CPUs: 1000}}})
	later1.Spec.Limits.ProtoReflect().SetUnknown(later())
	for name, m := range map[string]*navvyv1.RunRequest{
		"a later field":  {Calls: []*navvyv1.RunCall{{Job: later1}}},
		"too many calls": {Calls: make([]*navvyv1.RunCall, 1001)},
	} {
		for i := range m.Calls {
			if m.Calls[i] == nil {
				m.Calls[i] = &navvyv1.RunCall{}
			}
		}
		stream, err := navvyv1.NewJobsClient(conn).Run(t.Context())
		if err == nil {
			err = stream.Send(m)
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err == nil {
			t.Errorf("%s: it is answered", name)
		}
	}
	for job, err := range client.New(conn).Jobs(t.Context()) {
		t.Errorf("there is a job: %v, %v", job.ID, err)
	}
}

// Streams are looked at as other calls are.
func TestStreamRefusesLaterFields(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	conn := w.conn(t, "root", auth.RoleAdmin)
	id := submit(t, client.New(conn), navvy.Job{})
	req := &navvyv1.ResultsRequest{Id: string(id)}
	req.ProtoReflect().SetUnknown(later())
	stream, err := navvyv1.NewJobsClient(conn).Results(t.Context(), req)
	if err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.Unimplemented {
		t.Errorf("%v", err)
	}
}
