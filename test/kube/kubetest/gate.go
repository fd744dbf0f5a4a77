package kubetest

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// Gate is a way to the API server on which a test sees each request, and may answer it in
// place of the server: as one that is overloaded, that has forgotten what a watch asks for,
// or that is not there. Nothing of it is encrypted: it is for loopback.
type Gate struct {
	// Kubeconfig is the file with which others call through it.
	Kubeconfig string

	mu    sync.Mutex
	rule  Rule
	calls map[string]int
	cuts  map[*http.Request]context.CancelFunc // of what is under way
}

// Rule decides about a request. What it returns answers it; nil lets it through.
type Rule func(c *Call) *Answer

// Call is a request that comes to a Gate.
type Call struct {
	// Verb and What are as in Cluster.Calls: create, get, list, watch, patch or delete, and
	// jobs, pods or pods/log.
	Verb, What string
	// Name is that of the object; empty for a list or a watch.
	Name string
	// N is how many calls with that verb and what came before.
	N int
}

// Answer is what a Gate answers.
type Answer struct {
	// Status is the HTTP status; 0 breaks the connection.
	Status int
	// Reason is that of the Status object, as Expired, and RetryAfter a header in seconds.
	Reason     string
	RetryAfter int
	// Forward has the server do what was asked, whose answer nobody sees.
	Forward bool
}

// Gate opens a way for a user of a group, which may be empty. It goes when the test ends.
func (c *Cluster) Gate(t testing.TB, user, group string) *Gate {
	t.Helper()
	api := c.Through(t, c.proxy, user, group)
	to, err := url.Parse(api.url)
	if err != nil {
		t.Fatal(err)
	}
	g := &Gate{calls: map[string]int{}, cuts: map[*http.Request]context.CancelFunc{}}
	transport := api.client.Transport.(*http.Transport).Clone()
	transport.ForceAttemptHTTP2 = true
	forward := &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(to) },
		Transport:     transport,
		FlushInterval: -1,
		ErrorLog:      slog.NewLogLogger(slog.DiscardHandler, 0),
		ErrorHandler:  func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { g.serve(w, r, forward) }),
		ReadHeaderTimeout: Patience, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0),
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
	}
	var served sync.WaitGroup
	served.Go(func() { _ = server.Serve(listener) })
	t.Cleanup(func() {
		_ = server.Close()
		served.Wait()
		transport.CloseIdleConnections()
	})
	g.Kubeconfig = c.pki.path(user + ".gate.kubeconfig")
	text := fmt.Sprintf(`{apiVersion: v1, kind: Config, current-context: gate, clusters: [{name: gate, cluster: {server: "http://%s"}}],
contexts: [{name: gate, context: {cluster: gate, user: ""}}]}`, listener.Addr())
	if err := os.WriteFile(g.Kubeconfig, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return g
}

// Rule sets what decides from now on; nil lets all through.
func (g *Gate) Rule(r Rule) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.rule = r
}

// Cut breaks what is under way: watches and logs.
func (g *Gate) Cut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, cut := range g.cuts {
		cut()
	}
}

// Calls are what has come so far, as in Cluster.Calls.
func (g *Gate) Calls() map[string]int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return maps.Clone(g.calls)
}

// Count is how many calls have come so far.
func (g *Gate) Count() int {
	n := 0
	for _, calls := range g.Calls() {
		n += calls
	}
	return n
}

func (g *Gate) serve(w http.ResponseWriter, r *http.Request, forward http.Handler) {
	call := callOf(r)
	ctx, cut := context.WithCancel(r.Context())
	defer cut()
	r = r.WithContext(ctx)
	defer func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		delete(g.cuts, r)
	}()
	g.mu.Lock()
	g.cuts[r] = cut
	call.N = g.calls[call.Verb+" "+call.What]
	g.calls[call.Verb+" "+call.What]++
	var answer *Answer
	if g.rule != nil {
		answer = g.rule(call)
	}
	g.mu.Unlock()
	if answer == nil {
		forward.ServeHTTP(w, r)
		return
	}
	if answer.Forward {
		forward.ServeHTTP(unseen{http.Header{}}, r)
	}
	if answer.Status == 0 {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Content-Type", "application/json")
	if answer.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(answer.RetryAfter))
	}
	w.WriteHeader(answer.Status)
	_ = json.NewEncoder(w).Encode(map[string]any{ // who asked may be gone
		"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": answer.Status, "reason": answer.Reason,
		"message": "the gate of this test says so",
	})
}

// unseen takes an answer that nobody sees.
type unseen struct{ header http.Header }

func (u unseen) Header() http.Header       { return u.header }
func (unseen) Write(p []byte) (int, error) { return len(p), nil }
func (unseen) WriteHeader(int)             {}

// callOf reads what a request asks for.
func callOf(r *http.Request) *Call {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	for len(parts) > 0 && parts[0] != "namespaces" {
		parts = parts[1:]
	}
	parts = append(parts, make([]string, 5)...)
	c := &Call{What: parts[2], Name: parts[3]}
	if parts[4] != "" {
		c.What += "/" + parts[4]
	}
	switch {
	case r.Method == http.MethodPost:
		c.Verb = "create"
	case r.Method == http.MethodGet && r.URL.Query().Get("watch") != "":
		c.Verb = "watch"
	case r.Method == http.MethodGet && c.Name == "":
		c.Verb = "list"
	default:
		c.Verb = strings.ToLower(r.Method)
	}
	return c
}
