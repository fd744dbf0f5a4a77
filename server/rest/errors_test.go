package rest_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/navvy-run/navvy/server/auth"
)

// What is wrong with a call is told in JSON, by name.
func TestErrors(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	ann := w.as(t, "ann", auth.RoleUser)
	const job = `{"spec":{"noop":{}},"inputs":["a"]}`
	large := `{"spec":{"noop":{}},"inputs":["` + strings.Repeat("a", 9<<20) + `"]}`
	for _, c := range []struct {
		method, path, body, header string
		status                     int
		code, says                 string
	}{
		{"POST", "/v1/jobs", `{"sped":{}}`, "", 400, "invalid", "unknown field sped; there is id, name,"},
		{"POST", "/v1/jobs", `{"spec":{"command":{"arg":[]}}}`, "", 400, "invalid", "unknown field spec.command.arg; there is args,"},
		{"POST", "/v1/jobs", `{"spec":{"command":{"args":["a",1]}}}`, "", 400, "invalid", "spec.command.args[1]: want a string"},
		{"POST", "/v1/jobs", `{"spec":{"noop":{},"command":{}}}`, "", 400, "invalid", "give one of them"},
		{"POST", "/v1/jobs", `{"spec":{"noop":{},"timeout":"soon"},"inputs":["a"]}`, "", 400, "invalid", "spec.timeout: want a duration"},
		{"POST", "/v1/jobs", `{"spec":{},"inputs":["a"]}`, "", 400, "invalid", "want a kind of work"},
		{"POST", "/v1/jobs", `{"spec":{"noop":{}},"inputs":[{"base64":"?"}]}`, "", 400, "invalid", "inputs[0]: want a string, or"},
		{"POST", "/v1/jobs", `{"spec":{"noop":{}},"inputs":[]}`, "", 400, "invalid", ""},
		{"POST", "/v1/jobs", `{"spec":{"noop":{}},"priority":1e3,"inputs":["a"]}`, "", 400, "invalid", "priority: want an integer of 32 bits"},
		{"POST", "/v1/jobs", `{"owner":"bob","spec":{"noop":{}},"inputs":["a"]}`, "", 400, "invalid", "owner: the server gives it"},
		{"POST", "/v1/jobs", `{"id":"000000000000","spec":{"noop":{}},"inputs":["a"]}`, "", 400, "invalid", "id: the server gives it"},
		{"POST", "/v1/run", `{"accepted":"2026-11-22T08:00:00Z","spec":{"noop":{}},"input":"a"}`, "", 400, "invalid", "accepted: the server gives it"},
		{"POST", "/v1/jobs", `{"detached":false,"spec":{"noop":{}},"inputs":["a"]}`, "", 400, "invalid", "detached: "},
		{"POST", "/v1/jobs", `{"name":"a","name":"b","spec":{"noop":{}},"inputs":["a"]}`, "", 400, "invalid", "name: it is there twice"},
		{"POST", "/v1/jobs", `{"spec":{"command":{"args":["a"],"args":["b"]}},"inputs":["a"]}`, "", 400, "invalid", "args: it is there twice"},
		{"POST", "/v1/jobs", `{"spec":{"noop":{}},"inputs":["a"],"inputs":["b"]}`, "", 400, "invalid", "inputs: it is there twice"},
		{"GET", "/v1/jobs?limit=-1", "", "", 400, "invalid", "parameter limit: want an integer, not below 0"},
		{"POST", "/v1/jobs", `{"spec":`, "", 400, "invalid", "no JSON"},
		{"POST", "/v1/jobs", job + "{}", "", 400, "invalid", "more behind"},
		{"POST", "/v1/jobs", `[]`, "", 400, "invalid", "want a JSON object"},
		{"POST", "/v1/jobs?steam", job, "", 400, "invalid", "unknown parameter steam"},
		{"POST", "/v1/jobs", large, "", 413, "too_large", "line by line, as application/x-ndjson"},
		{"POST", "/v1/jobs", job, "Content-Type: text/plain", 415, "unsupported_media_type", "want application/json or"},
		{"POST", "/v1/jobs", job, "Content-Type: application/x-www-form-urlencoded", 415, "unsupported_media_type", ""},
		{"POST", "/v1/jobs", job + "\n\"a\"\n", "Content-Type: application/x-ndjson", 400, "invalid", "line by line behind the job"},
		{"POST", "/v1/jobs", "{\"spec\":{\"noop\":{}}}\n\"a\"\nb\n", "Content-Type: application/x-ndjson", 400, "invalid", "line 3: "},
		{"POST", "/v1/jobs", "{\"spec\":{\"noop\":{}}}\n\"a\"\n7\n", "Content-Type: application/x-ndjson", 400, "invalid", "line 3: want a string"},
		{"POST", "/v1/jobs", strings.Repeat(" ", 2<<20), "Content-Type: application/x-ndjson", 413, "too_large", "a line has more than"},
		{"POST", "/v1/jobs", "{\"spec\":{\"noop\":{}}}\n" + strings.Repeat("a", 17<<20), "Content-Type: application/x-navvy-lines", 413, "too_large", "a line has more than"},
		{"POST", "/v1/jobs/000000000000/hold", `{"id":"000000000001"}`, "", 400, "invalid", "unknown field id; there is interrupt, why"},
		{"POST", "/v1/jobs/000000000000/hold", strings.Repeat(" ", 2<<20), "", 413, "too_large", ""},
		{"POST", "/v1/jobs/000000000000/hold?why=x", "", "", 400, "invalid", "unknown parameter why"},
		{"GET", "/v1/jobs/000000000000", "", "", 404, "not_found", "job 000000000000"},
		{"GET", "/v1/jobs/short", "", "", 400, "invalid", ""},
		{"GET", "/v1/jobs?limit=many", "", "", 400, "invalid", "parameter limit: want an integer"},
		{"GET", "/v1/jobs?state=done", "", "", 400, "invalid", "want one of unspecified, queued,"},
		{"GET", "/v1/jobs?limit=1&limit=2", "", "", 400, "invalid", "give it once"},
		{"GET", "/v1/jobs/000000000000/tasks/first", "", "", 400, "invalid", "index: want an integer"},
		{"GET", "/v1/jobs/000000000000/tasks/0/output?stream=stdin", "", "", 400, "invalid", "want stdout, stderr or both, or value"},
		{"GET", "/v1/jobs/000000000000/results?follow=maybe", "", "", 400, "invalid", "want true or false"},
		{"GET", "/v1/workers/nobody", "", "", 404, "not_found", "worker nobody"},
		{"GET", "/v1/kv/none", "", "", 404, "not_found", ""},
		{"PUT", "/v1/kv/k", strings.Repeat("a", 1<<20+1), "", 413, "too_large", ""},
		{"PUT", "/v1/kv/k", "a", "If-Match: 17", 400, "invalid", "in quotes"},
		{"GET", "/v1/nothing", "", "", 404, "not_found", "there is no such route"},
		{"PATCH", "/v1/jobs", "{}", "", 405, "method_not_allowed", "want POST or GET"},
		{"PUT", "/v1/queues/q", "{}", "", 403, "denied", "role user"},
		{"GET", "/v1/certificates", "", "", 403, "denied", ""},
	} {
		headers := []string{}
		if c.header != "" {
			headers = append(headers, c.header)
		}
		if got := ann.do(c.method, c.path, c.body, headers...).fails(c.status, c.code); !strings.Contains(got, c.says) || strings.HasSuffix(got, ": invalid") || strings.HasSuffix(got, ": permission denied") {
			t.Errorf("%s %s %.80s: %q does not say %q", c.method, c.path, c.body, got, c.says)
		}
	}
	if jobs := ann.do(http.MethodGet, "/v1/jobs", "").want(http.StatusOK)["jobs"].([]any); len(jobs) != 0 {
		t.Errorf("%d jobs are there: %v", len(jobs), jobs)
	}
}

// Admins steer queues, workers, certificates; a queue that is there is not made again.
func TestAdmin(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	admin := w.as(t, "root", auth.RoleAdmin)
	const queue = "/v1/queues/gpu"
	admin.do(http.MethodPatch, queue, `{"rate":2.5}`).fails(http.StatusNotFound, "not_found")
	admin.do(http.MethodPut, queue, `{"concurrency":3}`).want(http.StatusOK)
	admin.do(http.MethodPut, queue, `{}`).fails(http.StatusConflict, "exists")
	admin.do(http.MethodPatch, queue, `{"rate":2.5}`).want(http.StatusOK)
	admin.do(http.MethodPost, queue+"/pause", "").want(http.StatusOK)
	o := admin.do(http.MethodPost, queue+"/resume", "{}").want(http.StatusOK)["settings"].(map[string]any)
	if o["concurrency"] != 3.0 || o["rate"] != 2.5 || o["paused"] != false {
		t.Errorf("settings: %v", o)
	}
	admin.do(http.MethodDelete, queue, "").want(http.StatusOK)
	var list []any
	eventually(t, "the worker is there", func() bool {
		list, _ = admin.do(http.MethodGet, "/v1/workers", "").want(http.StatusOK)["workers"].([]any)
		return len(list) > 0
	})
	name := list[0].(map[string]any)["status"].(map[string]any)["name"].(string)
	if o := admin.do(http.MethodGet, "/v1/workers/"+name, "").want(http.StatusOK); o["state"] != "ready" {
		t.Errorf("worker: %v", o)
	}
	admin.do(http.MethodPost, "/v1/workers/nobody/drain", "").fails(http.StatusNotFound, "not_found")
	admin.do(http.MethodPost, "/v1/certificates/revoke", `{"name":"nobody"}`).fails(http.StatusNotFound, "not_found")
	admin.do(http.MethodGet, "/v1/certificates", "").want(http.StatusOK)
	if o := admin.do(http.MethodGet, "/v1/overview", "").want(http.StatusOK); o["version"] != "test" {
		t.Errorf("overview: %v", o)
	}
	for _, call := range []string{"/navvy.v1.Queues/Set", "/navvy.v1.Identity/Revoke"} {
		if log := w.log.String(); !strings.Contains(log, `msg="admin action" name=root role=admin`) || !strings.Contains(log, "method="+call+" from=127.0.0.1:") {
			t.Errorf("%s is not in the audit log:\n%s", call, log)
		}
	}
}
