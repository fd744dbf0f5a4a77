package rest_test

import (
	"bufio"
	"encoding/json"
	"net/http"
	"testing"

	"github.com/navvy-run/navvy/server/auth"
)

// Values are bytes; their ETags compare and set.
func TestValues(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	ann, bob := w.as(t, "ann", auth.RoleUser), w.as(t, "bob", auth.RoleUser)
	const path = "/v1/kv/a/b%2F%2Fc"
	first := ann.do(http.MethodPut, path, "\xff\x00", "If-None-Match: *", "Content-Type: application/octet-stream")
	first.want(http.StatusOK)
	ann.do(http.MethodPut, path, "other", "If-None-Match: *").fails(http.StatusPreconditionFailed, "precondition_failed")
	got := ann.do(http.MethodGet, path, "")
	if got.want(http.StatusOK); got.body != "\xff\x00" || got.header.Get("ETag") != first.header.Get("ETag") {
		t.Errorf("got %q, %v", got.body, got.header)
	}
	tag := got.header.Get("ETag")
	ann.do(http.MethodGet, path, "", "If-None-Match: "+tag).want(http.StatusNotModified)
	second := ann.do(http.MethodPut, path, "2", "If-Match: "+tag)
	second.want(http.StatusOK)
	ann.do(http.MethodPut, path, "3", "If-Match: "+tag).fails(http.StatusPreconditionFailed, "precondition_failed")
	ann.do(http.MethodDelete, path, "", "If-Match: "+tag).fails(http.StatusPreconditionFailed, "precondition_failed")
	if got := ann.do(http.MethodGet, path, ""); got.body != "2" {
		t.Errorf("after what was refused: %q", got.body)
	}
	bob.do(http.MethodGet, path, "").fails(http.StatusNotFound, "not_found")
	bob.do(http.MethodGet, path+"?owner=ann", "").fails(http.StatusForbidden, "denied")
	ann.do(http.MethodPut, "/v1/kv/empty", "").want(http.StatusOK)
	list := ann.do(http.MethodGet, "/v1/kv?prefix=a/", "").want(http.StatusOK)["values"].([]any)
	if len(list) != 1 || list[0].(map[string]any)["key"] != "a/b//c" || list[0].(map[string]any)["value"] != "2" {
		t.Errorf("list: %v", list)
	}
	ann.do(http.MethodDelete, path, "", "If-Match: "+second.header.Get("ETag")).want(http.StatusOK)
	ann.do(http.MethodGet, path, "").fails(http.StatusNotFound, "not_found")
}

// A watch tells what there is, and each change.
func TestWatchValues(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	ann := w.as(t, "ann", auth.RoleUser)
	ann.do(http.MethodPut, "/v1/kv/a", "1").want(http.StatusOK)
	lines := bufio.NewScanner(ann.open(http.MethodGet, "/v1/watch/kv", nil))
	next := func(want string) {
		for {
			if !lines.Scan() {
				t.Fatalf("the watch ends: %v", lines.Err())
			}
			var m struct {
				Changes []struct {
					Key, Value string
					Deleted    bool
				}
			}
			if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
				t.Fatal(err)
			}
			for _, c := range m.Changes {
				if got := c.Key + "=" + c.Value; got == want {
					return
				}
			}
		}
	}
	next("a=1")
	ann.do(http.MethodPut, "/v1/kv/b", "2").want(http.StatusOK)
	next("b=2")
	ann.do(http.MethodDelete, "/v1/kv/a", "").want(http.StatusOK)
	next("a=")
}
