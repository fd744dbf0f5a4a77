package rest_test

import (
	"errors"
	"io"
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

// A server that leaves tells those who wait, and waits for none of them.
func TestLeaving(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	ann := w.as(t, "ann", auth.RoleUser)
	ann.do(http.MethodPut, "/v1/kv/a", "1").want(http.StatusOK)
	waits := ann.open(http.MethodGet, "/v1/watch/kv", nil)
	if _, err := io.ReadAtLeast(waits, make([]byte, 1), 1); err != nil {
		t.Fatal(err)
	}
	closed := make(chan error, 1)
	go func() {
		_, err := w.h.Close(t.Context(), true)
		closed <- err
	}()
	if rest, err := io.ReadAll(waits); err == nil || !strings.Contains(string(rest), `{"error":{"code":"unavailable"`) {
		t.Errorf("the stream ends with %s, %v", rest, err)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(w.dir + "/http.sock"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
	w.closed = true
}

// Many who wait and do not read are dropped in the end, and cost little until then.
func TestWhoDoesNotRead(t *testing.T) {
	t.Parallel()
	gate := auth.NewGate(nil)
	conn := holder.NewChannel(gate, nil)
	sent := &endless{stopped: make(chan struct{})}
	navvyv1.RegisterJobsServer(conn, sent)
	me := auth.Identity{Name: "ann", Role: auth.RoleUser}
	web := httptest.NewServer(rest.New(conn, func(*http.Request) (auth.Identity, error) { return me, nil }, &rest.Options{WriteTime: 50 * time.Millisecond}))
	t.Cleanup(web.Close)
	_ = newCaller(t, web.URL, "", &http.Transport{}).open(http.MethodGet, "/v1/jobs/000000000000/results", nil)
	select {
	case <-sent.stopped:
	case <-time.After(patience):
		t.Error("the results of who does not read go on")
	}
}

// endless sends results until nobody takes them.
type endless struct {
	navvyv1.UnimplementedJobsServer
	stopped chan struct{}
}

func (s *endless) Results(_ *navvyv1.ResultsRequest, stream grpc.ServerStreamingServer[navvyv1.ResultsResponse]) error {
	defer close(s.stopped)
	input := make([]byte, 64<<10)
	for i := int64(0); ; i++ {
		if err := stream.Send(&navvyv1.ResultsResponse{Results: []*navvyv1.Result{{Index: i, Input: input}}}); err != nil {
			return err
		}
	}
}
