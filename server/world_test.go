package server_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/engine"
	"github.com/navvy-run/navvy/engine/driver"
	"github.com/navvy-run/navvy/engine/memory"
	"github.com/navvy-run/navvy/gateway/jobrunner"
	"github.com/navvy-run/navvy/gateway/keda"
	"github.com/navvy-run/navvy/internal/holder"
	"github.com/navvy-run/navvy/manager"
	"github.com/navvy-run/navvy/server"
	"github.com/navvy-run/navvy/server/auth"
	"github.com/navvy-run/navvy/share"
)

// world is a server on a port of the loopback interface, with real TLS, and the
// authority of its certificates.
type world struct {
	dir   string
	ca    *auth.Authority
	store driver.Store
	eng   *engine.Engine
	mgr   *manager.Manager
	gate  *auth.Gate
	srv   *server.Server
	grpc  *grpc.Server
	addr  string
	audit *lines

	files    *share.Share
	inEngine bool // the engine keeps the files
	brokers  attached
	joinTime time.Duration // 0 for the default
}

// attached notes what queues are attached to.
type attached struct {
	mu   sync.Mutex
	now  map[string]navvy.Broker
	whom map[string]string
}

func (a *attached) Check(b *navvy.Broker) error {
	if !strings.HasPrefix(b.Requests, "mem://") {
		return fmt.Errorf("no such broker: %w", navvy.ErrInvalid)
	}
	return nil
}

func (a *attached) Attach(queue, owner string, b *navvy.Broker) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.now == nil {
		a.now, a.whom = map[string]navvy.Broker{}, map[string]string{}
	}
	if delete(a.now, queue); b != nil {
		a.now[queue], a.whom[queue] = *b, owner
	}
}

func (a *attached) Trouble(queue string) string { return "the broker of " + queue + " is down" }

// of is what a queue is attached to, and for whom.
func (a *attached) of(queue string) (b navvy.Broker, owner string, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	b, ok = a.now[queue]
	return b, a.whom[queue], ok
}

// lines is a log that tests read.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

// find gives the lines with this message.
func (l *lines) find(t *testing.T, msg string) []map[string]any {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	var found []map[string]any
	for line := range strings.Lines(l.buf.String()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatal(err)
		}
		if m["msg"] == msg {
			found = append(found, m)
		}
	}
	return found
}

// text is all of it.
func (l *lines) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// newWorld serves on a port; outside says that the server does not issue itself.
func newWorld(t *testing.T, kt auth.KeyType, outside bool) *world {
	t.Helper()
	w := &world{dir: t.TempDir(), store: memory.New(), audit: &lines{}}
	var err error
	if w.files, err = share.OpenDir(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(w.store.Close(), w.files.Close()); err != nil {
			t.Error(err)
		}
	})
	w.ca = w.authority(t, 0, kt)
	w.serve(t, kt, outside)
	return w
}

// authority opens the world's, whose clock is ahead.
func (w *world) authority(t *testing.T, ahead time.Duration, kt auth.KeyType) *auth.Authority {
	t.Helper()
	ca, _, err := auth.OpenAuthority(filepath.Join(w.dir, "ca"), &auth.AuthorityOptions{
		KeyType: kt, Clock: func() time.Time { return time.Now().Add(ahead) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// serve starts a server on the store.
func (w *world) serve(t *testing.T, kt auth.KeyType, outside bool) {
	t.Helper()
	var err error
	if w.eng, err = engine.Open(t.Context(), w.store, nil); err != nil {
		t.Fatal(err)
	}
	if w.inEngine {
		w.files = holder.EngineShare(w.eng)
	}
	audit := slog.New(slog.NewJSONHandler(w.audit, nil))
	w.gate = auth.NewGate(&auth.GateOptions{Audit: audit, JoinTime: w.joinTime})
	opts := &server.Options{Gate: w.gate, Authority: w.ca, Logger: audit, LookOn: 100 * time.Millisecond}
	if outside {
		opts.Authority = nil
	}
	opts.Brokers, opts.Files = &w.brokers, w.files
	w.mgr = manager.New(w.eng, nil)
	w.srv = server.New(w.mgr, w.eng, opts)
	if err := errors.Join(w.srv.LoadRevocations(t.Context()), w.srv.LoadQueues(t.Context())); err != nil {
		t.Fatal(err)
	}
	pair, _, err := w.ca.EnsurePair(filepath.Join(w.dir, "server.crt"), filepath.Join(w.dir, "server.key"),
		auth.Subject{Name: "server", Server: true, Hosts: []string{"127.0.0.1", "localhost"}},
		&auth.PairOptions{KeyType: kt, Record: func(c *x509.Certificate) error { return w.srv.RecordCertificate(t.Context(), c) }})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.addr = l.Addr().String()
	w.grpc = grpc.NewServer(server.GRPCOptions(w.gate, auth.ServerTLS(auth.Fixed(pair), w.ca.Pool(), w.gate.Revoked))...)
	w.srv.Register(w.grpc)
	inside := holder.NewChannel(w.gate, nil)
	w.srv.Register(inside)
	jobrunner.New(inside, nil).Register(w.grpc)
	keda.New(nothingToDo{}).Register(w.grpc)
	var serving sync.WaitGroup
	on := w.grpc // until the test makes another one
	serving.Go(func() { _ = on.Serve(l) })
	t.Cleanup(func() {
		on.Stop()
		serving.Wait()
	})
}

// cert makes a certificate for somebody, past the server.
func (w *world) cert(t *testing.T, ca *auth.Authority, s auth.Subject, ttl time.Duration) *tls.Certificate {
	t.Helper()
	key, err := auth.NewKey(auth.Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Issue(key.Public(), s, ttl)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}
}

// dial connects with a certificate, nil for none, until the test ends.
func (w *world) dial(t *testing.T, cert *tls.Certificate) (*grpc.ClientConn, error) {
	t.Helper()
	give := auth.Fixed(cert)
	if cert == nil {
		give = func() (*tls.Certificate, error) { return &tls.Certificate{}, nil }
	}
	conn, _, err := client.Dial(t.Context(), w.addr, auth.ClientTLS(give, w.ca.Pool()))
	if err == nil {
		t.Cleanup(func() { _ = conn.Close() })
	}
	return conn, err
}

// as is a client of somebody with a role.
func (w *world) as(t *testing.T, name string, role auth.Role) *client.Client {
	t.Helper()
	return client.New(w.conn(t, name, role))
}

func (w *world) conn(t *testing.T, name string, role auth.Role) *grpc.ClientConn {
	t.Helper()
	conn, err := w.dial(t, w.cert(t, w.ca, auth.Subject{Name: name, Role: role}, 0))
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// serial is that of a certificate.
func serial(c *tls.Certificate) string { return auth.Serial(c.Leaf.SerialNumber) }

// submit makes a job of one task that nobody runs.
func submit(t *testing.T, c *client.Client, job navvy.Job) navvy.JobID {
	t.Helper()
	job.Spec, job.Detached = navvy.Spec{Noop: &navvy.Noop{}}, true
	id, err := trySubmit(t.Context(), c, job)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func trySubmit(ctx context.Context, c *client.Client, job navvy.Job) (navvy.JobID, error) {
	sub, err := c.Submit(ctx, job, client.SubmitOptions{})
	if err != nil {
		return "", err
	}
	defer sub.Close()
	if err := errors.Join(sub.Send([][]byte{[]byte("a")}), sub.Seal()); err != nil {
		return "", err
	}
	id, _, err := sub.Accepted(ctx)
	return id, err
}

// fake listens with a certificate that is none of a server's.
func (w *world) fake(t *testing.T, cert *tls.Certificate) (addr string) {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{*cert}, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_ = conn.(*tls.Conn).Handshake()
			_ = conn.Close()
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		serving.Wait()
	})
	return l.Addr().String()
}
