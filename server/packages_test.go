package server_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"google.golang.org/grpc"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/server/auth"
)

var ocr = navvy.Package{Name: "ocr", Version: "1.2"}

// withPackage is a service that has one.
func withPackage(change func(*navvy.Package)) *navvy.Service {
	p := ocr
	if change != nil {
		change(&p)
	}
	return &navvy.Service{Form: "lines:./ocr", Package: &p}
}

// putPackage gives somebody a package, which is none: the server does not look into it.
func putPackage(t *testing.T, c *client.Client, text string) string {
	t.Helper()
	f, err := c.Files().Put(t.Context(), ocr.File(), strings.NewReader(text), client.PutFileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return f.SHA256
}

// leaseService submits a job of a service, and has a worker take its one task.
func (w *world) leaseService(t *testing.T, owner *client.Client, worker *grpc.ClientConn, job navvy.Job) (*client.Workers, *client.Assignment) {
	t.Helper()
	workers := client.NewWorkers(worker)
	session, err := workers.Work(t.Context(), client.WorkerInfo{Name: "w", Kinds: []string{navvy.KindService}, Slots: 1, Abilities: []navvy.KindAbilities{
		{Kind: navvy.KindService, Enforces: []navvy.Ability{navvy.AbilityPackage, navvy.AbilityIsolate, navvy.AbilityUser}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := session.Report(nil, 1); err != nil {
		t.Fatal(err)
	}
	job.Detached = true
	if _, err := trySubmit(t.Context(), owner, job); err != nil {
		t.Fatal(err)
	}
	for {
		orders, err := session.Next()
		if err != nil {
			t.Fatal(err)
		}
		for i := range orders.Assignments {
			return workers, &orders.Assignments[i]
		}
	}
}

// refused submits what is refused.
func refused(t *testing.T, c *client.Client, s *navvy.Service, queue string, why error) {
	t.Helper()
	_, err := trySubmit(t.Context(), c, navvy.Job{Detached: true, Queue: queue, Spec: navvy.Spec{Service: s}})
	if !errors.Is(err, why) {
		t.Errorf("%+v is submitted: %v, want %v", s.Package, err, why)
	}
}

// A job has a package of its owner, as it was when the job was accepted, and no other.
func TestPackageOfJob(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	ann, bob := w.as(t, "ann", auth.RoleUser), w.as(t, "bob", auth.RoleUser)
	refused(t, ann, withPackage(nil), "", navvy.ErrNotFound)
	sum := putPackage(t, ann, "hers")
	refused(t, bob, withPackage(nil), "", navvy.ErrNotFound)
	refused(t, bob, withPackage(func(p *navvy.Package) { p.Owner = "ann" }), "", navvy.ErrInvalid)
	refused(t, ann, withPackage(func(p *navvy.Package) { p.SHA256 = strings.Repeat("0", 64) }), "", navvy.ErrConflict)
	refused(t, ann, withPackage(func(p *navvy.Package) { p.Version = "../../bob/x" }), "", navvy.ErrInvalid)

	worker := w.conn(t, "w", auth.RoleWorker)
	workers, a := w.leaseService(t, ann, worker, navvy.Job{Spec: navvy.Spec{Service: withPackage(nil)}})
	want := ocr
	want.Owner, want.SHA256 = "ann", sum
	if p := a.Job.Spec.Service.Package; p == nil || *p != want {
		t.Errorf("the worker is told of %+v, want %+v", p, want)
	}
	var got bytes.Buffer
	if err := workers.GetPackage(t.Context(), a.AttemptRef, &got); err != nil || got.String() != "hers" {
		t.Errorf("it gets %q, %v", got.String(), err)
	}
	others := client.NewWorkers(w.conn(t, "v", auth.RoleWorker))
	if err := others.GetPackage(t.Context(), a.AttemptRef, &got); !errors.Is(err, navvy.ErrLeaseLost) {
		t.Errorf("another worker asks for it: %v", err)
	}
	putPackage(t, ann, "another")
	got.Reset()
	if err := workers.GetPackage(t.Context(), a.AttemptRef, &got); !errors.Is(err, navvy.ErrConflict) || got.Len() > 0 {
		t.Errorf("it has become another: %q, %v", got.String(), err)
	}
	if err := ann.Files().Remove(t.Context(), ocr.File()); err != nil {
		t.Fatal(err)
	}
	if err := workers.GetPackage(t.Context(), a.AttemptRef, &got); !errors.Is(err, navvy.ErrNotFound) {
		t.Errorf("it was removed: %v", err)
	}
}

// The service of a queue has a package of whoever has set it: users can neither change
// what it runs, nor see it.
func TestPackageOfQueue(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	root, ann := w.as(t, "root", auth.RoleAdmin), w.as(t, "ann", auth.RoleUser)
	work := func(change func(*navvy.Package)) client.QueueChange {
		return client.QueueChange{Create: true, Work: &navvy.Spec{Service: withPackage(change)}}
	}
	putPackage(t, ann, "hers")
	if _, err := root.SetQueue(t.Context(), "scans", work(nil)); !errors.Is(err, navvy.ErrNotFound) {
		t.Errorf("a package that is not there: %v", err)
	}
	sum := putPackage(t, root, "the operator's")
	if _, err := root.SetQueue(t.Context(), "scans", work(func(p *navvy.Package) { p.Owner = "ann" })); !errors.Is(err, navvy.ErrInvalid) {
		t.Errorf("a user's package: %v", err)
	}
	if _, err := ann.SetQueue(t.Context(), "scans", work(nil)); !errors.Is(err, navvy.ErrDenied) {
		t.Errorf("a user sets it: %v", err)
	}
	q, err := root.SetQueue(t.Context(), "scans", work(nil))
	want := ocr
	want.Owner, want.SHA256 = "root", sum
	if err != nil || *q.Settings.Work.Service.Package != want {
		t.Fatalf("%+v, %v, want %+v", q.Settings.Work, err, want)
	}
	refused(t, ann, &navvy.Service{Package: &ocr}, "scans", navvy.ErrInvalid)
	workers, a := w.leaseService(t, ann, w.conn(t, "w", auth.RoleWorker), navvy.Job{Queue: "scans", Spec: navvy.Spec{Service: &navvy.Service{}}})
	if p := a.Job.Spec.Service.Package; p == nil || *p != want || a.Job.Owner != "ann" {
		t.Errorf("the worker is told of %+v, want %+v", p, want)
	}
	var got bytes.Buffer
	if err := workers.GetPackage(t.Context(), a.AttemptRef, &got); err != nil || got.String() != "the operator's" {
		t.Errorf("it gets %q, %v", got.String(), err)
	}
	if _, err := workers.StatFile(t.Context(), a.AttemptRef, ocr.File()); err != nil {
		t.Error(err)
	}
	got.Reset()
	if _, err := workers.GetFile(t.Context(), a.AttemptRef, ocr.File(), &got); err != nil || got.String() != "hers" {
		t.Errorf("a file of that name is ann's own: %q, %v", got.String(), err)
	}
}

// A job that is submitted once more under its idempotency key is the first one, whatever has
// become of its package; what names another package is another job.
func TestPackageOfRepeatedJob(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	ann, bob := w.as(t, "ann", auth.RoleUser), w.as(t, "bob", auth.RoleUser)
	sum := putPackage(t, ann, "hers")
	submit := func(c *client.Client, change func(*navvy.Package)) (navvy.JobID, error) {
		return trySubmit(t.Context(), c, navvy.Job{Detached: true, IdempotencyKey: "k", Spec: navvy.Spec{Service: withPackage(change)}})
	}
	first, err := submit(ann, nil)
	if err != nil {
		t.Fatal(err)
	}
	same := func(what string) {
		for _, change := range []func(*navvy.Package){nil, func(p *navvy.Package) { p.SHA256 = sum }, func(p *navvy.Package) { p.Owner = "ann" }} {
			if id, err := submit(ann, change); err != nil || id != first {
				t.Errorf("%s: job %s, %v, want %s", what, id, err, first)
			}
		}
	}
	same("it is there")
	putPackage(t, ann, "another")
	same("it has become another")
	if err := ann.Files().Remove(t.Context(), ocr.File()); err != nil {
		t.Fatal(err)
	}
	same("it was removed")
	if id, err := submit(ann, func(p *navvy.Package) { p.SHA256 = strings.Repeat("0", 64) }); !errors.Is(err, navvy.ErrNotFound) {
		t.Errorf("with other bytes: job %s, %v", id, err)
	}
	if id, err := submit(ann, func(p *navvy.Package) { p.Version = "1.3" }); !errors.Is(err, navvy.ErrNotFound) {
		t.Errorf("another version: job %s, %v", id, err)
	}
	if id, err := submit(bob, nil); !errors.Is(err, navvy.ErrNotFound) {
		t.Errorf("of somebody else: job %s, %v", id, err)
	}
}
