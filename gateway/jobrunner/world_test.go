package jobrunner_test

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/engine/driver"
	"github.com/navvy-run/navvy/engine/memory"
	"github.com/navvy-run/navvy/gateway/jobrunner"
	"github.com/navvy-run/navvy/gateway/jobrunner/apis"
	"github.com/navvy-run/navvy/internal/holder"
	"github.com/navvy-run/navvy/policy"
	"github.com/navvy-run/navvy/runner"
	runnerdriver "github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/runner/process"
	"github.com/navvy-run/navvy/runner/process/isolate"
	"github.com/navvy-run/navvy/server"
	"github.com/navvy-run/navvy/server/auth"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a holder that runs real processes, and a port with mTLS for the gateway.
type world struct {
	ca   *auth.Authority
	h    *holder.Holder
	addr string
}

// unlimited are levels that any machine can give.
func unlimited() jobrunner.Levels {
	return jobrunner.Levels{
		apis.JobResourceUsage_RESTRICTED: {}, apis.JobResourceUsage_STANDARD: {},
		apis.JobResourceUsage_ELEVATED: {Role: auth.RoleAdmin},
	}
}

func newWorld(t *testing.T, levels jobrunner.Levels, p *policy.Policy) *world {
	t.Helper()
	w := &world{}
	var err error
	if w.ca, _, err = auth.OpenAuthority(t.TempDir(), nil); err != nil {
		t.Fatal(err)
	}
	w.h = hold(t, p)
	gate := auth.NewGate(nil)
	cert := w.cert(t, auth.Subject{Name: "server", Server: true, Hosts: []string{"127.0.0.1"}})
	s := grpc.NewServer(server.GRPCOptions(gate, auth.ServerTLS(auth.Fixed(cert), w.ca.Pool(), gate.Revoked))...)
	jobrunner.New(w.h.Conn(), &jobrunner.Options{Levels: levels}).Register(s)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.addr = l.Addr().String()
	var serving sync.WaitGroup
	serving.Go(func() { _ = s.Serve(l) })
	t.Cleanup(func() {
		s.Stop()
		serving.Wait()
	})
	return w
}

// hold starts a holder until the test ends.
func hold(t *testing.T, p *policy.Policy) *holder.Holder {
	t.Helper()
	dir, err := holder.OpenDir(t.TempDir() + "/data")
	if err != nil {
		t.Fatal(err)
	}
	lock, _, err := dir.TryLock()
	if err != nil || lock == nil {
		t.Fatalf("no lock: %v", err)
	}
	if p == nil { // tasks look at what is outside of them
		if p, err = policy.Parse("policy.yaml", []byte("roles: {user: {isolate: off}}")); err != nil {
			t.Fatal(err)
		}
	}
	h, err := holder.Start(t.Context(), lock, holder.Config{
		Dir: dir, Owner: "tester", Policy: p, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
		OpenStore: func(context.Context, func(bool), func(error)) (driver.Store, error) { return memory.New(), nil },
		Runners: func(_ context.Context, journal *runner.Journal) ([]*runner.Runner, error) {
			render := func(t *runnerdriver.Task) ([]string, error) { return t.Spec.Command.Args, nil }
			d := process.NewDriver(&process.Options{Render: render, Isolation: isolate.Open(), Work: dir.WorkDir()})
			return []*runner.Runner{runner.New(d, &runner.Options{Journal: journal})}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if _, err := h.Close(ctx, true); err != nil {
			t.Error(err)
		}
	})
	return h
}

// cert makes a certificate.
func (w *world) cert(t *testing.T, s auth.Subject) *tls.Certificate {
	t.Helper()
	key, err := auth.NewKey(auth.Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := w.ca.Issue(key.Public(), s, 0)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}
}

// as is a client of that system, which knows nothing of navvy but its address and certificates.
func (w *world) as(t *testing.T, name string, role auth.Role) apis.JobRunnerClient {
	t.Helper()
	conn, err := grpc.NewClient(w.addr, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: w.ca.Pool(), Certificates: []tls.Certificate{*w.cert(t, auth.Subject{Name: name, Role: role})},
	})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return apis.NewJobRunnerClient(conn)
}

// inside is a client of the holder itself, for whoever runs it.
func (w *world) inside() *client.Client { return client.New(w.h.Conn()) }
