package server_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/engine"
	"github.com/navvy-run/navvy/server/auth"
)

// queuesOf are the queues that somebody is told of.
func queuesOf(t *testing.T, c *client.Client) (list []client.Queue) {
	t.Helper()
	for q, err := range c.Queues(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, q)
	}
	return list
}

// The settings of a queue are made and changed.
func TestQueueSettings(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	root := w.as(t, "root", auth.RoleAdmin)
	four, half, none := 4, 0.5, 0
	if _, err := root.SetQueue(t.Context(), "gpu", client.QueueChange{Concurrency: &four}); !errors.Is(err, navvy.ErrNotFound) {
		t.Errorf("settings are changed that are not there: %v", err)
	}
	if q, err := root.SetQueue(t.Context(), "gpu", client.QueueChange{Concurrency: &four, Create: true}); err != nil || q.By != "root" || q.Created.IsZero() {
		t.Fatalf("made by %q at %s: %v", q.By, q.Created, err)
	}
	if _, err := root.SetQueue(t.Context(), "gpu", client.QueueChange{Create: true}); !errors.Is(err, navvy.ErrExists) {
		t.Errorf("they are made twice: %v", err)
	}
	if _, err := root.PauseQueue(t.Context(), "gpu"); err != nil {
		t.Fatal(err)
	}
	q, err := root.SetQueue(t.Context(), "gpu", client.QueueChange{Rate: &half})
	if want := (navvy.QueueSettings{Paused: true, Concurrency: 4, Rate: 0.5}); err != nil || q.Settings != want {
		t.Errorf("a change leaves %+v, want %+v: %v", q.Settings, want, err)
	}
	push, shove := navvy.Push, navvy.Dispatch("shove")
	if _, err := root.SetQueue(t.Context(), "gpu", client.QueueChange{Dispatch: &push}); !errors.Is(err, navvy.ErrUnsupported) {
		t.Errorf("a way of dispatch where there is but one: %v", err)
	}
	if _, err := root.SetQueue(t.Context(), "gpu", client.QueueChange{Dispatch: &shove}); err == nil {
		t.Error("a way of dispatch that there is not")
	}
	if q, err = root.SetQueue(t.Context(), "gpu", client.QueueChange{Concurrency: &none}); err != nil || q.Settings.Concurrency != 0 {
		t.Errorf("a limit cannot be lifted: %+v, %v", q.Settings, err)
	}
}

// A paused queue holds its jobs back, also after a restart of the server.
func TestPausedQueue(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	root := w.as(t, "root", auth.RoleAdmin)
	rate := 0.5
	if _, err := root.SetQueue(t.Context(), "gpu", client.QueueChange{Create: true, Rate: &rate}); err != nil {
		t.Fatal(err)
	}
	if _, err := root.PauseQueue(t.Context(), "gpu"); err != nil {
		t.Fatal(err)
	}
	id := submit(t, root, navvy.Job{Queue: "gpu", Priority: 7})
	if job, err := root.Get(t.Context(), id); err != nil || job.Queue != "gpu" || job.Priority != 7 || job.Status.Waiting != "queue gpu is paused" {
		t.Errorf("job in %q with priority %d waits: %s, %v", job.Queue, job.Priority, job.Status.Waiting, err)
	}

	w.grpc.Stop()
	w.serve(t, auth.Ed25519, false)
	root = w.as(t, "root", auth.RoleAdmin)
	if job, err := root.Get(t.Context(), id); err != nil || job.Status.Waiting != "queue gpu is paused" {
		t.Errorf("after a restart it waits: %s, %v", job.Status.Waiting, err)
	}
	if q, err := root.ResumeQueue(t.Context(), "gpu"); err != nil || q.Settings != (navvy.QueueSettings{Rate: 0.5}) {
		t.Errorf("resumed: %+v, %v", q.Settings, err)
	}
	if job, err := root.Get(t.Context(), id); err != nil || job.Status.Waiting != "" {
		t.Errorf("resumed, it waits: %s, %v", job.Status.Waiting, err)
	}
}

// Settings go when they hold nothing back; jobs never do.
func TestRemoveQueue(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	root := w.as(t, "root", auth.RoleAdmin)
	if _, err := root.PauseQueue(t.Context(), "gpu"); err != nil {
		t.Fatal(err)
	}
	id := submit(t, w.as(t, "ann", auth.RoleUser), navvy.Job{Queue: "gpu"})
	if err := root.RemoveQueue(t.Context(), "gpu"); !errors.Is(err, navvy.ErrConflict) {
		t.Errorf("a queue goes that holds a job back: %v", err)
	}
	if _, err := root.ResumeQueue(t.Context(), "gpu"); err != nil {
		t.Fatal(err)
	}
	if err := root.RemoveQueue(t.Context(), "gpu"); err != nil {
		t.Errorf("one stays that holds nothing back: %v", err)
	}
	if _, err := root.Get(t.Context(), id); err != nil {
		t.Errorf("the job is gone: %v", err)
	}
	if _, err := root.ResumeQueue(t.Context(), "gpu"); !errors.Is(err, navvy.ErrNotFound) {
		t.Errorf("one without settings is resumed: %v", err)
	}
	if err := root.RemoveQueue(t.Context(), "gpu"); !errors.Is(err, navvy.ErrNotFound) {
		t.Errorf("it is removed twice: %v", err)
	}
}

// A user is told of queues with settings, and of others with its own jobs, and
// learns nothing of other people's names.
func TestWhoseQueues(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	root, ann, bob, eve := w.as(t, "root", auth.RoleAdmin), w.as(t, "ann", auth.RoleUser), w.as(t, "bob", auth.RoleUser), w.as(t, "eve", auth.RoleViewer)
	one := 1
	if _, err := root.SetQueue(t.Context(), "gpu", client.QueueChange{Concurrency: &one, Create: true}); err != nil {
		t.Fatal(err)
	}
	submit(t, ann, navvy.Job{Queue: "gpu"})
	submit(t, bob, navvy.Job{Queue: "gpu"})
	submit(t, ann, navvy.Job{Queue: "mine"})
	submit(t, bob, navvy.Job{Queue: "shared"})
	submit(t, ann, navvy.Job{Queue: "shared"})
	gpu := client.Queue{Name: "gpu", Has: true, Settings: navvy.QueueSettings{Concurrency: 1}, By: "root", Jobs: 2, Waiting: 2}
	mine := client.Queue{Name: "mine", Jobs: 1, Waiting: 1}
	of := func(n int64) client.Queue { return client.Queue{Name: "shared", Jobs: n, Waiting: n} }
	for _, c := range []struct {
		who  string
		c    *client.Client
		want []client.Queue
	}{
		{"root", root, []client.Queue{gpu, mine, of(2)}}, {"eve", eve, []client.Queue{gpu, mine, of(2)}},
		{"ann", ann, []client.Queue{gpu, mine, of(1)}}, {"bob", bob, []client.Queue{gpu, of(1)}},
	} {
		if diff := cmp.Diff(c.want, queuesOf(t, c.c), cmpopts.IgnoreFields(client.Queue{}, "Created")); diff != "" {
			t.Errorf("%s sees (-want +got):\n%s", c.who, diff)
		}
	}
}

// More queues than fit on a page are all told of, and more jobs than are counted are not counted.
func TestManyQueues(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	root := w.as(t, "root", auth.RoleAdmin)
	for i := range 130 {
		if _, err := root.SetQueue(t.Context(), fmt.Sprintf("q%03d", i), client.QueueChange{Create: true}); err != nil {
			t.Fatal(err)
		}
	}
	submit(t, root, navvy.Job{Queue: "q117"})
	got := queuesOf(t, root)
	if len(got) != 130 || got[129].Name != "q129" || got[117].Jobs != 1 {
		t.Errorf("%d queues, the last is %v", len(got), got[len(got)-1])
	}
}

// What is no queue is refused with the reason.
func TestBadQueues(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	root := w.as(t, "root", auth.RoleAdmin)
	for name, want := range map[string]error{
		"": navvy.ErrInvalid, "a\x00b": navvy.ErrInvalid, "a\nb": navvy.ErrInvalid, strings.Repeat("x", 257): navvy.ErrInvalid,
		"amqp://host/q": navvy.ErrUnsupported,
	} {
		if _, err := root.PauseQueue(t.Context(), name); !errors.Is(err, want) {
			t.Errorf("settings for %q: %v", name, err)
		}
		if name == "" {
			continue // a job then stands in the default one
		}
		job := navvy.Job{Queue: name, Spec: navvy.Spec{Noop: &navvy.Noop{}}, Detached: true}
		if _, err := trySubmit(t.Context(), root, job); !errors.Is(err, want) {
			t.Errorf("a job in %q: %v", name, err)
		}
	}
	minus, much := -1, 1e9
	for _, change := range []client.QueueChange{{Create: true, Concurrency: &minus}, {Create: true, Rate: &much}} {
		if _, err := root.SetQueue(t.Context(), "gpu", change); !errors.Is(err, navvy.ErrInvalid) {
			t.Errorf("%+v: %v", change, err)
		}
	}
	if got := queuesOf(t, root); len(got) != 0 {
		t.Errorf("what was refused has left %v", got)
	}
}

// Settings that cannot be read are told of, and not taken for none.
func TestDamagedQueue(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	for _, value := range []string{`{"version":9}`, `{"version":1,"rate":-3}`, `{"version":1,"speed":1}`, `gpu`} {
		if err := w.eng.Registry().Set(t.Context(), engine.KindQueue, "gpu", []byte(value), nil); err != nil {
			t.Fatal(err)
		}
		if err := w.srv.LoadQueues(t.Context()); !errors.Is(err, navvy.ErrCorrupt) || !strings.Contains(err.Error(), "gpu") {
			t.Errorf("%s: %v", value, err)
		}
	}
}

// work is what the queue of these tests does with its messages.
func work() *navvy.Spec {
	service := &navvy.Service{Form: "lines:./score", Env: []string{"KEY=1"}}
	return &navvy.Spec{Service: service, Timeout: time.Minute, Retry: navvy.Retry{Max: 4}}
}

// A queue can have a service, and nothing else that answers its messages.
func TestQueueService(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	root, ann := w.as(t, "root", auth.RoleAdmin), w.as(t, "ann", auth.RoleUser)
	if _, err := root.SetQueue(t.Context(), "scores", client.QueueChange{Create: true, Work: &navvy.Spec{Function: &navvy.Function{Name: "f"}}}); !errors.Is(err, navvy.ErrInvalid) {
		t.Errorf("a queue whose messages a function answers: %v", err)
	}
	if q, err := root.SetQueue(t.Context(), "scores", client.QueueChange{Create: true, Work: work()}); err != nil || !cmp.Equal(q.Settings.Work, work()) {
		t.Fatalf("made with %+v: %v", q.Settings.Work, err)
	}
	if err := w.srv.LoadQueues(t.Context()); err != nil {
		t.Error(err)
	}
	for _, c := range []*client.Client{root, ann} {
		if list := queuesOf(t, c); len(list) != 1 || !cmp.Equal(list[0].Settings.Work, work()) {
			t.Errorf("told %+v", list)
		}
	}
	if q, err := root.SetQueue(t.Context(), "scores", client.QueueChange{Work: &navvy.Spec{}}); err != nil || q.Settings.Work != nil {
		t.Errorf("taken away, and there is %+v: %v", q.Settings.Work, err)
	}
}

// Jobs that leave their work to their queue get its service, with what they say themselves.
func TestWorkOfQueue(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	root, ann := w.as(t, "root", auth.RoleAdmin), w.as(t, "ann", auth.RoleUser)
	asked := navvy.Job{Queue: "scores", Spec: navvy.Spec{Service: &navvy.Service{}, Timeout: time.Second}, Detached: true}
	if _, err := trySubmit(t.Context(), ann, asked); !errors.Is(err, navvy.ErrNotFound) {
		t.Errorf("work of a queue that has none: %v", err)
	}
	if _, err := root.SetQueue(t.Context(), "scores", client.QueueChange{Create: true, Work: work()}); err != nil {
		t.Fatal(err)
	}
	id, err := trySubmit(t.Context(), ann, asked)
	if err != nil {
		t.Fatal(err)
	}
	job, err := ann.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if s := job.Spec; s.Service.Form != work().Service.Form || s.Timeout != time.Second || s.Retry.Max != 4 {
		t.Errorf("the job has %+v", s)
	}
}

// A queue with a service can be attached to a broker's, as whoever does it. The passwords of
// its URLs are told to nobody, and a restart attaches it again.
func TestAttachedQueue(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	root := w.as(t, "root", auth.RoleAdmin)
	b := navvy.Broker{Requests: "mem://ann:secret@requests", Responses: "mem://responses", Concurrency: 7, Lease: time.Minute}
	if _, err := root.SetQueue(t.Context(), "scores", client.QueueChange{Create: true, Work: work(), Broker: &b}); err != nil {
		t.Fatal(err)
	}
	told := b
	told.Requests = "mem://ann:xxxxx@requests"
	if list := queuesOf(t, root); len(list) != 1 || !cmp.Equal(list[0].Settings.Broker, &told) || list[0].BrokerOwner != "root" || list[0].BrokerTrouble == "" {
		t.Errorf("told %+v", list)
	}
	w.brokers.Attach("scores", "", nil)
	if err := w.srv.LoadQueues(t.Context()); err != nil {
		t.Fatal(err)
	}
	if now, owner, ok := w.brokers.of("scores"); !ok || now != b || owner != "root" {
		t.Errorf("after a restart %+v for %q", now, owner)
	}
	if _, err := root.SetQueue(t.Context(), "scores", client.QueueChange{Work: &navvy.Spec{}}); !errors.Is(err, navvy.ErrInvalid) {
		t.Errorf("an attached queue loses its service: %v", err)
	}
	if q, err := root.SetQueue(t.Context(), "scores", client.QueueChange{Broker: &navvy.Broker{}}); err != nil || q.Settings.Broker != nil {
		t.Errorf("detached, and there is %+v: %v", q.Settings.Broker, err)
	}
	if _, _, ok := w.brokers.of("scores"); ok {
		t.Error("it is still attached")
	}
}

// A queue is attached only if it has a service, and to what there is.
func TestCannotBeAttached(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	root := w.as(t, "root", auth.RoleAdmin)
	for _, change := range []client.QueueChange{
		{Create: true, Broker: &navvy.Broker{Requests: "mem://a", Responses: "mem://b"}},
		{Create: true, Work: work(), Broker: &navvy.Broker{Requests: "carrots://a", Responses: "mem://b"}},
		{Create: true, Work: work(), Broker: &navvy.Broker{Requests: "mem://a"}},
		{Create: true, Work: work(), Broker: &navvy.Broker{Requests: "mem://a", Responses: "mem://b", Concurrency: -1}},
		{Create: true, Work: work(), Broker: &navvy.Broker{Requests: "mem://a", Responses: "mem://b", Lease: time.Millisecond}},
	} {
		if _, err := root.SetQueue(t.Context(), "scores", change); !errors.Is(err, navvy.ErrInvalid) {
			t.Errorf("%+v with %+v: %v", change.Broker, change.Work, err)
		}
	}
	if len(queuesOf(t, root)) > 0 {
		t.Error("and there is a queue")
	}
}
