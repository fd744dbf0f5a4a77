package container

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	batchv1 "k8s.io/api/batch/v1"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
)

// heard is a driver whose watch knows what the test tells it, and the calls that it makes.
func heard(t *testing.T, list ...*batchv1.Job) (d *Driver, calls chan string) {
	t.Helper()
	calls = make(chan string, 100)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls <- r.Method + " " + filepath.Base(r.URL.Path)
		w.Header().Set("Content-Type", "application/json")
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
