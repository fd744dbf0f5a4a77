package rest_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/navvy-run/navvy/server/auth"
)

// talk is a call whose lines go in both directions.
type talk struct {
	t    *testing.T
	feed *io.PipeWriter
	in   *bufio.Scanner
	path string
}

func (c *caller) talk(path, first string, headers ...string) *talk {
	c.t.Helper()
	in, feed := io.Pipe()
	c.t.Cleanup(func() { _ = feed.Close() })
	go func() { _, _ = io.WriteString(feed, first) }() // if it fails, there is no answer
	headers = append([]string{"Content-Type: application/x-ndjson", "Accept: application/x-ndjson"}, headers...)
	return &talk{t: c.t, feed: feed, in: bufio.NewScanner(c.open(http.MethodPost, path, in, headers...)), path: path}
}

func (k *talk) say(lines string) {
	k.t.Helper()
	if _, err := io.WriteString(k.feed, lines); err != nil {
		k.t.Fatal(err)
	}
}

// hear gives the next line, as the document has it; nil behind the last.
func (k *talk) hear() map[string]any {
	k.t.Helper()
	if !k.in.Scan() {
		return nil
	}
	var o map[string]any
	if err := json.Unmarshal(k.in.Bytes(), &o); err != nil {
		k.t.Fatalf("%v: %s", err, k.in.Text())
	}
	op := operationOf(k.t, http.MethodPost, k.path)
	status := "200"
	if strings.HasPrefix(k.path, "/v1/jobs") {
		status = "201"
	}
	checkValue(k.t, op.Responses.Value(status).Value.Content.Get("application/x-ndjson").Schema.Value, k.in.Text())
	return o
}

const upper = `{"job":{"spec":{"command":{"args":["sh","-c","printf %s \"$0\" | tr a-z A-Z"]}}}}` + "\n"

// Calls are answered while others still come, over HTTP/1.1 and HTTP/2.
func TestCalls(t *testing.T) {
	t.Parallel()
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprintf("secure=%t", secure), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, secure)
			var ann *caller
			if secure {
				config := &tls.Config{Certificates: []tls.Certificate{*w.cert(t, auth.Subject{Name: "ann", Role: auth.RoleUser})}, RootCAs: w.ca.Pool(), ServerName: "127.0.0.1", MinVersion: tls.VersionTLS13}
				ann = newCaller(t, w.base, "", &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true})
			} else {
				ann = w.as(t, "ann", auth.RoleUser)
			}
			testCalls(t, ann)
		})
	}
}

func testCalls(t *testing.T, ann *caller) {
	t.Helper()
	k := ann.talk("/v1/calls", upper)
	for i, input := range []string{`"one"`, `{"base64":"dHdv"}`, `"three"`} {
		k.say(fmt.Sprintf("{\"number\":%d,\"input\":%s}\n", i, input))
		want := strings.ToUpper([]string{"one", "two", "three"}[i])
		if o := k.hear(); o["number"] != float64(i) || o["result"].(map[string]any)["stdout"] != want {
			t.Errorf("call %d: %v", i, o)
		}
	}
	k.say(`{"number":7,"notify":true,"input":"told","idempotency_key":"k"}` + "\n")
	first := k.hear()
	if first["accepted"] != true || first["number"] != 7.0 {
		t.Errorf("before its answer: %v", first)
	}
	if o := k.hear(); o["id"] != first["id"] || o["result"].(map[string]any)["stdout"] != "TOLD" {
		t.Errorf("its answer: %v", o)
	}
	k.say(`{"number":8,"input":"again","idempotency_key":"k"}` + "\n")
	if o := k.hear(); o["id"] != first["id"] || o["result"].(map[string]any)["stdout"] != "TOLD" {
		t.Errorf("again: %v", o)
	}
	testLastCalls(t, ann, k)
}

// testLastCalls sees that calls are answered behind the last line.
func testLastCalls(t *testing.T, ann *caller, k *talk) {
	t.Helper()
	k.say(`{"job":{"name":"other","spec":{"noop":{}}}}` + "\n" + `{"number":9}` + "\n" + `{"number":10}` + "\n")
	if err := k.feed.Close(); err != nil {
		t.Fatal(err)
	}
	seen := map[any]bool{}
	for o := k.hear(); o != nil; o = k.hear() {
		seen[o["number"]] = o["result"].(map[string]any)["state"] == "succeeded"
	}
	if err := k.in.Err(); err != nil || len(seen) != 2 || !seen[9.0] || !seen[10.0] {
		t.Errorf("at the end: %v %v", seen, err)
	}
	if list := ann.do(http.MethodGet, "/v1/jobs?name=other", "").want(http.StatusOK)["jobs"].([]any); len(list) != 2 {
		t.Errorf("%d jobs", len(list))
	}
}

// A call that is wrong is refused by its number, and the others go on.
func TestBadCalls(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	k := w.socket(t).talk("/v1/calls", `{"number":1}`+"\n")
	for _, c := range []struct{ line, says string }{
		{"", "there is no job for this call"},
		{upper + `{"number":2,"input":3}`, "want a string"},
		{`{"number":2,"inputs":"a"}`, "unknown field inputs"},
		{`{"number":2,"notify":"a"}`, "notify"},
		{`{"job":{"spec":{"nothing":{}}}}` + "\n" + `{"number":2}`, "unknown field spec.nothing"},
		{`{"job":7}` + "\n" + `{"number":2}`, "want an object"},
		{`{"job":{"idempotency_key":"k","spec":{"noop":{}}}}` + "\n" + `{"number":2}`, "each call has its own"},
		{`{"job":{"spec":{"function":{"name":"none","encoding":"json"}}}}` + "\n" + `{"number":2}`, "none"},
		{`{"job":{"spec":{"command":{}}}}` + "\n" + `{"number":2}`, "command"},
	} {
		if c.line != "" {
			k.say(c.line + "\n")
		}
		fail, _ := k.hear()["error"].(map[string]any)
		if text, _ := fail["message"].(string); !strings.Contains(text, c.says) || fail["code"] == "" {
			t.Errorf("%s: %v", c.line, fail)
		}
	}
	k.say(upper + `{"number":3,"input":"good"}` + "\n")
	if o := k.hear(); o["number"] != 3.0 || o["result"] == nil {
		t.Errorf("behind them: %v", o)
	}
	k.say("nonsense\n")
	if o := k.hear(); o["error"] == nil || o["number"] != nil || k.hear() != nil || k.in.Err() == nil {
		t.Errorf("nonsense: %v", o)
	}
	ann := w.as(t, "ann", auth.RoleUser)
	ann.do(http.MethodPost, "/v1/calls?a", upper, "Content-Type: application/x-ndjson").fails(http.StatusBadRequest, "invalid")
	ann.do(http.MethodPost, "/v1/calls", "{}").fails(http.StatusUnsupportedMediaType, "unsupported_media_type")
	newCaller(t, w.base, "", &http.Transport{}).do(http.MethodPost, "/v1/calls", upper, "Content-Type: application/x-ndjson").fails(http.StatusUnauthorized, "unauthenticated")
}

// Who may not call is told at once, not when the lines have ended.
func TestCallsOfNobody(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	in, feed := io.Pipe()
	defer feed.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	began := time.Now()
	resp := newCaller(t, w.base, "", &http.Transport{}).send(ctx, http.MethodPost, "/v1/calls", in, "Content-Type: application/x-ndjson")
	if took := time.Since(began); resp.StatusCode != http.StatusUnauthorized || took > 4*time.Second {
		t.Errorf("status %d after %v", resp.StatusCode, took)
	}
	_ = resp.Body.Close()
}

// What was called goes on when the caller leaves.
func TestCallerLeaves(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	ann := w.as(t, "ann", auth.RoleUser)
	k := ann.talk("/v1/calls", `{"job":{"spec":{"command":{"args":["sh","-c","sleep 0.3; echo done"]}}}}`+"\n"+`{"number":1,"notify":true}`+"\n")
	id := k.hear()["id"].(string)
	_ = k.feed.CloseWithError(io.ErrUnexpectedEOF)
	if k.hear() != nil {
		t.Error("there is an answer behind a body that broke off")
	}
	if list := ann.do(http.MethodGet, "/v1/jobs/"+id+"/results?follow", "").lines(); len(list) != 1 || list[0]["stdout"] != "done\n" {
		t.Errorf("its results: %v", list)
	}
}

// Whose token is revoked is told in the midst of waiting for calls to make.
func TestRevokedBetweenCalls(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	ann := w.as(t, "ann", auth.RoleUser)
	k := ann.talk("/v1/calls", upper+`{"number":1}`+"\n")
	if k.hear()["result"] == nil {
		t.Fatal("no answer")
	}
	for _, token := range ann.do(http.MethodGet, "/v1/tokens", "").want(http.StatusOK)["tokens"].([]any) {
		ann.do(http.MethodDelete, "/v1/tokens/"+token.(map[string]any)["id"].(string), "").want(http.StatusOK)
	}
	if fail, _ := k.hear()["error"].(map[string]any); fail["code"] != "denied" || k.hear() != nil {
		t.Errorf("told: %v", fail)
	}
}

// Who streams inputs is told of the job at the first, of more as they come, and last how
// it stands.
func TestToldWhileSubmitting(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	for _, ann := range []*caller{w.as(t, "ann", auth.RoleUser), w.socket(t)} {
		key := "Idempotency-Key: once"
		k := ann.talk("/v1/jobs?stream", `{"spec":{"command":{"args":["echo"]}}}`+"\n\"one\"\n", key)
		id, _ := k.hear()["id"].(string)
		results := bufio.NewScanner(ann.open(http.MethodGet, "/v1/jobs/"+id+"/results?follow", nil))
		for i, input := range []string{"one", "two", "three"} {
			if i > 0 {
				k.say(`"` + input + "\"\n")
				if o := k.hear(); o["durable"] != float64(i+1) {
					t.Errorf("durable: %v", o)
				}
			}
			if !results.Scan() || !strings.Contains(results.Text(), `"stdout":"`+input+`\n"`) {
				t.Fatalf("%s: %s %v", input, results.Text(), results.Err())
			}
		}
		if err := k.feed.Close(); err != nil {
			t.Fatal(err)
		}
		if o := k.hear(); o["job"] == nil || o["status"].(map[string]any)["open"] != false || k.hear() != nil || k.in.Err() != nil {
			t.Errorf("last: %v %v", o, k.in.Err())
		}
		again := ann.do(http.MethodPost, "/v1/jobs?stream", `{"spec":{"command":{"args":["echo"]}}}`, key, "Content-Type: application/x-ndjson", "Accept: text/html, application/x-ndjson")
		if list := again.lines(); len(list) != 2 || list[0]["id"] != id || list[0]["existed"] != true {
			t.Errorf("again: %v", list)
		}
	}
}

// The code of a function may be as large as the domain has it.
func TestLargeFunction(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	ann := w.as(t, "ann", auth.RoleUser)
	body := func(size int) string {
		return `{"name":"large","form":"source","entry":"f","code":"` + strings.Repeat("#\\n", size/2) + `"}`
	}
	if o := ann.do(http.MethodPost, "/v1/functions", body(1000<<10)).want(http.StatusOK); o["size"] != float64(1000<<10) {
		t.Errorf("registered: %v", o["size"])
	}
	ann.do(http.MethodPost, "/v1/functions", body(1002<<10)).fails(http.StatusBadRequest, "invalid")
	ann.do(http.MethodPost, "/v1/functions", body(2<<20)).fails(http.StatusRequestEntityTooLarge, "too_large")
}
