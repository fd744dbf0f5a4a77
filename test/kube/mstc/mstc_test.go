package mstc

import (
	"fmt"
	"io"
	"maps"
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
	"image":   {second("No-Image", "image"), `^Job image` + uuid + ` failed: image local.test/No-Image:1: InvalidImageName: `, "failed", "image", "none"},
	"first":   {`{"image": "local.test/hello:1", "inputBucketUrl": "http://127.0.0.1:9/inputs"}`, "^(hello\nerror|error\nhello)\n$", "succeeded", "", "0"},
	"failed":  {`{"image": "local.test/exit3:1"}`, "^Job navvy" + uuid + " failed: exit.* 3\nout\n$", "failed", "exit", "3"},
}

// Requests become Jobs, which find their inputs and leave their outputs in buckets, and each
// is answered by what became of its own. Before the cluster can be reached requests wait, and
// what is no request has its answer.
func TestOutcomes(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	server := s.server("server")
	url := s.says(server, `(?m)^  images of MSTC clients, .* on (http://\S+)`)
	kubetest.Until(t, "the broker is reached", func() bool { return !strings.Contains(s.ready(server), "no requests come") })
	s.storage = s.openStorage()
	requests := s.storage.fill(t)
	for id, c := range cases {
		requests[id] = c.body
	}
	slow := map[string]string{}
	for _, id := range []string{"late", "stubborn"} {
		slow[id] = requests[id]
		delete(requests, id)
	}
	first := s.ask(slow)
	heal := s.away()
	worker := s.worker("worker")
	s.says(worker, `"msg":"(connected to the server)"`)
	if text := s.run("worker", "ls", "-o", "jsonl"); !regexp.MustCompile(`"lacks": ?"the cluster cannot be reached: `).MatchString(text) {
		t.Errorf("navvy worker ls: %s", text)
	}
	got := s.ask(map[string]string{"none": `{"jobName": "x"}`}).answers()
	if a := got["none"]; len(got) != 1 || a.Body.Result != `Invalid request No image: {"jobName": "x"}` || a.Body.State != "invalid" {
		t.Errorf("no image: %v", got)
	}
	if text := s.ready(server); text != "ok\nmstc: no worker that is connected runs containers: requests are kept\n" {
		t.Errorf("/readyz: %s", text)
	}
	heal()
	kubetest.Until(t, "there is somebody who runs images", func() bool { return s.ready(server) == "ok\n" })
	for job := range slow { // so that they begin within their time on any machine
		kubetest.Until(t, job+" runs", func() bool { return len(running(t, job)) > 0 })
	}
	rest := s.ask(requests)
	resp, err := http.Post(url+"/mstc/worker/execute", "application/json", strings.NewReader(second("hello", "rest")))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusOK || !regexp.MustCompile(`^Job rest`+uuid+` complete\.$`).Match(text) {
		t.Errorf("REST: %s: %s", resp.Status, text)
	}
	answers := rest.answers()
	maps.Copy(answers, first.answers())
	answers["late"].ended(t)
	answers["stubborn"].ended(t)
	s.check(answers)
	s.storage.check(t, answers)
}

// away is a way to the cluster for workers that is closed until heal is called.
func (s *site) away() (heal func()) {
	s.Helper()
	way, err := s.cluster.Proxy()
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(way.Close)
	way.Break()
	s.kube = s.cluster.Through(s, way, "mstc", "system:masters").Kubeconfig
	return way.Heal
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
