package server_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/gateway/keda"
	"github.com/navvy-run/navvy/output"
	"github.com/navvy-run/navvy/server/auth"
)

// mayCall says, independently of the table of package auth, which roles may make
// which call: u(ser), a(dmin), v(iewer), w(orker), n(obody).
var mayCall = map[string]string{
	"/navvy.v1.Jobs/Submit":             "ua",
	"/navvy.v1.Jobs/Find":               "uav",
	"/navvy.v1.Jobs/Get":                "uav",
	"/navvy.v1.Jobs/List":               "uav",
	"/navvy.v1.Jobs/Watch":              "uav",
	"/navvy.v1.Jobs/Results":            "uav",
	"/navvy.v1.Jobs/Printed":            "ua",
	"/navvy.v1.Jobs/Task":               "uav",
	"/navvy.v1.Jobs/ReadOutput":         "uav",
	"/navvy.v1.Jobs/Hold":               "ua",
	"/navvy.v1.Jobs/Resume":             "ua",
	"/navvy.v1.Jobs/Stop":               "ua",
	"/navvy.v1.Jobs/Retry":              "ua",
	"/navvy.v1.Jobs/Remove":             "ua",
	"/navvy.v1.Jobs/Overview":           "uav",
	"/navvy.v1.Functions/Register":      "ua",
	"/navvy.v1.Functions/List":          "ua",
	"/navvy.v1.Functions/Get":           "ua",
	"/navvy.v1.Functions/Remove":        "ua",
	"/navvy.v1.Workers/Closed":          "w",
	"/navvy.v1.Workers/Function":        "w",
	"/navvy.v1.Messages/Send":           "ua",
	"/navvy.v1.Messages/Receive":        "ua",
	"/navvy.v1.Messages/Ack":            "ua",
	"/navvy.v1.Messages/Release":        "ua",
	"/navvy.v1.Messages/Peek":           "ua",
	"/navvy.v1.Messages/Purge":          "ua",
	"/navvy.v1.Messages/Redrive":        "ua",
	"/navvy.v1.Queues/List":             "uav",
	"/navvy.v1.Queues/Set":              "a",
	"/navvy.v1.Queues/Pause":            "a",
	"/navvy.v1.Queues/Resume":           "a",
	"/navvy.v1.Queues/Remove":           "a",
	"/navvy.v1.Workers/Work":            "w",
	"/navvy.v1.Workers/WriteOutput":     "w",
	"/navvy.v1.Fleet/List":              "uav",
	"/navvy.v1.Fleet/Drain":             "a",
	"/navvy.v1.Fleet/Remove":            "a",
	"/navvy.v1.KV/Put":                  "ua",
	"/navvy.v1.KV/Get":                  "ua",
	"/navvy.v1.KV/List":                 "ua",
	"/navvy.v1.KV/Delete":               "ua",
	"/navvy.v1.KV/Watch":                "ua",
	"/navvy.v1.Identity/Join":           "n",
	"/navvy.v1.Identity/Whoami":         "uavw",
	"/navvy.v1.Identity/Renew":          "uavw",
	"/navvy.v1.Identity/Issue":          "a",
	"/navvy.v1.Identity/Certificates":   "a",
	"/navvy.v1.Identity/Revoke":         "a",
	"/navvy.v1.Identity/CreateToken":    "a",
	"/navvy.v1.Identity/CreateAPIToken": "uav",
	"/navvy.v1.Identity/Tokens":         "uav",
	"/navvy.v1.Identity/RevokeToken":    "uav",
	"/apis.JobRunner/Start":             "ua",
	"/apis.JobRunner/Stop":              "ua",
	"/apis.JobRunner/Query":             "uav",
	"/apis.JobRunner/StreamOutput":      "uav",
	"/navvy.v1.Jobs/Run":                "ua",
	"/navvy.v1.TaskKV/Put":              "w",
	"/navvy.v1.TaskKV/Get":              "w",
	"/navvy.v1.TaskKV/List":             "w",
	"/navvy.v1.TaskKV/Delete":           "w",
	"/navvy.v1.TaskKV/Watch":            "w",
	"/navvy.v1.Files/Put":               "ua",
	"/navvy.v1.Files/PutKnown":          "ua",
	"/navvy.v1.Files/Get":               "ua",
	"/navvy.v1.Files/Stat":              "ua",
	"/navvy.v1.Files/List":              "ua",
	"/navvy.v1.Files/Remove":            "ua",
	"/navvy.v1.TaskFiles/Put":           "w",
	"/navvy.v1.TaskFiles/Get":           "w",
	"/navvy.v1.TaskFiles/Stat":          "w",
	"/navvy.v1.TaskFiles/List":          "w",
	"/navvy.v1.TaskFiles/GetPackage":    "w",

	"/externalscaler.ExternalScaler/IsActive":       "av",
	"/externalscaler.ExternalScaler/StreamIsActive": "av",
	"/externalscaler.ExternalScaler/GetMetricSpec":  "av",
	"/externalscaler.ExternalScaler/GetMetrics":     "av",
}

// nothingToDo is what KEDA is told here: who may ask is the question.
type nothingToDo struct{}

// Wanted implements keda.Source.
func (nothingToDo) Wanted(context.Context, *keda.Selection) (waiting, running int64, err error) {
	return 0, 0, nil
}

// WantedChanged implements keda.Source.
func (nothingToDo) WantedChanged() <-chan struct{} { return nil }

// Every call of every service, made with every role over a real connection, is
// refused or not as it should be.
func TestEveryCallWithEveryRole(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	conns := map[string]*grpc.ClientConn{"n": w.nobody(t)}
	for _, role := range auth.Roles() {
		conns[string(role[0])] = w.conn(t, "ann", role)
	}
	walked := 0
	for service, info := range w.grpc.GetServiceInfo() {
		for _, m := range info.Methods {
			method := "/" + service + "/" + m.Name
			may, ok := mayCall[method]
			if !ok {
				t.Errorf("who may call %s?", method)
			}
			for role, conn := range conns {
				err := call(t, conn, method, m.IsClientStream || m.IsServerStream)
				refused := status.Code(err) == codes.PermissionDenied
				if want := !strings.Contains(may, role); refused != want {
					t.Errorf("%s as %q: %v, want refused: %t", method, role, err, want)
				}
				if code := status.Code(err); code == codes.Unimplemented || code == codes.Unavailable || code == codes.Internal {
					t.Errorf("%s as %q: %v", method, role, err)
				}
			}
			walked++
		}
	}
	if walked != len(mayCall) {
		t.Errorf("%d calls were made, and %d are known", walked, len(mayCall))
	}
	for _, method := range auth.Methods() {
		if _, ok := mayCall[method]; !ok && !strings.HasPrefix(method, "/grpc.") {
			t.Errorf("the table has %s, which nobody serves", method)
		}
	}
}

// call makes a call that says nothing.
func call(t *testing.T, conn *grpc.ClientConn, method string, stream bool) error {
	t.Helper()
	if !stream {
		return conn.Invoke(t.Context(), method, &emptypb.Empty{}, &emptypb.Empty{})
	}
	s, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method)
	if err != nil {
		return err
	}
	_ = s.SendMsg(&emptypb.Empty{}) // what is wrong with it, the answer says
	_ = s.CloseSend()
	return s.RecvMsg(&emptypb.Empty{})
}

// nobody is a connection without a certificate, which may join.
func (w *world) nobody(t *testing.T) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(w.addr, grpc.WithTransportCredentials(credentials.NewTLS(auth.JoinTLS(w.ca.Fingerprint()))))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// A user's certificate is not a worker's, and a worker's not a user's.
func TestRolesAreNotMixed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	for _, role := range []auth.Role{auth.RoleUser, auth.RoleAdmin, auth.RoleViewer} {
		session, err := client.NewWorkers(w.conn(t, "ann", role)).Work(t.Context(), client.WorkerInfo{Name: "w", Kinds: []string{"noop"}})
		if err == nil {
			_, err = session.Next()
		}
		if !errors.Is(err, navvy.ErrDenied) {
			t.Errorf("a session of a %s: %v", role, err)
		}
	}
	worker := w.as(t, "w", auth.RoleWorker)
	if _, err := trySubmit(t.Context(), worker, navvy.Job{Spec: navvy.Spec{Noop: &navvy.Noop{}}}); !errors.Is(err, navvy.ErrDenied) {
		t.Errorf("a worker submits: %v", err)
	}
	if got := list(t, worker, client.WhoseDefault); !errors.Is(got.err, navvy.ErrDenied) {
		t.Errorf("a worker lists: %v", got.err)
	}
}

// listed is what a list has given.
type listed struct {
	ids []navvy.JobID
	err error
}

func list(t *testing.T, c *client.Client, whose client.Whose) (l listed) {
	t.Helper()
	for job, err := range c.JobsOf(t.Context(), whose) {
		if err != nil {
			l.err = err
			return l
		}
		l.ids = append(l.ids, job.ID)
	}
	return l
}

// The owner of a job is whoever submits it, whatever the message says.
func TestForgedOwner(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	ann, bob := w.as(t, "ann", auth.RoleUser), w.as(t, "bob", auth.RoleUser)
	if _, err := trySubmit(t.Context(), bob, navvy.Job{Owner: "ann", Detached: true, Spec: navvy.Spec{Noop: &navvy.Noop{}}}); !errors.Is(err, navvy.ErrInvalid) || !strings.Contains(err.Error(), `owner "ann"`) {
		t.Errorf("bob submits a job of ann's: %v", err)
	}
	id := submit(t, bob, navvy.Job{Owner: "bob"})
	if job, err := bob.Get(t.Context(), id); err != nil || job.Owner != "bob" {
		t.Errorf("the job belongs to %q, %v", job.Owner, err)
	}
	if _, err := ann.Get(t.Context(), id); !errors.Is(err, navvy.ErrNotFound) {
		t.Errorf("ann gets it: %v", err)
	}
	// The same idempotency key of two owners makes two jobs.
	one, two := submit(t, ann, navvy.Job{IdempotencyKey: "k"}), submit(t, bob, navvy.Job{IdempotencyKey: "k"})
	if one == two {
		t.Error("bob is given ann's job for a key of his own")
	}
}

func TestWhoseJobs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	ann, bob := w.as(t, "ann", auth.RoleUser), w.as(t, "bob", auth.RoleUser)
	admin, viewer := w.as(t, "root", auth.RoleAdmin), w.as(t, "eve", auth.RoleViewer)
	one, two, three := submit(t, ann, navvy.Job{}), submit(t, bob, navvy.Job{}), submit(t, admin, navvy.Job{})
	for _, c := range []struct {
		who   string
		c     *client.Client
		whose client.Whose
		want  []navvy.JobID
		err   error
	}{
		{"ann", ann, client.WhoseDefault, []navvy.JobID{one}, nil},
		{"ann", ann, client.WhoseOwn, []navvy.JobID{one}, nil},
		{"ann", ann, client.WhoseAll, nil, navvy.ErrDenied},
		{"root", admin, client.WhoseDefault, []navvy.JobID{three, two, one}, nil},
		{"root", admin, client.WhoseOwn, []navvy.JobID{three}, nil},
		{"eve", viewer, client.WhoseAll, []navvy.JobID{three, two, one}, nil},
		{"eve", viewer, client.WhoseOwn, nil, nil},
	} {
		if got := list(t, c.c, c.whose); !slices.Equal(got.ids, c.want) || !errors.Is(got.err, c.err) {
			t.Errorf("%s, %d: %v, want %v, %v", c.who, c.whose, got, c.want, c.err)
		}
	}
}

// changes are all calls that change a job, and looks those that only look at it.
var (
	changes = map[string]func(*testing.T, *client.Client, navvy.JobID) error{
		"hold": func(t *testing.T, c *client.Client, id navvy.JobID) error {
			return c.Hold(t.Context(), id, "", false)
		},
		"resume": func(t *testing.T, c *client.Client, id navvy.JobID) error {
			for _, err := range c.Resume(t.Context(), id, client.ResumeOptions{}) {
				return err
			}
			return nil
		},
		"stop": func(t *testing.T, c *client.Client, id navvy.JobID) error {
			_, err := c.Stop(t.Context(), id, "")
			return err
		},
		"retry": func(t *testing.T, c *client.Client, id navvy.JobID) error {
			_, _, err := c.Retry(t.Context(), id, client.RetryOptions{})
			return err
		},
		"printed": func(t *testing.T, c *client.Client, id navvy.JobID) error {
			return c.Printed(t.Context(), id, []byte{0x3a, 0x30, 0, 0, 0, 0, 0, 0}) // an empty bitmap
		},
		"mark read": func(t *testing.T, c *client.Client, id navvy.JobID) error { return c.MarkRead(t.Context(), id) },
		"remove": func(t *testing.T, c *client.Client, id navvy.JobID) error {
			return c.Remove(t.Context(), id, true)
		},
	}
	looks = map[string]func(*testing.T, *client.Client, navvy.JobID) error{
		"find": func(t *testing.T, c *client.Client, id navvy.JobID) error {
			_, err := c.Find(t.Context(), string(id))
			return err
		},
		"get": func(t *testing.T, c *client.Client, id navvy.JobID) error {
			_, err := c.Get(t.Context(), id)
			return err
		},
		"watch": func(t *testing.T, c *client.Client, id navvy.JobID) error {
			for _, err := range c.Watch(t.Context(), id, true) {
				return err
			}
			return nil
		},
		"results": func(t *testing.T, c *client.Client, id navvy.JobID) error {
			for _, err := range c.Results(t.Context(), id, client.ResultsOptions{}) {
				return err
			}
			return nil
		},
		"task": func(t *testing.T, c *client.Client, id navvy.JobID) error {
			_, err := c.Task(t.Context(), navvy.TaskID{Job: id})
			return err
		},
		"output": func(t *testing.T, c *client.Client, id navvy.JobID) error {
			return c.Output(t.Context(), navvy.TaskID{Job: id}, client.OutputOptions{}, client.OutputSink{Write: func(output.Stream, []byte) error { return nil }})
		},
	}
)

// as if there were none: what somebody is told of another's job.
func missing(err error, id navvy.JobID) bool {
	return errors.Is(err, navvy.ErrNotFound) && err.Error() == "job "+string(id)+": not found"
}

// Another's job answers as if it did not exist; an admin and a viewer see it.
func TestAnothersJobIsNotSeen(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	ann, bob := w.as(t, "ann", auth.RoleUser), w.as(t, "bob", auth.RoleUser)
	admin, viewer := w.as(t, "root", auth.RoleAdmin), w.as(t, "eve", auth.RoleViewer)
	id := submit(t, ann, navvy.Job{})
	for what, look := range looks {
		if err := look(t, bob, id); !missing(err, id) {
			t.Errorf("bob: %s: %v", what, err)
		}
		for who, c := range map[string]*client.Client{"ann": ann, "an admin": admin, "a viewer": viewer} {
			if err := look(t, c, id); err != nil {
				t.Errorf("%s: %s: %v", who, what, err)
			}
		}
	}
	if n := len(w.audit.find(t, "admin action")); n > 0 {
		t.Errorf("%d lines about an admin who looks", n)
	}
}

// Nobody changes another's job but an admin, which is written down.
func TestAnothersJobIsNotChanged(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	ann, bob := w.as(t, "ann", auth.RoleUser), w.as(t, "bob", auth.RoleUser)
	admin, viewer := w.as(t, "root", auth.RoleAdmin), w.as(t, "eve", auth.RoleViewer)
	id := submit(t, ann, navvy.Job{})
	for what, change := range changes {
		if err := change(t, bob, id); !missing(err, id) {
			t.Errorf("bob: %s: %v", what, err)
		}
		if err := change(t, viewer, id); !errors.Is(err, navvy.ErrDenied) {
			t.Errorf("a viewer: %s: %v", what, err)
		}
		for who, c := range map[string]*client.Client{"ann": ann, "an admin": admin} {
			if err := change(t, c, submit(t, ann, navvy.Job{})); errors.Is(err, navvy.ErrDenied) || errors.Is(err, navvy.ErrNotFound) {
				t.Errorf("%s: %s: %v", who, what, err)
			}
		}
	}
	if st, err := ann.Get(t.Context(), id); err != nil || st.Status.State() != navvy.Queued || st.Status.Held {
		t.Errorf("after all that was refused the job is %v, held %t, %v", st.Status.State(), st.Status.Held, err)
	}
	w.testWrittenDown(t)
}

// testWrittenDown sees that the audit log has each change that an admin made of ann's jobs.
func (w *world) testWrittenDown(t *testing.T) {
	t.Helper()
	actions := w.audit.find(t, "admin action")
	if len(actions) != len(changes) {
		t.Errorf("%d lines about what an admin did, want %d", len(actions), len(changes))
	}
	want := map[string]any{"name": "root", "role": "admin", "owner": "ann", "local": false}
	for _, a := range actions {
		for key, value := range want {
			if a[key] != value {
				t.Errorf("%s is %v: %v", key, a[key], a)
			}
		}
		if a["job"] == "" || a["serial"] == "" || a["method"] == "" {
			t.Errorf("an incomplete line: %v", a)
		}
	}
}

// Each refused call leaves a line that says who was refused what, and why.
func TestRefusalsAreWrittenDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	if _, err := w.as(t, "ann", auth.RoleUser).Revoke(t.Context(), client.RevokeOptions{Name: "bob"}); !errors.Is(err, navvy.ErrDenied) {
		t.Fatal(err)
	}
	lines := w.audit.find(t, "call refused")
	if len(lines) != 1 {
		t.Fatalf("%d lines: %v", len(lines), lines)
	}
	l := lines[0]
	if l["name"] != "ann" || l["role"] != "user" || l["serial"] == "" || l["method"] != "/navvy.v1.Identity/Revoke" || !strings.Contains(l["why"].(string), "may not call") {
		t.Errorf("it says %v", l)
	}
	if _, err := w.as(t, "root", auth.RoleAdmin).Tokens(t.Context()); err != nil {
		t.Fatal(err)
	}
	if lines := w.audit.find(t, "admin action"); len(lines) != 1 || lines[0]["method"] != "/navvy.v1.Identity/Tokens" {
		t.Errorf("of an admin: %v", lines)
	}
	if _, err := w.dial(t, nil); err == nil {
		t.Fatal("a connection without a certificate")
	}
	w.grpc.Stop() // which waits until the server has done with it
	if lines := w.audit.find(t, "connection refused"); len(lines) == 0 || lines[0]["from"] == "" || lines[0]["why"] == "" {
		t.Errorf("of a refused connection: %v", lines)
	}
}

// A prefix that fits many jobs of others finds one's own.
func TestFindAmongOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	ann, bob := w.as(t, "ann", auth.RoleUser), w.as(t, "bob", auth.RoleUser)
	mine := submit(t, ann, navvy.Job{})
	same := 0
	for range 400 {
		sub, id, err := w.eng.Submit(t.Context(), navvy.Job{Owner: "bob", Detached: true, Spec: navvy.Spec{Noop: &navvy.Noop{}}}, false)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(sub.Add(t.Context(), []byte("a")), sub.Seal(t.Context())); err != nil {
			t.Fatal(err)
		}
		if id[0] == mine[0] {
			same++
		}
	}
	if same < ambiguous {
		t.Skipf("only %d of bob's jobs begin as ann's does", same)
	}
	if got, err := ann.Find(t.Context(), string(mine[:1])); err != nil || got != mine {
		t.Errorf("found %s, %v, want %s among %d of bob's", got, err, mine, same)
	}
	if _, err := bob.Find(t.Context(), string(mine[:1])); !errors.Is(err, navvy.ErrInvalid) || strings.Contains(err.Error(), string(mine)) {
		t.Errorf("bob is told %v", err)
	}
}

// ambiguous is how many jobs the server names.
const ambiguous = 4

// A worker is called as its certificate says, whatever it says itself.
func TestForgedWorker(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	workers := client.NewWorkers(w.conn(t, "w-1", auth.RoleWorker))
	if _, err := workers.Work(t.Context(), client.WorkerInfo{Name: "w-2", Kinds: []string{"noop"}}); err != nil {
		t.Fatal(err)
	}
	overview, err := w.as(t, "ann", auth.RoleUser).Overview(t.Context())
	if err != nil || len(overview.GetWorkers()) != 1 || overview.GetWorkers()[0].GetName() != "w-1" {
		t.Errorf("there are %v, %v", overview.GetWorkers(), err)
	}
}
