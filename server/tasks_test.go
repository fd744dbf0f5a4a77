package server_test

import (
	"context"
	"crypto/tls"
	"errors"
	"iter"
	"testing"

	"google.golang.org/grpc"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/api"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/server/auth"
)

// leasing is a worker that has been given an attempt.
type leasing struct {
	*client.Session
	rpc navvyv1.TaskKVClient
	ref client.AttemptRef
}

// lease submits a job of somebody, and has a worker take its one task.
func (w *world) lease(t *testing.T, owner *client.Client, worker *grpc.ClientConn) leasing {
	t.Helper()
	session, err := client.NewWorkers(worker).Work(t.Context(), client.WorkerInfo{Name: "w", Kinds: []string{"noop"}, Slots: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := session.Report(nil, 1); err != nil { // which asks for one
		t.Fatal(err)
	}
	submit(t, owner, navvy.Job{})
	for {
		orders, err := session.Next()
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range orders.Assignments {
			return leasing{session, navvyv1.NewTaskKVClient(worker), a.AttemptRef}
		}
	}
}

// by names the attempt.
func (l *leasing) by() *navvyv1.AttemptRef { return api.FromRef(l.ref.Task, l.ref.Attempt) }

// calls makes each call in the name of the attempt, of values of the owner that is named.
func (l *leasing) calls(ctx context.Context, by *navvyv1.AttemptRef, owner string) iter.Seq2[string, error] {
	ctx, cancel := context.WithCancel(ctx)
	return func(yield func(string, error) bool) {
		defer cancel()
		_, put := l.rpc.Put(ctx, &navvyv1.TaskKVPutRequest{Attempt: by, Call: &navvyv1.PutValueRequest{Owner: owner, Key: "mine"}})
		_, get := l.rpc.Get(ctx, &navvyv1.TaskKVGetRequest{Attempt: by, Call: &navvyv1.GetValueRequest{Owner: owner, Key: "mine"}})
		_, list := l.rpc.List(ctx, &navvyv1.TaskKVListRequest{Attempt: by, Call: &navvyv1.ListValuesRequest{Owner: owner}})
		_, remove := l.rpc.Delete(ctx, &navvyv1.TaskKVDeleteRequest{Attempt: by, Call: &navvyv1.DeleteValueRequest{Owner: owner, Key: "mine"}})
		_, watch := l.watch(ctx, by, owner)
		for what, err := range map[string]error{"put": put, "get": get, "list": list, "delete": remove, "watch": watch} {
			if !yield(what, api.FromWire(err)) {
				return
			}
		}
	}
}

// watch begins a watch, which has told what there is.
func (l *leasing) watch(ctx context.Context, by *navvyv1.AttemptRef, owner string) (grpc.ServerStreamingClient[navvyv1.WatchValuesResponse], error) {
	stream, err := l.rpc.Watch(ctx, &navvyv1.TaskKVWatchRequest{Attempt: by, Call: &navvyv1.WatchValuesRequest{Owner: owner}})
	if err == nil {
		_, err = stream.Recv()
	}
	return stream, err
}

// ended is why a watch ends.
func ended(stream grpc.ServerStreamingClient[navvyv1.WatchValuesResponse]) error {
	for {
		if _, err := stream.Recv(); err != nil {
			return api.FromWire(err)
		}
	}
}

// A worker calls for the attempts that are leased to it, and has the values of their
// owner, whatever anybody says.
func TestTaskValues(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	ctx, ann := t.Context(), w.as(t, "ann", auth.RoleUser)
	l := w.lease(t, ann, w.conn(t, "w-1", auth.RoleWorker))
	for _, owner := range []string{"", "ann"} {
		for what, err := range l.calls(ctx, l.by(), owner) {
			if err != nil {
				t.Errorf("%s, of %q: %v", what, owner, err)
			}
		}
	}
	if _, err := l.rpc.Put(ctx, &navvyv1.TaskKVPutRequest{Attempt: l.by(), Call: &navvyv1.PutValueRequest{Key: "k", Value: []byte("v")}}); err != nil {
		t.Fatal(err)
	}
	if v, err := ann.KV().Get(ctx, "k"); err != nil || string(v.Bytes) != "v" {
		t.Errorf("ann sees %+v, %v", v, err)
	}
	other := l
	other.rpc = navvyv1.NewTaskKVClient(w.conn(t, "w-2", auth.RoleWorker))
	stale, unknown := l.by(), l.by()
	stale.Number++
	unknown.Job = "n145pqag9yhk"
	for _, c := range []struct {
		what  string
		l     *leasing
		by    *navvyv1.AttemptRef
		owner string
		want  error
	}{
		{"another worker", &other, l.by(), "", navvy.ErrLeaseLost},
		{"another attempt of the task", &l, stale, "", navvy.ErrLeaseLost},
		{"no such job", &l, unknown, "", navvy.ErrLeaseLost},
		{"no attempt", &l, nil, "", navvy.ErrInvalid},
		{"another owner", &l, l.by(), "bob", navvy.ErrDenied},
	} {
		for what, err := range c.l.calls(ctx, c.by, c.owner) {
			if !errors.Is(err, c.want) {
				t.Errorf("%s: %s: %v, want %v", c.what, what, err, c.want)
			}
		}
	}
}

// An administrator's task has the administrator's own values, and no rights beyond them.
func TestTaskOfAnAdmin(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	l := w.lease(t, w.as(t, "root", auth.RoleAdmin), w.conn(t, "w-1", auth.RoleWorker))
	for what, err := range l.calls(t.Context(), l.by(), "ann") {
		if !errors.Is(err, navvy.ErrDenied) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for what, err := range l.calls(t.Context(), l.by(), "") {
		if err != nil {
			t.Errorf("%s of its own: %v", what, err)
		}
	}
}

// With the attempt its right ends, and what it watches.
func TestTaskValuesEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	ann := w.as(t, "ann", auth.RoleUser)
	if _, err := ann.KV().Put(t.Context(), "k", nil, client.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	l := w.lease(t, ann, w.conn(t, "w-1", auth.RoleWorker))
	stream, err := l.watch(t.Context(), l.by(), "")
	if err != nil {
		t.Fatal(err)
	}
	report := client.Report{Task: l.ref.Task, Attempt: navvy.Attempt{ID: l.ref.Attempt, Outcome: navvy.OutcomeSucceeded}}
	if err := l.Report([]client.Report{report}, 0); err != nil {
		t.Fatal(err)
	}
	if err := ended(stream); !errors.Is(err, navvy.ErrLeaseLost) {
		t.Errorf("the watch ends with %v", err)
	}
	for what, err := range l.calls(t.Context(), l.by(), "") {
		if !errors.Is(err, navvy.ErrLeaseLost) {
			t.Errorf("afterwards: %s: %v", what, err)
		}
	}
}

// When all certificates of an owner are revoked, its tasks can do nothing any more, and
// can again when it has a new one.
func TestTaskOfARevokedOwner(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	root, ctx := w.as(t, "root", auth.RoleAdmin), t.Context()
	issue := func() *tls.Certificate {
		cert := w.cert(t, w.ca, auth.Subject{Name: "ann", Role: auth.RoleUser}, 0)
		if err := w.srv.RecordCertificate(ctx, cert.Leaf); err != nil {
			t.Fatal(err)
		}
		return cert
	}
	first, second := issue(), issue()
	conn, err := w.dial(t, first)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.New(conn).KV().Put(ctx, "k", nil, client.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	l := w.lease(t, client.New(conn), w.conn(t, "w-1", auth.RoleWorker))
	stream, err := l.watch(ctx, l.by(), "")
	if err != nil {
		t.Fatal(err)
	}
	revoke := func(serial string) {
		t.Helper()
		if _, err := root.Revoke(ctx, client.RevokeOptions{Serial: serial}); err != nil {
			t.Fatal(err)
		}
	}
	revoke(serial(first))
	for what, err := range l.calls(ctx, l.by(), "") {
		if err != nil {
			t.Errorf("one of two is revoked: %s: %v", what, err)
		}
	}
	revoke(serial(second))
	if err := ended(stream); !errors.Is(err, navvy.ErrDenied) {
		t.Errorf("the watch ends with %v", err)
	}
	for what, err := range l.calls(ctx, l.by(), "") {
		if !errors.Is(err, navvy.ErrDenied) {
			t.Errorf("both are revoked: %s: %v", what, err)
		}
	}
	issue()
	for what, err := range l.calls(ctx, l.by(), "") {
		if err != nil {
			t.Errorf("with a new one: %s: %v", what, err)
		}
	}
}
