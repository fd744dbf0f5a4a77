package relay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/api"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
	"github.com/navvy-run/navvy/client"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// far is a server that keeps one value for each attempt, at the other end of a worker's
// connection.
type far struct {
	navvyv1.UnimplementedTaskKVServer
	refuse atomic.Int32 // so many calls, as of attempts that it does not know yet

	mu     sync.Mutex
	values map[navvy.TaskID][]byte
}

func (f *far) Put(_ context.Context, req *navvyv1.TaskKVPutRequest) (*navvyv1.PutValueResponse, error) {
	if f.refuse.Add(-1) >= 0 {
		return nil, status.Error(codes.FailedPrecondition, "lease lost")
	}
	task, _ := api.ToRef(req.GetAttempt())
	f.mu.Lock()
	defer f.mu.Unlock()
	f.values[task] = req.GetCall().GetValue()
	return &navvyv1.PutValueResponse{Version: 1}, nil
}

func (f *far) Get(_ context.Context, req *navvyv1.TaskKVGetRequest) (*navvyv1.GetValueResponse, error) {
	task, _ := api.ToRef(req.GetAttempt())
	f.mu.Lock()
	value := f.values[task]
	f.mu.Unlock()
	return &navvyv1.GetValueResponse{Value: &navvyv1.Value{Value: value}}, nil
}

func (f *far) Watch(_ *navvyv1.TaskKVWatchRequest, stream grpc.ServerStreamingServer[navvyv1.WatchValuesResponse]) error {
	if err := stream.Send(&navvyv1.WatchValuesResponse{Through: 1}); err != nil {
		return err
	}
	<-stream.Context().Done()
	return stream.Context().Err()
}

// open serves a relay to a far server.
func open(t *testing.T, path string, o *Options) (*Relay, *far) {
	t.Helper()
	f := &far{values: map[navvy.TaskID][]byte{}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	navvyv1.RegisterTaskKVServer(server, f)
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(l) })
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	r, err := Listen(path, conn, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(r.Close(), conn.Close()); err != nil {
			t.Error(err)
		}
		server.Stop()
		serving.Wait()
		if _, err := os.Stat(r.Path()); err == nil {
			t.Errorf("%s is left", r.Path())
		}
	})
	return r, f
}

func socket(t *testing.T) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "tasks.sock")
}

func ref(index int64) client.AttemptRef {
	return client.AttemptRef{Task: navvy.TaskID{Job: "job", Index: index}, Attempt: navvy.AttemptID{Number: 1, Epoch: 1}}
}

// dial connects as a task with a token does.
func dial(t *testing.T, r *Relay, token string) *grpc.ClientConn {
	t.Helper()
	conn, err := client.DialTask(t.Context(), "unix://"+r.Path(), token)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func values(t *testing.T, r *Relay, token string) client.KV {
	return client.New(dial(t, r, token)).KV()
}

// A call is made in the name of the attempt whose token comes along.
func TestRelay(t *testing.T) {
	t.Parallel()
	r, f := open(t, socket(t), nil)
	one, two := r.Open(ref(1)), r.Open(ref(2))
	defer one.Close()
	defer two.Close()
	if one.Token() == two.Token() || len(one.Token()) < 26 {
		t.Errorf("tokens %q and %q", one.Token(), two.Token())
	}
	for i, p := range []*Pass{one, two} {
		if _, err := values(t, r, p.Token()).Put(t.Context(), "k", fmt.Append(nil, i+1), client.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if got := string(f.values[ref(1).Task]) + string(f.values[ref(2).Task]); got != "12" {
		t.Errorf("there are %q", got)
	}
}

// Nothing is passed on of who has no token, or one that is good no more, or of any call
// but those of the key-value store.
func TestRefused(t *testing.T) {
	t.Parallel()
	r, _ := open(t, socket(t), nil)
	p, over := r.Open(ref(1)), r.Open(ref(2))
	over.Close()
	for _, token := range []string{"wrong", over.Token(), strings.ToLower(p.Token()), p.Token()[:25]} {
		if _, err := values(t, r, token).Get(t.Context(), "k"); !errors.Is(err, navvy.ErrDenied) || strings.Contains(err.Error(), token) {
			t.Errorf("with the token %q: %v", token, err)
		}
	}
	conn, err := grpc.NewClient("unix:"+r.Path(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	twice := metadata.AppendToOutgoingContext(t.Context(), client.TaskTokenKey, p.Token(), client.TaskTokenKey, "x")
	for what, ctx := range map[string]context.Context{"none": t.Context(), "two": twice} {
		if _, err := client.New(conn).KV().Get(ctx, "k"); !errors.Is(err, navvy.ErrDenied) {
			t.Errorf("with %s: %v", what, err)
		}
	}
	task := client.New(dial(t, r, p.Token()))
	_, overview := task.Overview(t.Context())
	_, whoami := task.Whoami(t.Context())
	_, get := task.Get(t.Context(), "job")
	for what, err := range map[string]error{"overview": overview, "whoami": whoami, "get": get} {
		if !errors.Is(err, navvy.ErrDenied) || !strings.Contains(err.Error(), "the key-value store and nothing else") {
			t.Errorf("%s: %v", what, err)
		}
	}
	p.Close()
	if _, err := task.KV().Get(t.Context(), "k"); !errors.Is(err, navvy.ErrDenied) {
		t.Errorf("after the end: %v", err)
	}
}

// With the attempt its calls end, and what it watches.
func TestEndOfAttempt(t *testing.T) {
	t.Parallel()
	r, _ := open(t, socket(t), nil)
	p := r.Open(ref(1))
	for _, err := range values(t, r, p.Token()).Watch(t.Context(), "", 0) {
		if err != nil {
			if !errors.Is(err, navvy.ErrLeaseLost) || !strings.Contains(err.Error(), "has ended") {
				t.Error(err)
			}
			return
		}
		p.Close()
	}
	t.Error("the watch ends without an error")
}

// A server that is just back may not know yet what its worker runs.
func TestRefusedByAServerThatIsBack(t *testing.T) {
	t.Parallel()
	r, f := open(t, socket(t), nil)
	p := r.Open(ref(1))
	defer p.Close()
	kv := values(t, r, p.Token())
	f.refuse.Store(2)
	if _, err := kv.Put(t.Context(), "k", nil, client.PutOptions{}); err != nil {
		t.Error(err)
	}
	f.refuse.Store(refusals + 1)
	if _, err := kv.Put(t.Context(), "k", nil, client.PutOptions{}); !errors.Is(err, navvy.ErrLeaseLost) {
		t.Errorf("refused again and again: %v", err)
	}
}

// Without a session a task is told so, and with one again all is as it was.
func TestWithoutASession(t *testing.T) {
	t.Parallel()
	var away atomic.Bool
	r, _ := open(t, socket(t), &Options{Session: func(context.Context) (func() bool, error) {
		if away.Load() {
			return nil, fmt.Errorf("it is away: %w", navvy.ErrUnavailable)
		}
		return func() bool { return true }, nil
	}})
	p := r.Open(ref(1))
	defer p.Close()
	kv := values(t, r, p.Token())
	for _, want := range []error{navvy.ErrUnavailable, nil} {
		away.Store(want != nil)
		if _, err := kv.Put(t.Context(), "k", nil, client.PutOptions{}); !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	}
}

// A request that is longer than any value is not taken.
func TestMuchIsRefused(t *testing.T) {
	t.Parallel()
	r, _ := open(t, socket(t), nil)
	p := r.Open(ref(1))
	defer p.Close()
	kv := values(t, r, p.Token())
	if _, err := kv.Put(t.Context(), "k", bytes.Repeat([]byte("x"), 1<<20), client.PutOptions{}); err != nil {
		t.Error(err)
	}
	if _, err := kv.Put(t.Context(), "k", bytes.Repeat([]byte("x"), 2<<20), client.PutOptions{}); !errors.Is(err, navvy.ErrExhausted) {
		t.Errorf("2 MiB: %v", err)
	}
}

// An attempt has so many calls under way and no more; another one is not concerned.
func TestManyCalls(t *testing.T) {
	t.Parallel()
	r, _ := open(t, socket(t), nil)
	p, other := r.Open(ref(1)), r.Open(ref(2))
	defer p.Close()
	defer other.Close()
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	for range maxCalls {
		stream, err := navvyv1.NewKVClient(dial(t, r, p.Token())).Watch(ctx, &navvyv1.WatchValuesRequest{})
		if err == nil {
			_, err = stream.Recv()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	kv := values(t, r, p.Token())
	if _, err := kv.Get(t.Context(), "k"); !errors.Is(err, navvy.ErrExhausted) {
		t.Errorf("one more: %v", err)
	}
	if _, err := values(t, r, other.Token()).Get(t.Context(), "k"); err != nil {
		t.Errorf("of another attempt: %v", err)
	}
	leave()
	for { // until the others have been noticed to be over
		if _, err := kv.Get(t.Context(), "k"); err == nil {
			break
		} else if !errors.Is(err, navvy.ErrExhausted) {
			t.Fatal(err)
		}
	}
}

// Connections that say nothing are bounded, and keep nobody out.
func TestSilentConnections(t *testing.T) {
	t.Parallel()
	r, _ := open(t, socket(t), nil)
	p := r.Open(ref(1))
	defer p.Close()
	known := values(t, r, p.Token())
	if _, err := known.Get(t.Context(), "k"); err != nil {
		t.Fatal(err)
	}
	const many = 1000
	conns := make([]net.Conn, many)
	for i := range conns {
		conn, err := net.Dial("unix", r.Path())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conns[i] = conn
	}
	for _, kv := range []client.KV{known, values(t, r, p.Token())} {
		if _, err := kv.Get(t.Context(), "k"); err != nil {
			t.Error(err)
		}
	}
	if n := r.door.strangers.count(); n > maxStrangers {
		t.Errorf("%d are open", n)
	}
	for _, conn := range conns[:many-maxStrangers] { // the last ones may be there still
		_, _ = io.Copy(io.Discard, conn) // until it is closed at the other end
	}
}

// An attempt has so many connections and no more: the oldest goes.
func TestManyConnections(t *testing.T) {
	t.Parallel()
	r, _ := open(t, socket(t), nil)
	p := r.Open(ref(1))
	for range maxConns + 10 {
		if _, err := values(t, r, p.Token()).Get(t.Context(), "k"); err != nil {
			t.Fatal(err)
		}
	}
	if n := p.conns.count(); n > maxConns || n < maxConns/2 {
		t.Errorf("%d are open", n)
	}
	p.Close()
}

// What is too long for a socket's path is elsewhere, and goes with it.
func TestLongPath(t *testing.T) {
	t.Parallel()
	r, _ := open(t, filepath.Join(t.TempDir(), strings.Repeat("d", 100), "tasks.sock"), nil)
	p := r.Open(ref(1))
	defer p.Close()
	if _, err := values(t, r, p.Token()).Get(t.Context(), "k"); err != nil {
		t.Error(err)
	}
	info, err := os.Stat(filepath.Dir(r.Path()))
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("its directory is %v, %v", info.Mode(), err)
	}
}

// An address that is none, and one where nobody is.
func TestDialNobody(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]error{
		"localhost:7433": navvy.ErrInvalid, "unix://relative": navvy.ErrInvalid, "": navvy.ErrInvalid,
		"unix:///nowhere/tasks.sock": navvy.ErrUnavailable,
	} {
		if _, err := client.DialTask(t.Context(), addr, "token"); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", addr, err, want)
		}
	}
	if _, err := client.DialTask(t.Context(), "unix:///x", ""); !errors.Is(err, navvy.ErrInvalid) {
		t.Errorf("without a token: %v", err)
	}
}
