package mstc

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy/test/kube/kubetest"
)

// second is a request of the second generation.
func second(image, name string) string {
	return fmt.Sprintf(`{"image": "local.test/%s:1", "jobName": "%s", "timeOut": 1, "inputBucket": "inputs", "prefix": "p"}`, image, name)
}

// uuid fits what follows the name of a Job.
const uuid = `-[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}`

// cases are requests, and what becomes of them.
var cases = map[string]struct{ body, result, state, reason, code string }{
	"success": {second("hello", "align"), `^Job align` + uuid + ` complete\.$`, "succeeded", "", "0"},
	"exit":    {second("exit3", "Fails.3"), `^Job fails-3` + uuid + ` failed: exit.* 3$`, "failed", "exit", "3"},
	"memory":  {second("oom", "oom"), `^Job oom` + uuid + ` failed: .*memory`, "failed", "oom", "137"},
	"late":    {second("hang", "late"), `^Job late` + uuid + ` timed out after 1 minutes$`, "failed", "timeout", "none"},
	"image":   {strings.Replace(second("none", "image"), `"timeOut": 1`, `"timeOut": 9`, 1), `^Job image` + uuid + ` failed: `, "failed", "image", "none"},
	"first":   {`{"image": "local.test/hello:1", "inputBucketUrl": "http://127.0.0.1:9/inputs"}`, "^(hello\nerror|error\nhello)\n$", "succeeded", "", "0"},
	"failed":  {`{"image": "local.test/exit3:1"}`, "^Job navvy" + uuid + " failed: exit.* 3\nout\n$", "failed", "exit", "3"},
}

// Requests become Jobs, and each is answered by what became of its own. Before there is
// anybody who runs images, requests wait, and what is no request has its answer.
func TestOutcomes(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	server := s.server("server")
	rest := s.says(server, `(?m)^  images of MSTC clients, .* on (http://\S+)`)
	kubetest.Until(t, "the broker is reached", func() bool { return !strings.Contains(s.ready(server), "no requests come") })
	if text := s.ready(server); text != "ok\nmstc: no worker that is connected runs containers: requests are kept\n" {
		t.Errorf("/readyz: %s", text)
	}
	requests := map[string]string{}
	for id, c := range cases {
		requests[id] = c.body
	}
	asker := s.ask(requests)
	got := s.ask(map[string]string{"none": `{"jobName": "x"}`}).answers()
	if a := got["none"]; len(got) != 1 || a.Body.Result != `Invalid request No image: {"jobName": "x"}` || a.Body.State != "invalid" {
		t.Errorf("no image: %v", got)
	}
	s.worker("worker")
	kubetest.Until(t, "there is somebody who runs images", func() bool { return s.ready(server) == "ok\n" })
	resp, err := http.Post(rest+"/mstc/worker/execute", "application/json", strings.NewReader(second("hello", "rest")))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusOK || !regexp.MustCompile(`^Job rest`+uuid+` complete\.$`).Match(text) {
		t.Errorf("REST: %s: %s", resp.Status, text)
	}
	s.check(asker.answers())
	s.ended("late")
}

// check checks that what is answered is what is wanted.
func (s *site) check(answers map[string]*answer) {
	s.Helper()
	for id, c := range cases {
		a := answers[id]
		if a == nil {
			s.Errorf("%s: no answer", id)
			continue
		}
		code := "none"
		if a.Body.ExitCode != nil {
			code = fmt.Sprint(*a.Body.ExitCode)
		}
		if !regexp.MustCompile(c.result).MatchString(a.Body.Result) || a.Body.State != c.state || a.Body.Reason != c.reason || code != c.code {
			s.Errorf("%s: %+v, exit code %s; want %+v", id, a.Body, code, c)
		}
	}
}

// ended checks that no pod of a job's name runs.
func (s *site) ended(job string) {
	s.Helper()
	var list struct {
		Items []struct {
			Metadata struct{ Name, DeletionTimestamp string }
			Status   struct{ Phase string }
		}
	}
	s.cluster.Admin().Must(s, http.MethodGet, "/api/v1/namespaces/"+s.namespace+"/pods", "", &list)
	for _, p := range list.Items {
		if strings.HasPrefix(p.Metadata.Name, job) && p.Status.Phase == "Running" && p.Metadata.DeletionTimestamp == "" {
			s.Errorf("pod %s runs on", p.Metadata.Name)
		}
	}
}

// A server that is killed while Jobs run answers once, by the name of the Job that ran; so
// does one whose broker dies with it, of what it still has somebody to tell.
func TestKilled(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	server := s.server("first")
	s.says(server, `(?m)^  images of MSTC clients, .* on (http://\S+)`)
	s.worker("worker")
	asker := s.ask(map[string]string{"1": second("slow", "one"), "2": second("slow", "two")})
	kubetest.Until(t, "both run", func() bool { return len(s.jobs()) == 2 })
	began := time.Now()
	if err := server.Process.Signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-server.over
	s.server("second")
	names := s.jobs()
	answers := asker.answers()
	if len(answers) != 2 {
		t.Fatalf("%d answers", len(answers))
	}
	for id, a := range answers {
		words := strings.Fields(a.Body.Result)
		if a.Body.State != "succeeded" || len(words) != 3 || !slices.Contains(names, words[1]) {
			t.Errorf("%s: %+v; there were %v", id, a.Body, names)
		}
	}
	t.Logf("answered %s after the server was killed", time.Since(began))
	if now := s.jobs(); len(now) > 2 {
		t.Errorf("there are %v", now)
	}
}
