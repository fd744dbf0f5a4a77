package rest_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
	"github.com/navvy-run/navvy/internal/holder"
	"github.com/navvy-run/navvy/server/auth"
	"github.com/navvy-run/navvy/server/rest"
)

// A call whose line is too long is refused, by its number if that comes first, and the
// others go on.
func TestLongCallLine(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	k := w.as(t, "ann", auth.RoleUser).talk("/v1/calls", upper)
	long := strings.Repeat("x", 17<<20)
	for _, c := range []struct {
		line   string
		number any
	}{
		{`{"number":1,"input":"` + long + `"}`, 1.0},
		{`{"idempotency_key":"k","number":"2","input":"` + long + `"}`, 2.0},
		{`{"input":"` + long + `","number":3}`, nil},
		{long, nil},
	} {
		k.say(c.line + "\n" + `{"number":9,"input":"good"}` + "\n")
		o := k.hear()
		if fail, _ := o["error"].(map[string]any); fail["code"] != "too_large" || o["number"] != c.number {
			t.Errorf("%.40s: %v", c.line, o)
		}
		if o := k.hear(); o["number"] != 9.0 || o["result"] == nil {
			t.Errorf("behind %.40s: %v", c.line, o)
		}
	}
	k.say(`{"job":{"name":"` + long + `"}}` + "\n" + `{"number":5}` + "\n")
	if o := k.hear(); o["number"] != 5.0 || o["error"] == nil {
		t.Errorf("a call of a job that is too long: %v", o)
	}
}

// What was read whole of a body that breaks off is done.
func TestCallsBreakOff(t *testing.T) {
	t.Parallel()
	const n = 90
	w := newWorld(t, false)
	ann := w.as(t, "ann", auth.RoleUser)
	lines := `{"job":{"name":"broken","spec":{"noop":{}}}}` + "\n"
	for i := range n {
		lines += fmt.Sprintf("{\"number\":%d}\n", i)
	}
	lines += `{"number":90`
	conn := dial(t, w.base)
	_, err := fmt.Fprintf(conn, "POST /v1/calls HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nContent-Type: application/x-ndjson\r\nContent-Length: 1000000\r\n\r\n%s", ann.token, lines)
	if err == nil {
		err = conn.CloseWrite()
	}
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, conn) // the answer, which has no end
	if list := ann.do(http.MethodGet, "/v1/jobs?name=broken", "").want(http.StatusOK)["jobs"].([]any); len(list) != n {
		t.Errorf("%d of %d calls are jobs", len(list), n)
	}
}

func dial(t *testing.T, base string) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return conn.(*net.TCPConn)
}

// A line that has begun has to go on; one that has not may take its time.
func TestHalfLine(t *testing.T) {
	t.Parallel()
	conn := holder.NewChannel(auth.NewGate(nil), nil)
	navvyv1.RegisterJobsServer(conn, silent{})
	me := auth.Identity{Name: "ann", Role: auth.RoleUser}
	web := httptest.NewServer(rest.New(conn, func(*http.Request) (auth.Identity, error) { return me, nil }, &rest.Options{BodyTime: 50 * time.Millisecond}))
	t.Cleanup(web.Close)
	for _, half := range []string{`{"number":`, strings.Repeat(" ", 100<<10)} {
		out := dial(t, web.URL)
		if _, err := fmt.Fprintf(out, "POST /v1/calls HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\nContent-Length: 1000000\r\n\r\n%s", half); err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(out)
		if err != nil || !strings.Contains(string(text), "the body ends early") {
			t.Errorf("%s, %v", text, err)
		}
	}
}

// silent takes calls and answers none.
type silent struct {
	navvyv1.UnimplementedJobsServer
}

func (silent) Run(stream navvyv1.Jobs_RunServer) error {
	for {
		if _, err := stream.Recv(); err != nil {
			return nil //nolint:nilerr // no more come
		}
	}
}

// One caller has so many connections of calls, and others have theirs.
func TestManyCallConnections(t *testing.T) {
	t.Parallel()
	const bound = 64
	w := newWorld(t, false)
	ann, bob := w.as(t, "ann", auth.RoleUser), w.as(t, "bob", auth.RoleUser)
	var open []*talk
	for range bound {
		open = append(open, ann.talk("/v1/calls", ""))
	}
	ann.do(http.MethodPost, "/v1/calls", upper, "Content-Type: application/x-ndjson").fails(http.StatusServiceUnavailable, "unavailable")
	bob.do(http.MethodPost, "/v1/calls", upper, "Content-Type: application/x-ndjson").want(http.StatusOK)
	if err := open[0].feed.Close(); err != nil {
		t.Fatal(err)
	}
	if open[0].hear() != nil {
		t.Error("an answer to nothing")
	}
}
