package rest_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/engine"
	"github.com/navvy-run/navvy/engine/driver"
	"github.com/navvy-run/navvy/engine/memory"
	"github.com/navvy-run/navvy/internal/holder"
	"github.com/navvy-run/navvy/manager"
	"github.com/navvy-run/navvy/policy"
	"github.com/navvy-run/navvy/runner"
	runnerdriver "github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/runner/noop"
	"github.com/navvy-run/navvy/runner/process"
	"github.com/navvy-run/navvy/server/auth"
	"github.com/navvy-run/navvy/share"
)

// patience bounds a call in a test, on a machine that is slow and busy.
const patience = 60 * time.Second

// world is a server on loopback that runs tasks itself, and who calls it.
type world struct {
	h      *holder.Holder
	dir    string
	ca     *auth.Authority
	base   string // of the API, without a path
	log    *lockedLog
	closed bool            // by the test itself
	files  string          // the directory of the server's share
	full   func(full bool) // tells the server whether its disk is full
	// record registers a certificate; nil before the server serves.
	record func(*x509.Certificate) error
}

// lockedLog is what a server logs.
type lockedLog struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// newWorld starts a server, with HTTP on loopback: plain, or with certificates.
func newWorld(t *testing.T, secure bool) *world {
	t.Helper()
	return newWorldWith(t, secure, func(*holder.Config) {})
}

// newWorldWith is newWorld with other settings.
func newWorldWith(t *testing.T, secure bool, change func(*holder.Config)) *world {
	t.Helper()
	w := &world{dir: t.TempDir() + "/data", log: &lockedLog{}, files: t.TempDir()}
	var err error
	if w.ca, _, err = auth.OpenAuthority(t.TempDir(), nil); err != nil {
		t.Fatal(err)
	}
	dir, err := holder.OpenDir(w.dir)
	if err != nil {
		t.Fatal(err)
	}
	store, work := memory.New(), t.TempDir()
	cfg := holder.Config{
		Dir: dir, Owner: "tester", Version: "test", Logger: slog.New(slog.NewTextHandler(w.log, nil)),
		OpenStore: func(_ context.Context, full func(bool), _ func(error)) (driver.Store, error) {
			w.full = full
			return store, nil
		},
		OpenFiles: func(context.Context, *engine.Engine) (*share.Share, error) { return share.OpenDir(w.files) },
		Runners: func(_ context.Context, journal *runner.Journal) ([]*runner.Runner, error) {
			return runners(work, journal)
		},
		Dispatch: manager.Push, Lease: time.Minute, Slots: 4, Parallelism: 1000,
	}
	if cfg.Policy, err = policy.Parse("policy.yaml", []byte("roles: {user: {isolate: off}}")); err != nil { // its worker isolates nothing
		t.Fatal(err)
	}
	scheme, address := "http://", "127.0.0.1:0"
	if secure {
		scheme, address = "https://", "https://127.0.0.1:0"
	}
	cfg.Serving = &holder.Serving{
		Listen: "127.0.0.1:0", Authority: w.ca, Pool: w.ca.Pool(), HTTP: holder.HTTPOptions{Address: address},
		Prepare: func(record func(*x509.Certificate) error, _ func(string) bool) error {
			w.record = record
			return nil
		},
		Certificate: auth.Fixed(w.cert(t, auth.Subject{Name: "server", Server: true, Hosts: []string{"127.0.0.1"}})),
	}
	change(&cfg)
	lock, _, err := dir.TryLock()
	if err != nil {
		t.Fatal(err)
	}
	if w.h, err = holder.Start(t.Context(), lock, cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if w.closed {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if _, err := w.h.Close(ctx, true); err != nil {
			t.Error(err)
		}
	})
	_, web, _ := w.h.Addresses()
	w.base = scheme + web.String()
	return w
}

// runners makes real processes, whose tasks have directories below work.
func runners(work string, journal *runner.Journal) ([]*runner.Runner, error) {
	var list []*runner.Runner
	render := func(t *runnerdriver.Task) ([]string, error) {
		return append(slices.Clip(t.Spec.Command.Args), string(t.Input)), nil
	}
	for _, d := range []runnerdriver.Driver{process.NewDriver(&process.Options{Render: render, Work: work}), noop.Driver{}} {
		list = append(list, runner.New(d, &runner.Options{Journal: journal}))
	}
	return list, nil
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
	if w.record != nil {
		if err := w.record(cert); err != nil {
			t.Fatal(err)
		}
	}
	return &tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}
}

// grpc is a client over gRPC.
func (w *world) grpc(t *testing.T, cert *tls.Certificate) *client.Client {
	t.Helper()
	port, _, _ := w.h.Addresses()
	conn, _, err := client.Dial(t.Context(), port.String(), auth.ClientTLS(auth.Fixed(cert), w.ca.Pool()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return client.New(conn)
}

// caller calls the API over HTTP.
type caller struct {
	t      *testing.T
	base   string
	token  string
	client *http.Client
}

// as is a caller with a token of somebody with a role.
func (w *world) as(t *testing.T, name string, role auth.Role) *caller {
	t.Helper()
	token, _, err := w.grpc(t, w.cert(t, auth.Subject{Name: name, Role: role})).CreateAPIToken(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	return newCaller(t, w.base, token, &http.Transport{})
}

func newCaller(t *testing.T, base, token string, transport *http.Transport) *caller {
	t.Helper()
	t.Cleanup(transport.CloseIdleConnections)
	return &caller{t: t, base: base, token: token, client: &http.Client{Transport: transport}}
}

// socket is a caller over the unix socket.
func (w *world) socket(t *testing.T) *caller {
	t.Helper()
	return newCaller(t, "http://navvy", "", &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", w.dir+"/http.sock")
	}})
}

// reply is an answer.
type reply struct {
	t      *testing.T
	status int
	header http.Header
	body   string
}

// open makes a call and gives the body of the answer as it begins, until the test ends.
func (c *caller) open(method, path string, body io.Reader, headers ...string) io.Reader {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	c.t.Cleanup(cancel)
	resp := c.send(ctx, method, path, body, headers...)
	c.t.Cleanup(func() { _ = resp.Body.Close() })
	return resp.Body
}

// send makes a call. headers are NAME: VALUE each.
func (c *caller) send(ctx context.Context, method, path string, body io.Reader, headers ...string) *http.Response {
	c.t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		c.t.Fatal(err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		if req.Header.Set(name, value); name == "Host" {
			req.Host = value
		}
	}
	resp, err := c.client.Do(req)
	if err != nil {
		c.t.Fatalf("%s %s: %v", method, path, err)
	}
	return resp
}

// do makes a call whose answer the document describes.
func (c *caller) do(method, path, body string, headers ...string) *reply {
	c.t.Helper()
	var in io.Reader
	if body != "" {
		in = strings.NewReader(body)
	}
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	resp := c.send(ctx, method, path, in, headers...)
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatalf("%s %s: %v", method, path, err)
	}
	_ = resp.Body.Close()
	r := &reply{t: c.t, status: resp.StatusCode, header: resp.Header, body: string(b)}
	if resp.Header.Get("Content-Type") != "text/plain; charset=utf-8" {
		checkAnswer(c.t, method, path, r)
	}
	return r
}

// want sees that the answer has a status, and gives its JSON.
func (r *reply) want(status int) map[string]any {
	r.t.Helper()
	if r.status != status {
		r.t.Fatalf("status %d, want %d: %s", r.status, status, r.body)
	}
	var o map[string]any
	if r.header.Get("Content-Type") == "application/json" {
		if err := json.Unmarshal([]byte(r.body), &o); err != nil {
			r.t.Fatalf("%v: %s", err, r.body)
		}
	}
	return o
}

// fails sees that the answer is an error, and gives its message.
func (r *reply) fails(status int, code string) string {
	r.t.Helper()
	e, _ := r.want(status)["error"].(map[string]any)
	if e["code"] != code {
		r.t.Fatalf("the error is %s, want %s", r.body, code)
	}
	return fmt.Sprint(e["message"])
}

// lines are the JSON objects of a stream.
func (r *reply) lines() []map[string]any {
	r.t.Helper()
	r.want(http.StatusOK)
	var list []map[string]any
	for line := range strings.Lines(r.body) {
		var o map[string]any
		if err := json.Unmarshal([]byte(line), &o); err != nil {
			r.t.Fatalf("%v: %s", err, line)
		}
		list = append(list, o)
	}
	return list
}

// submit makes a job of a command, whose tasks get their inputs as the last argument.
func (c *caller) submit(args []string, inputs ...string) (id string) {
	c.t.Helper()
	body, err := json.Marshal(map[string]any{"spec": map[string]any{"command": map[string]any{"args": args}}, "inputs": inputs})
	if err != nil {
		c.t.Fatal(err)
	}
	o := c.do(http.MethodPost, "/v1/jobs", string(body)).want(http.StatusCreated)
	return o["id"].(string)
}

// eventually waits until something is so.
func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	over := time.After(patience)
	for !so() {
		select {
		case <-over:
			t.Fatalf("in vain is waited for that %s", what)
		case <-time.After(10 * time.Millisecond):
		}
	}
}
