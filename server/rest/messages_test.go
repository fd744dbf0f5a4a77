package rest_test

import (
	"net/http"
	"testing"

	"github.com/navvy-run/navvy/server/auth"
)

// Messages are sent, looked at and purged; the calls of the response side are there.
func TestMessages(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	ann, bob, root := w.as(t, "ann", auth.RoleUser), w.as(t, "bob", auth.RoleUser), w.as(t, "root", auth.RoleAdmin)
	const path = "/v1/queues/a%2Fb/messages"
	ann.do(http.MethodPost, path, `{"messages": [{"body": "x"}]}`).fails(http.StatusNotFound, "not_found")
	root.do(http.MethodPut, "/v1/queues/a%2Fb", `{"work": {"service": {"form": "echo"}}}`).want(http.StatusOK)
	root.do(http.MethodPost, "/v1/queues/a%2Fb/pause", "").want(http.StatusOK)
	sent := ann.do(http.MethodPost, path, `{"messages": [{"correlation_id": "c", "body": "x"}, {"body": {"base64": "/wA="}}], "idempotency_key": "k"}`).want(http.StatusOK)
	ids := sent["ids"].([]any)
	if len(ids) != 2 {
		t.Fatalf("sent: %v", sent)
	}
	if again := ann.do(http.MethodPost, path, `{"messages": [{"body": "x"}, {"body": "y"}], "idempotency_key": "k"}`).want(http.StatusOK); again["existed"] != true || again["ids"].([]any)[1] != ids[1] {
		t.Errorf("sent again: %v", again)
	}
	list := ann.do(http.MethodGet, path+"?side=requests", "").want(http.StatusOK)["messages"].([]any)
	if first := list[0].(map[string]any); len(list) != 2 || first["id"] != ids[0] || first["correlation_id"] != "c" || first["body"] != "x" {
		t.Errorf("requests: %v", list)
	}
	if none := bob.do(http.MethodGet, path+"?side=requests", "").want(http.StatusOK)["messages"]; none != nil && len(none.([]any)) > 0 {
		t.Errorf("bob sees %v", none)
	}
	ann.do(http.MethodPost, path+"/receive", `{"max": 5, "lease": "10s", "wait": "0.01s"}`).want(http.StatusOK)
	ann.do(http.MethodPost, path+"/receive", `{"lease": "10ms"}`).fails(http.StatusBadRequest, "invalid")
	ann.do(http.MethodPost, path+"/ack", `{"receipts": ["0123456789ab/0.0.1.1"]}`).want(http.StatusOK)
	ann.do(http.MethodPost, path+"/release", `{"receipts": ["0123456789ab/0.0.1.1"], "delay": "1s"}`).want(http.StatusOK)
	ann.do(http.MethodPost, path+"/redrive", `{}`).want(http.StatusOK)
	ann.do(http.MethodPost, path+"/purge", `{}`).fails(http.StatusBadRequest, "invalid")
	if purged := ann.do(http.MethodPost, path+"/purge", `{"side": "requests"}`).want(http.StatusOK); purged["messages"] != float64(2) {
		t.Errorf("purged: %v", purged)
	}
}
