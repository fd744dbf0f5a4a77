package rest_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/navvy-run/navvy/internal/pause"
	"github.com/navvy-run/navvy/server/auth"
)

// A job is submitted, runs, and is read.
func TestJob(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	ann := w.as(t, "ann", auth.RoleUser)
	id := ann.submit([]string{"sh", "-c", `echo "out $0"; echo "err $0" >&2; test $0 != bad`}, "good", "bad")
	job := "/v1/jobs/" + id
	if st := ann.do(http.MethodGet, job+"/watch?progress", "").lines(); st[len(st)-1]["state"] != "failed" {
		t.Errorf("it ends as %v", st)
	}
	results := ann.do(http.MethodGet, job+"/results?follow=true&inputs=true", "").lines()
	if len(results) != 2 {
		t.Fatalf("%d results: %v", len(results), results)
	}
	for i, want := range []string{"good succeeded out good\n err good\n", "bad failed out bad\n err bad\n"} {
		if r := results[i]; fmt.Sprint(r["input"], " ", r["state"], " ", r["stdout"], " ", r["stderr"]) != want {
			t.Errorf("result %d: %v", i, r)
		}
	}
	if failed := ann.do(http.MethodGet, job+"/results?failed", "").lines(); len(failed) != 1 || failed[0]["index"] != 1.0 {
		t.Errorf("failed: %v", failed)
	} else if input, ok := failed[0]["input"]; ok {
		t.Errorf("an input that nobody asked for: %v", input)
	}
	testEmptyInput(t, ann)
	if task := ann.do(http.MethodGet, job+"/tasks/1", "").want(http.StatusOK); task["state"] != "failed" || task["input"] != "bad" {
		t.Errorf("task 1: %v", task)
	}
	for stream, want := range map[string]string{"?stream=stdout": "out bad\n", "?stream=stderr": "err bad\n", "?stream=both&follow": "out bad\nerr bad\n", "": "out bad\nerr bad\n"} {
		if r := ann.do(http.MethodGet, job+"/tasks/1/output"+stream, ""); r.body != want || r.header.Get("Content-Type") != "application/octet-stream" {
			t.Errorf("output%s: %q", stream, r.body)
		}
	}
	testAgain(t, ann, id)
	ann.do(http.MethodDelete, job, "").want(http.StatusOK)
	ann.do(http.MethodGet, job, "").fails(http.StatusNotFound, "not_found")
}

// testEmptyInput sees that an input that is asked for is there, also where it is empty.
func testEmptyInput(t *testing.T, ann *caller) {
	t.Helper()
	id := ann.submit([]string{"true"}, "")
	list := ann.do(http.MethodGet, "/v1/jobs/"+id+"/results?follow&inputs", "").lines()
	if len(list) != 1 || list[0]["input"] != "" {
		t.Errorf("of an empty input: %v", list)
	}
}

// testAgain runs what has failed of a job again.
func testAgain(t *testing.T, ann *caller, id string) {
	t.Helper()
	if o := ann.do(http.MethodPost, "/v1/jobs/"+id+"/retry", `{"failed":true}`).want(http.StatusOK); o["tasks"] != 1.0 {
		t.Errorf("retried: %v", o)
	}
	ann.do(http.MethodGet, "/v1/jobs/"+id+"/watch", "").lines()
	if o := ann.do(http.MethodGet, "/v1/find/"+id[:11], "").want(http.StatusOK); o["id"] != id {
		t.Errorf("found: %v", o)
	}
}

// A list comes in pages, and leaves out what is not asked for.
func TestList(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	ann := w.as(t, "ann", auth.RoleUser)
	for i := range 5 {
		body := fmt.Sprintf(`{"name":"n%d","spec":{"noop":{}},"inputs":["a"]}`, i%2)
		o := ann.do(http.MethodPost, "/v1/jobs", body).want(http.StatusCreated)
		ann.do(http.MethodGet, fmt.Sprintf("/v1/jobs/%s/watch", o["id"]), "").lines()
	}
	walk := func(query string) (names []string) {
		for page := ""; ; {
			o := ann.do(http.MethodGet, "/v1/jobs?limit=2&page="+page+query, "").want(http.StatusOK)
			for _, j := range o["jobs"].([]any) {
				names = append(names, j.(map[string]any)["job"].(map[string]any)["name"].(string))
			}
			if page = o["next_page"].(string); page == "" {
				return names
			}
		}
	}
	for query, want := range map[string]string{"": "n0 n1 n0 n1 n0", "&name=n1": "n1 n1", "&state=succeeded": "n0 n1 n0 n1 n0", "&state=queued": "", "&queue=other": "", "&whose=own": "n0 n1 n0 n1 n0"} {
		if got := strings.Join(walk(query), " "); got != want {
			t.Errorf("%s: %q, want %q", query, got, want)
		}
	}
	ann.do(http.MethodGet, "/v1/jobs?whose=all", "").fails(http.StatusForbidden, "denied")
}

// Jobs are steered.
func TestSteer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	ann := w.as(t, "ann", auth.RoleUser)
	gate := filepath.Join(t.TempDir(), "open")
	job := "/v1/jobs/" + ann.submit([]string{"sh", "-c", "until test -e " + gate + "; do sleep 0.05; done"}, "a")
	if o := ann.do(http.MethodPost, job+"/hold", `{"interrupt":true,"why":"lunch"}`).want(http.StatusOK); o["held"] != true || o["why"] != "lunch" {
		t.Errorf("held: %v", o)
	}
	ann.do(http.MethodGet, job+"/watch", "").lines()
	if o := ann.do(http.MethodPost, job+"/resume", "").want(http.StatusOK); o["held"] != false {
		t.Errorf("resumed: %v", o)
	}
	ann.do(http.MethodPost, job+"/resume", `{"attach":true}`).fails(http.StatusBadRequest, "invalid")
	ann.do(http.MethodDelete, job, "").fails(http.StatusConflict, "conflict")
	ann.do(http.MethodPost, job+"/stop", `{"why":"enough"}`).want(http.StatusOK)
	if st := ann.do(http.MethodGet, job+"/watch", "").lines(); st[len(st)-1]["state"] != "stopped" {
		t.Errorf("stopped: %v", st)
	}
	ann.do(http.MethodDelete, job+"?force=true", "").want(http.StatusOK)
}

// Inputs come line by line, in two ways, and the key of a job brings it back.
func TestLines(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	ann := w.as(t, "ann", auth.RoleUser)
	const job = `{"spec":{"command":{"args":["printf","%s"]}}}` + "\n"
	for media, body := range map[string]string{
		"application/x-ndjson":      job + "\"a b\"\n\n{\"base64\":\"/w==\"}\n\"\"",
		"application/x-navvy-lines": job + "a b\n\xff\n\n",
	} {
		key := "Idempotency-Key: " + media
		o := ann.do(http.MethodPost, "/v1/jobs", body, "Content-Type: "+media, key).want(http.StatusCreated)
		results := ann.do(http.MethodGet, fmt.Sprintf("/v1/jobs/%s/results?follow&inputs", o["id"]), "").lines()
		if len(results) != 3 {
			t.Fatalf("%s: %d results", media, len(results))
		}
		if b, _ := results[1]["stdout"].(map[string]any); results[0]["stdout"] != "a b" || b["base64"] != "/w==" || results[2]["input"] != "" {
			t.Errorf("%s: %v", media, results)
		}
		again := ann.do(http.MethodPost, "/v1/jobs", body, "Content-Type: "+media, key).want(http.StatusOK)
		if again["id"] != o["id"] || again["existed"] != true {
			t.Errorf("again: %v", again)
		}
		other := strings.Replace(body, "printf", "echo", 1)
		ann.do(http.MethodPost, "/v1/jobs", other, "Content-Type: "+media, key).fails(http.StatusConflict, "conflict")
	}
}

// Tasks of a stream of inputs run while it comes, and their results are read meanwhile.
func TestStream(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	ann := w.as(t, "ann", auth.RoleUser)
	in, feed := io.Pipe()
	submitted := make(chan map[string]any, 1)
	sender := *ann // its own answer comes last
	go func() {
		var o map[string]any
		_ = json.NewDecoder(sender.open(http.MethodPost, "/v1/jobs?stream", in, "Content-Type: application/x-ndjson")).Decode(&o)
		submitted <- o
	}()
	write := func(text string) {
		if _, err := io.WriteString(feed, text); err != nil {
			t.Fatal(err)
		}
	}
	write("{\"name\":\"live\",\"spec\":{\"command\":{\"args\":[\"echo\"]}}}\n\"one\"\n")
	id := ""
	for id == "" { // until the first input is durable
		for _, j := range ann.do(http.MethodGet, "/v1/jobs?name=live", "").want(http.StatusOK)["jobs"].([]any) {
			id = j.(map[string]any)["job"].(map[string]any)["id"].(string)
		}
	}
	results := bufio.NewScanner(ann.open(http.MethodGet, "/v1/jobs/"+id+"/results?follow", nil))
	for _, want := range []string{"one", "two"} {
		if !results.Scan() || !strings.Contains(results.Text(), `"stdout":"`+want+`\n"`) {
			t.Fatalf("result %s: %s %v", want, results.Text(), results.Err())
		}
		if want == "one" {
			write("\"two\"\n")
		}
	}
	if err := feed.Close(); err != nil {
		t.Fatal(err)
	}
	if o := <-submitted; o["id"] != id {
		t.Errorf("submitted: %v", o)
	}
	if results.Scan() || results.Err() != nil {
		t.Errorf("behind the last result: %s %v", results.Text(), results.Err())
	}
}

// Output is read while the task writes it.
func TestFollowOutput(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	ann := w.as(t, "ann", auth.RoleUser)
	gate := filepath.Join(t.TempDir(), "open")
	id := ann.submit([]string{"sh", "-c", "echo first; until test -e " + gate + "; do sleep 0.05; done; echo last"}, "a")
	out := bufio.NewScanner(ann.open(http.MethodGet, "/v1/jobs/"+id+"/tasks/0/output?stream=stdout&follow", nil))
	if !out.Scan() || out.Text() != "first" {
		t.Fatalf("%s %v", out.Text(), out.Err())
	}
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if !out.Scan() || out.Text() != "last" || out.Scan() || out.Err() != nil {
		t.Errorf("%s %v", out.Text(), out.Err())
	}
}

// What breaks off is not kept; of a stream, what came is, and the job says so.
func TestBrokenOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	ann := w.as(t, "ann", auth.RoleUser)
	for _, query := range []string{"", "?stream"} {
		in, feed := io.Pipe()
		failed := make(chan error, 1)
		go func() {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.base+"/v1/jobs"+query, in)
			if err == nil {
				req.Header = http.Header{"Content-Type": {"application/x-ndjson"}, "Authorization": {"Bearer " + ann.token}}
				var resp *http.Response
				if resp, err = ann.client.Do(req); err == nil {
					err = resp.Body.Close()
				}
			}
			failed <- err
		}()
		if _, err := io.WriteString(feed, `{"name":"broken","spec":{"noop":{}}}`+"\n\"one\"\n"); err != nil {
			t.Fatal(err)
		}
		list := func() []any {
			return ann.do(http.MethodGet, "/v1/jobs?name=broken", "").want(http.StatusOK)["jobs"].([]any)
		}
		for query != "" && len(list()) == 0 { // until the input is durable
		}
		_ = feed.CloseWithError(io.ErrUnexpectedEOF)
		if err := <-failed; err == nil {
			t.Error("a body that breaks off is answered")
		}
		if query == "" {
			if n := len(list()); n != 0 {
				t.Errorf("%d jobs are there", n)
			}
			continue
		}
		for {
			st := list()[0].(map[string]any)["status"].(map[string]any)
			if st["cut"] == true {
				break
			}
		}
	}
}

// Who leaves while inputs of a stream go out has given nothing up: the job is held with
// those that came, and never stopped.
func TestLeftInMidStream(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	ann := w.as(t, "ann", auth.RoleUser)
	const callers = 64
	var all sync.WaitGroup
	for range callers {
		all.Go(func() { leaveInMidStream(t, w.base, ann) })
	}
	all.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for tries := (pause.Series{First: 10 * time.Millisecond, Longest: time.Second}); ; {
		jobs := ann.do(http.MethodGet, "/v1/jobs?name=left", "").want(http.StatusOK)["jobs"].([]any)
		held := 0
		for _, job := range jobs {
			st := job.(map[string]any)["status"].(map[string]any)
			if st["counts"].(map[string]any)["stopped"] != 0.0 {
				t.Fatalf("a job was stopped: %v", st)
			}
			if st["cut"] == true {
				held++
			}
		}
		if len(jobs) != callers {
			t.Fatalf("%d jobs are there", len(jobs))
		}
		if held == callers {
			return
		}
		if err := tries.Wait(ctx); err != nil {
			t.Fatalf("%d of %d jobs are held: %v", held, callers, err)
		}
	}
}

// leaveInMidStream sends inputs without an end, and leaves when some are durable.
func leaveInMidStream(t *testing.T, base string, ann *caller) {
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	in, feed := io.Pipe()
	go func() {
		_, err := io.WriteString(feed, `{"name":"left","spec":{"noop":{}}}`+"\n")
		for err == nil {
			_, err = io.WriteString(feed, "\"one\"\n")
		}
	}()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/v1/jobs?stream", in)
	if err != nil {
		t.Error(err)
		return
	}
	req.Header = http.Header{"Content-Type": {"application/x-ndjson"}, "Accept": {"application/x-ndjson"}, "Authorization": {"Bearer " + ann.token}}
	resp, err := ann.client.Do(req)
	if err != nil {
		t.Error(err)
		return
	}
	for told := bufio.NewScanner(resp.Body); told.Scan() && !strings.Contains(told.Text(), "durable"); {
	}
	leave()
	_ = in.Close()
	_ = resp.Body.Close()
}

// One task runs, and its answer is that of the call.
func TestRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	ann := w.as(t, "ann", auth.RoleUser)
	const script = `{"spec":{"command":{"args":["sh","-c","echo $0; test $0 != bad"]}},"input":"%s"}`
	for input, state := range map[string]string{"good": "succeeded", "bad": "failed"} {
		r := ann.do(http.MethodPost, "/v1/run", fmt.Sprintf(script, input))
		if o := r.want(http.StatusOK); o["state"] != state || o["stdout"] != input+"\n" {
			t.Errorf("%s: %v", input, o)
		}
		if o := ann.do(http.MethodGet, r.header.Get("Location"), "").want(http.StatusOK); o["status"].(map[string]any)["state"] != state {
			t.Errorf("the job of %s: %v", input, o)
		}
	}
	for body, says := range map[string]string{`{"spec":{"noop":{}},"inputs":["a"]}`: "inputs", `{"input":"a"}`: "spec", `{"spec":{"command":{}}}`: "command", `{"spec":{"noop":{}},"input":1}`: "input"} {
		if text := ann.do(http.MethodPost, "/v1/run", body).fails(http.StatusBadRequest, "invalid"); !strings.Contains(text, says) {
			t.Errorf("%s: %s", body, text)
		}
	}
	w.as(t, "eve", auth.RoleViewer).do(http.MethodPost, "/v1/run", `{"spec":{"noop":{}}}`).fails(http.StatusForbidden, "denied")
}
