package rest_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"google.golang.org/grpc"

	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
	"github.com/navvy-run/navvy/internal/holder"
	"github.com/navvy-run/navvy/server/auth"
	"github.com/navvy-run/navvy/server/rest"
)

// sink takes submissions and keeps nothing of them.
type sink struct {
	navvyv1.UnimplementedJobsServer
	inputs int
	peak   uint64 // of live memory, while inputs came
}

func (s *sink) Submit(stream grpc.BidiStreamingServer[navvyv1.SubmitRequest, navvyv1.SubmitResponse]) error {
	if _, err := stream.Recv(); err != nil {
		return err
	}
	if err := stream.Send(&navvyv1.SubmitResponse{Part: &navvyv1.SubmitResponse_Durable{}}); err != nil {
		return err
	}
	for pieces := 0; ; pieces++ {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		if m.GetSeal() != nil {
			return stream.Send(&navvyv1.SubmitResponse{Part: &navvyv1.SubmitResponse_Accepted{Accepted: &navvyv1.Accepted{Id: "000000000000"}}})
		}
		if s.inputs += len(m.GetInputs().GetInputs()); pieces%10 == 0 {
			s.peak = max(s.peak, liveMemory())
		}
	}
}

func liveMemory() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// Inputs that come line by line are not kept in memory, however many they are. It runs
// alone, since it looks at the memory of the process.
func TestManyInputs(t *testing.T) {
	const lines, bound = 100_000, 8 << 20 // more than 20 MB come
	s := &sink{}
	gate := auth.NewGate(nil)
	conn := holder.NewChannel(gate, nil)
	navvyv1.RegisterJobsServer(conn, s)
	me := auth.Identity{Name: "ann", Role: auth.RoleUser}
	web := httptest.NewServer(rest.New(conn, func(*http.Request) (auth.Identity, error) { return me, nil }, nil))
	defer web.Close()
	before := liveMemory()
	in, feed := io.Pipe()
	go func() {
		w := bufio.NewWriterSize(feed, 64<<10)
		_, _ = w.WriteString(`{"spec":{"noop":{}}}` + "\n")
		for i := range lines {
			_, _ = fmt.Fprintf(w, "\"%0200d\"\n", i) // if it fails, inputs are missing
		}
		_ = feed.CloseWithError(w.Flush())
	}()
	c := newCaller(t, web.URL, "", &http.Transport{})
	body, err := io.ReadAll(c.open(http.MethodPost, "/v1/jobs", in, "Content-Type: application/x-ndjson"))
	if err != nil || !strings.Contains(string(body), `"id":"000000000000"`) {
		t.Fatalf("%s %v", body, err)
	}
	if s.inputs != lines || s.peak > before+bound {
		t.Errorf("of %d inputs %d came, and memory went from %d to %d", lines, s.inputs, before, s.peak)
	}
}
