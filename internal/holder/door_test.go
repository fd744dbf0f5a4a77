package holder

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/manager"
	"github.com/navvy-run/navvy/policy"
	"github.com/navvy-run/navvy/server/auth"
)

// testServer is a server on loopback that runs its tasks itself, and how somebody
// with a role reaches it.
func testServer(t *testing.T) (h *Holder, meet func(auth.Role) *tls.Config) {
	t.Helper()
	authority, _, err := auth.OpenAuthority(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	pair := func(s auth.Subject) *tls.Certificate {
		dir := t.TempDir()
		p, _, err := authority.EnsurePair(dir+"/it.crt", dir+"/it.key", s, nil)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	cfg := testConfig(t)
	if cfg.Policy, err = policy.Parse("policy.yaml", []byte("roles: {user: {isolate: off}}")); err != nil { // its worker isolates nothing
		t.Fatal(err)
	}
	cfg.Dispatch, cfg.Lease, cfg.Slots, cfg.Parallelism = manager.Push, 10*time.Second, 2, 1000
	cfg.Serving = &Serving{
		Listen: "127.0.0.1:0", Authority: authority, Pool: authority.Pool(),
		Certificate: auth.Fixed(pair(auth.Subject{Name: "server", Server: true, Hosts: []string{"127.0.0.1"}})),
		HTTP:        HTTPOptions{Address: "127.0.0.1:0"},
	}
	h, _ = start(t, cfg)
	return h, func(role auth.Role) *tls.Config {
		return auth.ClientTLS(auth.Fixed(pair(auth.Subject{Name: "somebody", Role: role})), authority.Pool())
	}
}

// ask connects and asks once.
func ask(t *testing.T, h *Holder, config *tls.Config) {
	t.Helper()
	port, _, _ := h.Addresses()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	conn, _, err := client.Dial(ctx, port.String(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := client.New(conn).Overview(ctx); err != nil {
		t.Error(err)
	}
}

// TestSilentConnections sees that connections that say nothing neither pile up nor
// keep others out: the oldest are closed.
func TestSilentConnections(t *testing.T) {
	t.Parallel()
	h, meet := testServer(t)
	port, _, _ := h.Addresses()
	var first net.Conn
	for i := range silent(t) {
		conn, err := net.Dial("tcp", port.String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if i == 0 {
			first = conn
		}
	}
	ask(t, h, meet(auth.RoleUser))
	if n := h.door.strangers.count(); n > maxStrangers {
		t.Errorf("%d strangers are let wait, more than %d", n, maxStrangers)
	}
	if err := first.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := first.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !strings.Contains(err.Error(), "reset") {
		t.Errorf("the oldest is still there: %v", err)
	}
}

// silent is how many connections a test opens that say nothing: 10,000, or as many as
// this process may have files, with as many again at the server's end as it lets wait.
func silent(t *testing.T) int {
	t.Helper()
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	const others = 1000 // of this test and those beside it
	n := min(10_000, int(min(files.Cur, 1<<20))-2*maxStrangers-others)
	if n < 2*maxStrangers {
		t.Skipf("this process may have no more than %d files", files.Cur)
	}
	return n
}

// TestTalkativeStranger cuts off who has no certificate and says more than it takes to join.
func TestTalkativeStranger(t *testing.T) {
	t.Parallel()
	h, meet := testServer(t)
	port, _, _ := h.Addresses()
	config := meet(auth.RoleUser).Clone()
	config.GetClientCertificate = nil
	config.ServerName, config.NextProtos = "127.0.0.1", []string{"h2", auth.JoinProtocol}
	conn, err := tls.Dial("tcp", port.String(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")); err != nil {
		t.Fatal(err)
	}
	ping := append([]byte{0, 0, 8, 6, 1, 0, 0, 0, 0}, make([]byte, 8)...) // an answer that nobody has asked for
	for sent := 0; ; sent += len(ping) {
		if _, err := conn.Write(ping); err != nil {
			return // cut off
		}
		if sent > 100*joiningBytes {
			t.Fatal("it may talk for ever")
		}
	}
}

// TestJobOverPort runs a job over the network, and finds it in the numbers.
func TestJobOverPort(t *testing.T) {
	t.Parallel()
	h, meet := testServer(t)
	port, web, _ := h.Addresses()
	conn, me, err := client.Dial(t.Context(), port.String(), meet(auth.RoleUser))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c := client.New(conn)
	id := submit(t, c, navvy.Job{Detached: true, Spec: shell("echo $1")}, "a", "b")
	if _, err := c.Wait(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if job, err := c.Get(t.Context(), id); err != nil || job.Owner != me.Name {
		t.Errorf("the job belongs to %q: %v", job.Owner, err)
	}
	resp, err := http.Get("http://" + web.String() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || !strings.Contains(string(text), `navvy_results_total{state="succeeded"} 2`) {
		t.Errorf("%s: %v", text, err)
	}
	zeros := strings.Count(string(text), `navvy_task_cpu_seconds_total{mode="user"} 0`+"\n") +
		strings.Count(string(text), `navvy_task_cpu_seconds_total{mode="system"} 0`+"\n") // it is one or the other at such short times
	if zeros == 2 || !strings.Contains(string(text), "navvy_task_cpu_seconds_total{") || !strings.Contains(string(text), "\nnavvy_task_oom_kills_total 0\n") {
		t.Errorf("what the tasks used is not among %s", text)
	}
	http.DefaultClient.CloseIdleConnections()
}

// TestCheckHTTP refuses plain HTTP where others reach it.
func TestCheckHTTP(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]error{
		"127.0.0.1:1": nil, "localhost:1": nil, "[::1]:1": nil, "https://0.0.0.0:1": nil,
		":1": navvy.ErrDenied, "0.0.0.0:1": navvy.ErrDenied, "10.0.0.1:1": navvy.ErrDenied, "example.org:1": navvy.ErrDenied,
		"[::ffff:10.0.0.1]:1": navvy.ErrDenied, "nowhere": navvy.ErrInvalid, "https://nowhere": navvy.ErrInvalid,
	} {
		if err := CheckHTTP(address); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", address, err, want)
		}
	}
}
