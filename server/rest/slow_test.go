package rest_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
	"github.com/navvy-run/navvy/internal/holder"
	"github.com/navvy-run/navvy/server/auth"
	"github.com/navvy-run/navvy/server/rest"
)

// Somebody without a token who announces a body and sends none is answered, and does
// not stay.
func TestSilentBody(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	for call, want := range map[string]int{
		"POST /v1/jobs": http.StatusUnauthorized, "GET /v1/jobs": http.StatusUnauthorized, "POST /v1/whoami": http.StatusMethodNotAllowed,
		"GET /healthz": http.StatusBadRequest, "POST /healthz": http.StatusBadRequest,
	} {
		t.Run(call, func(t *testing.T) {
			t.Parallel()
			conn, err := net.Dial("tcp", strings.TrimPrefix(w.base, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
				t.Fatal(err)
			}
			if _, err := fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\nContent-Type: application/json\r\n\r\n", call); err != nil {
				t.Fatal(err)
			}
			r := bufio.NewReader(conn)
			resp, err := http.ReadResponse(r, nil)
			if err != nil {
				t.Fatalf("there is no answer: %v", err)
			}
			if resp.StatusCode != want {
				t.Errorf("status %d, want %d", resp.StatusCode, want)
			}
			if _, err := io.Copy(io.Discard, resp.Body); err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if _, err := r.ReadByte(); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("the connection stays: %v", err)
			}
		})
	}
}

// Who has said who it is may wait for longer than a server gives strangers.
func TestLongCall(t *testing.T) {
	t.Parallel()
	conn := holder.NewChannel(auth.NewGate(nil), nil)
	const patient = 100 * time.Millisecond
	navvyv1.RegisterJobsServer(conn, late{after: 10 * patient})
	me := auth.Identity{Name: "ann", Role: auth.RoleUser}
	web := httptest.NewUnstartedServer(rest.New(conn, func(*http.Request) (auth.Identity, error) { return me, nil }, nil))
	web.Config.ReadTimeout = patient
	web.Start()
	t.Cleanup(web.Close)
	for _, body := range []string{"", "{}"} {
		c := newCaller(t, web.URL, "", &http.Transport{})
		var in io.Reader
		if body != "" {
			in = strings.NewReader(body)
		}
		if b, err := io.ReadAll(c.open(http.MethodGet, "/v1/jobs/000000000000/results", in)); err != nil || !strings.Contains(string(b), `"index"`) {
			t.Errorf("with the body %q: %s, %v", body, b, err)
		}
	}
}

// late sends a result after some time, if the call is not over by then.
type late struct {
	navvyv1.UnimplementedJobsServer
	after time.Duration
}

func (s late) Results(_ *navvyv1.ResultsRequest, stream grpc.ServerStreamingServer[navvyv1.ResultsResponse]) error {
	select {
	case <-stream.Context().Done():
		return stream.Context().Err()
	case <-time.After(s.after):
		return stream.Send(&navvyv1.ResultsResponse{Results: []*navvyv1.Result{{Index: 1}}})
	}
}

// Who waits for inputs that do not come is told when the token is revoked.
func TestRevokedBetweenLines(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	ann := w.as(t, "ann", auth.RoleUser)
	conn, err := net.Dial("tcp", strings.TrimPrefix(w.base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	const lines = `{"spec":{"noop":{}}}` + "\n\"a\"\n"
	_, err = fmt.Fprintf(conn, "POST /v1/jobs?stream HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nContent-Type: application/x-ndjson\r\nContent-Length: 100\r\n\r\n%s", ann.token, lines)
	if err != nil {
		t.Fatal(err)
	}
	jobs := func() int { return len(ann.do(http.MethodGet, "/v1/jobs", "").want(http.StatusOK)["jobs"].([]any)) }
	for begun := time.Now(); jobs() == 0; {
		if time.Since(begun) > patience {
			t.Fatal("there is no job")
		}
	}
	for _, token := range ann.do(http.MethodGet, "/v1/tokens", "").want(http.StatusOK)["tokens"].([]any) {
		ann.do(http.MethodDelete, "/v1/tokens/"+token.(map[string]any)["id"].(string), "").want(http.StatusOK)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("there is no answer: %v", err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusForbidden || !strings.Contains(string(body), "was revoked") {
		t.Errorf("status %d, %s, %v", resp.StatusCode, body, err)
	}
}
