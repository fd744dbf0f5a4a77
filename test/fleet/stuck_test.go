package fleet

import (
	"runtime"
	"testing"

	"google.golang.org/grpc"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/api"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/manager"
	"github.com/navvy-run/navvy/output"
	"github.com/navvy-run/navvy/server/auth"
)

// heap is what is in use after a collection.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// Clients that ask for much and never read it cost the server what is under way to
// them, and keep nobody else waiting. It is not parallel: it measures the memory of
// the process, in which both ends are.
func TestClientsThatNeverRead(t *testing.T) { //nolint:paralleltest // see above
	const size, readers = 32 << 20, 20
	s := newSite(t, manager.Options{Dispatch: manager.Pull, Parallelism: 8})
	s.hire("w1", t.TempDir(), 2)
	near := client.New(s.direct())
	id := s.submit(near, script("head -c 33554432 /dev/zero"), 1)
	if results, texts := s.answers(near, id); len(results) != 1 || len(texts[0]) != size {
		t.Fatalf("%d answers", len(results))
	}
	before := heap()
	for range readers {
		conn := s.windowed()
		stream, err := navvyv1.NewJobsClient(conn).ReadOutput(t.Context(), &navvyv1.ReadOutputRequest{Id: string(id), Follow: true})
		s.must(err)
		_, err = stream.Header() // it has begun
		s.must(err)
	}
	read := 0
	s.must(near.Output(t.Context(), navvy.TaskID{Job: id}, client.OutputOptions{}, client.OutputSink{Write: func(_ output.Stream, p []byte) error {
		read += len(p)
		return nil
	}}))
	if read != size {
		t.Errorf("somebody who reads gets %d bytes, want %d", read, size)
	}
	if _, texts := s.answers(near, s.submit(near, script("echo ok"), 1)); len(texts) != 1 || texts[0] != "ok\n" {
		t.Errorf("a job beside them: %q", texts)
	}
	// What lies in the window, and a message or two at each end.
	if grown, most := heap()-before, int64(readers*8*api.StreamWindow); grown > most {
		t.Errorf("%d readers that do not read cost %d MiB, more than %d; all that they asked for is %d", readers, grown>>20, most>>20, readers*size>>20)
	}
}

// windowed connects as navvy's own clients do.
func (s *site) windowed() *grpc.ClientConn {
	s.Helper()
	pair := s.issue(auth.Subject{Name: "ann", Role: auth.RoleUser})
	conn, _, err := client.Dial(s.Context(), s.wire.Past(), auth.ClientTLS(auth.Fixed(pair), s.ca.Pool()))
	s.must(err)
	s.Cleanup(func() { _ = conn.Close() })
	return conn
}
