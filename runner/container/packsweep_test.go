package container

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
)

// heard is a driver whose watch knows some Jobs, and tells the calls by which it would change
// them; none of these does anything.
func heard(t *testing.T, list ...*batchv1.Job) (d *Driver, calls chan string) {
	t.Helper()
	calls = make(chan string, 100)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := filepath.Base(r.URL.Path)
		w.Header().Set("Content-Type", "application/json")
		switch body, _ := io.ReadAll(r.Body); {
		case r.Method == http.MethodGet && name == "jobs":
			items := batchv1.JobList{TypeMeta: metav1.TypeMeta{Kind: "JobList", APIVersion: "batch/v1"}}
			for _, job := range list {
				items.Items = append(items.Items, *job)
			}
			_ = json.NewEncoder(w).Encode(&items)
			return
		case r.Method == http.MethodGet:
			_ = json.NewEncoder(w).Encode(list[0])
			return
		case r.Method == http.MethodPatch:
			calls <- "PATCH " + string(body)
		default:
			calls <- r.Method + " " + name
		}
		_, _ = io.WriteString(w, `{"kind":"Job","apiVersion":"batch/v1","metadata":{"name":"navvy-pack"}}`)
	}))
	t.Cleanup(server.Close)
	config := filepath.Join(t.TempDir(), "config")
	err := os.WriteFile(config, []byte(`{"apiVersion":"v1","kind":"Config","current-context":"c","clusters":[{"name":"c","cluster":{"server":"`+server.URL+
		`"}}],"contexts":[{"name":"c","context":{"cluster":"c","user":"u","namespace":"team"}}],"users":[{"name":"u","user":{}}]}`), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if d, err = New(&Options{Kubeconfig: config, Render: func(*driver.Task) ([]string, error) { return nil, nil }}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	s, err := d.space("")
	if err != nil {
		t.Fatal(err)
	}
	for _, job := range list {
		job.Namespace = "team"
		if err := s.watch.jobs.GetIndexer().Add(job); err != nil {
			t.Fatal(err)
		}
	}
	return d, calls
}

// Whoever shares an instance sees all attempts of shared pods, and ends a pod when nobody wants any
// of its tasks any more; not before.
func TestPackSweep(t *testing.T) {
	t.Parallel()
	job := sharedJob("j-0-1.1", "j-1-1.1", "j-2-1.1")
	job.Labels[labelJob] = string(navvy.NewJobID())
	d, calls := heard(t, job)
	list := d.Adrift()
	seen := map[int64]string{}
	for _, a := range list {
		seen[a.Task.Index] = a.Token
	}
	if len(list) != 3 || seen[2] != "j-2-1.1" || list[0].Task.Job != navvy.JobID(job.Labels[labelJob]) {
		t.Fatalf("%+v is adrift", list)
	}
	for i, a := range list {
		if len(calls) > 0 {
			t.Errorf("for %d of 3 there is %s", i, <-calls)
		}
		if err := d.Sweep(t.Context(), a.Token); err != nil {
			t.Error(err)
		}
	}
	if len(calls) != 1 || <-calls != "DELETE navvy-pack" {
		t.Errorf("there are %d calls", len(calls))
	}
	s, _ := d.space("")
	if err := s.watch.jobs.GetIndexer().Delete(job); err != nil {
		t.Fatal(err)
	}
	if list := d.Adrift(); len(list) > 0 || len(d.packs.unwanted) > 0 {
		t.Errorf("%v is adrift, and %v known, of what is gone", list, d.packs.unwanted)
	}
}

// A task that an earlier process has left in a shared pod is not read, nor counted as this
// navvy's, for being looked at.
func TestPackLook(t *testing.T) {
	t.Parallel()
	job := sharedJob("j-0-1.1")
	d, _ := heard(t, job)
	s, err := d.space("")
	if err != nil {
		t.Fatal(err)
	}
	left := s.recoverPacked(&driver.Task{Token: "j-0-1.1"}, job)
	if h, err := parseHandle(left.Handle()); err != nil || h.name != job.Name || h.uid != job.UID {
		t.Errorf("its handle is %q, %v", left.Handle(), err)
	}
	look := func() (runs, tokens int) {
		d.packs.mu.Lock()
		defer d.packs.mu.Unlock()
		return len(d.packs.runs), len(d.packs.jobs) + len(d.packs.tokens)
	}
	if runs, tokens := look(); runs+tokens > 0 {
		t.Errorf("looked at, %d are read and %d kept", runs, tokens)
	}
	left.(*leftMember).join()
	if runs, tokens := look(); runs != 1 || tokens > 0 {
		t.Errorf("to be ended, %d are read and %d kept", runs, tokens)
	}
}

// The rest of a shared pod's log is waited for as long as more of it comes: there are ends of
// tasks in it, however the pod ended.
func TestPackRest(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		read  uint64
		after time.Duration
	}{
		"a log that comes": {1, 50 * time.Second},
		"one that stands":  {0, restPatience},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var have uint64
				a := &attempt{read: func() uint64 { have += c.read; return have }}
				w := &waiter{attempt: a, cancel: func() {}, ended: make(chan struct{}), copied: make(chan error, 1)}
				time.AfterFunc(50*time.Second, func() { close(w.copied) })
				began := time.Now()
				if err := w.rest(t.Context(), false); err != nil || time.Since(began) != c.after {
					t.Errorf("it waits %s, %v", time.Since(began), err)
				}
			})
		})
	}
}

// A Job goes soon once this navvy has settled all tasks that it has by then. While others have
// some, they may be reading its log.
func TestPackSettled(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ has, want string }{
		"alone":         {"j-1-1.1", `"ttlSecondsAfterFinished":30}`},
		"beside others": {"j-1-2.1", `"ttlSecondsAfterFinished":3600}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			job := sharedJob("j-0-1.1", c.has)
			d, calls := heard(t, job)
			s, err := d.space("")
			if err != nil {
				t.Fatal(err)
			}
			tokens := []string{"j-0-1.1", "j-1-1.1"} // the latter may have been replaced since
			d.packs.mu.Lock()
			for _, token := range tokens {
				d.packs.holdLocked(s, job, token)
			}
			d.packs.mu.Unlock()
			for _, token := range tokens {
				if ok, err := d.settlePacked(t.Context(), token); !ok || err != nil {
					t.Errorf("%s is settled: %v, %v", token, ok, err)
				}
			}
			if len(calls) != 1 {
				t.Fatalf("there are %d calls", len(calls))
			}
			if call := <-calls; !strings.Contains(call, c.want) || strings.Contains(call, "annotations") {
				t.Errorf("it is told %s", call)
			}
		})
	}
}

// Who takes the last task off a Job deletes it; a place that another attempt has stays.
func TestPackTakeOff(t *testing.T) {
	t.Parallel()
	job := sharedJob("j-0-1.1", "j-1-2.1")
	d, calls := heard(t, job)
	s, err := d.space("")
	if err != nil {
		t.Fatal(err)
	}
	members := []*member{
		newMember(&driver.Task{Token: "j-0-1.1"}),
		newMember(&driver.Task{ID: navvy.TaskID{Index: 1}, Token: "j-1-1.1"}),
	}
	if err := s.takeOff(t.Context(), job.Name, job.UID, members[1:]); err != nil || len(calls) > 0 {
		t.Errorf("what is another's is taken off: %v", err)
	}
	if err := s.takeOff(t.Context(), job.Name, job.UID, members); err != nil || len(calls) != 2 { // after the call it seems to have none
		t.Fatalf("%v, %d calls", err, len(calls))
	}
	if call := <-calls; !strings.Contains(call, `"annotations":{"navvy.run/task-0":null}`) {
		t.Errorf("it is told %s", call)
	}
	if call := <-calls; call != "DELETE navvy-pack" {
		t.Errorf("then %s", call)
	}
}

// A pod whose tasks have waited is made only for those that are nowhere else by then.
func TestPackLooksAgain(t *testing.T) {
	t.Parallel()
	d, calls := heard(t, sharedJob("j-0-2.1"))
	s, err := d.space("")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		since time.Duration
		tasks int64
		made  string
	}{
		"a fresh one":  {0, 1, "POST jobs"},
		"all are away": {2 * packFresh, 1, ""},
		"one is away":  {2 * packFresh, 2, "POST jobs"},
	} {
		pk := &pack{since: time.Now().Add(-c.since), made: make(chan struct{})}
		if c.since == 0 {
			pk.since = pk.since.Add(time.Hour) // however slow this is
		}
		for i := range c.tasks {
			pk.members = append(pk.members, newMember(&driver.Task{
				ID: navvy.TaskID{Job: navvy.NewJobID(), Index: i}, Spec: &navvy.Spec{Container: &navvy.Container{Pack: 2}},
			}))
		}
		try := &packTry{space: s, pack: pk, token: packToken + "y", looked: pk.since}
		made, err := try.make(t.Context())
		switch {
		case err != nil || (made != nil) != (c.made != ""):
			t.Errorf("%s: %v, %v", name, made, err)
		case len(calls) > 0 && <-calls != c.made:
			t.Errorf("%s: it is not made", name)
		case c.since > 0 && (pk.members[0].elsewhere == "" || len(try.members) != len(pk.members)-1):
			t.Errorf("%s: it is made for %d", name, len(try.members))
		}
	}
}

// Who gave up making a Job does not remove it once another attempt has taken a task of it over.
func TestPackAbandoned(t *testing.T) {
	t.Parallel()
	job := sharedJob("j-0-1.1")
	d, calls := heard(t, job)
	s, err := d.space("")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.removeOwn(t.Context(), job.Name, packToken+"x"); err != nil || len(calls) != 1 {
		t.Errorf("nobody has it: %v, %d calls", err, len(calls))
	}
	claim(t, job, &driver.Task{Attempt: navvy.AttemptID{Number: 2, Epoch: 1}, Token: "j-0-2.1"})
	if err := s.removeOwn(t.Context(), job.Name, packToken+"x"); err != nil || len(calls) != 1 {
		t.Errorf("another attempt has it: %v, %d calls", err, len(calls))
	}
}

// A forced stop of who had a Job before kills nothing of whoever has it now, however soon its pod
// is looked at.
func TestForceOthers(t *testing.T) {
	t.Parallel()
	job := sharedJob()
	job.Annotations[annotationAttempt] = "another's"
	d, calls := heard(t, job)
	s, err := d.space("")
	if err != nil {
		t.Fatal(err)
	}
	a := s.attempt(&driver.Task{Token: "mine"}, job)
	if err := a.halt(t.Context(), true); !errors.Is(err, errOthers) || a.forced || len(calls) > 0 {
		t.Errorf("it ended with %v, forced %v, %d calls", err, a.forced, len(calls))
	}
}
