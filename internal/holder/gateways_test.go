package holder

import (
	"crypto/tls"
	"net/http"
	"net/rpc"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/engine"
	"github.com/navvy-run/navvy/gateway/jobrunner/apis"
	"github.com/navvy-run/navvy/server/auth"
)

// issue makes a certificate.
func issue(t *testing.T, ca *auth.Authority, s auth.Subject) *tls.Certificate {
	t.Helper()
	key, err := auth.NewKey(auth.Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Issue(key.Public(), s, 0)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}
}

// A server's port serves apis.JobRunner beside its own API, to the same people, and
// net/rpc where it is told to; what was given there is in its store.
func TestGateways(t *testing.T) {
	t.Parallel()
	ca, _, err := auth.OpenAuthority(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	cfg := testConfig(t)
	own := issue(t, ca, auth.Subject{Name: "server", Server: true, Hosts: []string{"127.0.0.1"}})
	cfg.Serving = &Serving{Listen: "127.0.0.1:0", Authority: ca, Certificate: auth.Fixed(own), Pool: ca.Pool(), NetRPC: "127.0.0.1:0"}
	h, _ := start(t, cfg)
	port, _, _ := h.Addresses()

	as := func(name string, role auth.Role) (*client.Client, apis.JobRunnerClient) {
		cert := issue(t, ca, auth.Subject{Name: name, Role: role})
		conn, _, err := client.Dial(t.Context(), port.String(), auth.ClientTLS(auth.Fixed(cert), ca.Pool()))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return client.New(conn), apis.NewJobRunnerClient(conn)
	}
	ann, annRuns := as("ann", auth.RoleUser)
	_, bobRuns := as("bob", auth.RoleUser)
	id, err := annRuns.Start(t.Context(), &apis.JobStart{Cmd: "true"})
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for job, err := range ann.Jobs(t.Context()) {
		if found++; err != nil || job.Owner != "ann" {
			t.Errorf("ann has %+v, %v", job, err)
		}
	}
	if found != 1 {
		t.Errorf("ann has %d jobs", found)
	}
	if _, err := bobRuns.Query(t.Context(), id); status.Code(err) != codes.NotFound {
		t.Errorf("bob asks for ann's: %v", err)
	}
	if _, err := annRuns.Query(t.Context(), id); err != nil {
		t.Errorf("ann asks for hers: %v", err)
	}

	c, err := rpc.Dial("tcp", h.NetRPC().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var reply struct {
		Reply      string
		StatusCode int
	}
	if err := c.Call("Manager.GiveManagerWork", struct{ JobName string }{"one"}, &reply); err != nil || reply.StatusCode != 200 {
		t.Errorf("work: %+v, %v", reply, err)
	}
	if list, _, err := h.eng.Registry().List(t.Context(), engine.KindNetRPC, "todo/", "", 10); len(list) != 1 || err != nil {
		t.Errorf("recorded: %v, %v", list, err)
	}
}

// What comes over mTLS to the gateway for functions is its caller's.
func TestFaaS(t *testing.T) {
	t.Parallel()
	ca, _, err := auth.OpenAuthority(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	cfg := testConfig(t)
	own := issue(t, ca, auth.Subject{Name: "server", Server: true, Hosts: []string{"127.0.0.1"}})
	cfg.Serving = &Serving{
		Listen: "127.0.0.1:0", Authority: ca, Certificate: auth.Fixed(own), Pool: ca.Pool(),
		FaaS: FaaSOptions{Address: "https://127.0.0.1:0"},
	}
	h, _ := start(t, cfg)
	cert := issue(t, ca, auth.Subject{Name: "ann", Role: auth.RoleUser})
	config := auth.ClientTLS(auth.Fixed(cert), ca.Pool())
	config.NextProtos = nil // which are those of gRPC
	transport := &http.Transport{TLSClientConfig: config}
	defer transport.CloseIdleConnections()
	body := `{"name": "double", "payload": "gAROLg==\n"}`
	resp, err := (&http.Client{Transport: transport}).Post("https://"+h.FaaS().String()+"/register_function", "application/json", strings.NewReader(body))
	if err != nil || resp.StatusCode != http.StatusCreated {
		t.Fatalf("register: %+v, %v", resp, err)
	}
	_ = resp.Body.Close()
	ctx := auth.With(t.Context(), auth.Identity{Name: "ann", Role: auth.RoleUser})
	if f, err := client.New(h.Conn()).Function(ctx, "double", 0, true); err != nil || f.Owner != "ann" || string(f.Code) != "\x80\x04N." {
		t.Errorf("ann's function: %+v, %v", f, err)
	}
}
