// Package versitygwtest starts versitygw, a server that speaks the protocol of S3 over a
// directory, for tests. scripts/check.sh builds it.
package versitygwtest

import (
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// The account of each server.
const (
	Key    = "navvy-test"
	Secret = "navvy/test+secret"
)

const patience = 60 * time.Second

// Gateway is a server that runs.
type Gateway struct {
	Address string // HOST:PORT
	Dir     string // its buckets
}

// program is the path of the server. Where it is missing the test skips, and fails in CI.
func program(t testing.TB) string {
	t.Helper()
	path := os.Getenv("NAVVY_VERSITYGW")
	if path == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		path = filepath.Join(cache, "navvy-versitygw", "versitygw")
	}
	_, err := os.Stat(path)
	switch {
	case err != nil && os.Getenv("CI") != "":
		t.Fatalf("there is no versitygw, and CI must not skip its tests: %v", err)
	case err != nil:
		t.Skipf("there is no versitygw: see versitygw in scripts/check.sh: %v", err)
	}
	return path
}

// Start starts a server that ends with the test, after all that the test opens later.
func Start(t testing.TB) *Gateway {
	t.Helper()
	path := program(t)
	// Somebody else may take the port that was free: then the server ends, and another is tried.
	for range 10 {
		if g := try(t, path); g != nil {
			return g
		}
	}
	t.Fatal("versitygw does not start")
	return nil
}

// try starts a server at a free port; nil if it ends at once.
func try(t testing.TB, path string) *Gateway {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &Gateway{Address: listener.Addr().String(), Dir: t.TempDir()}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "--port", g.Address, "--region", "us-east-1", "--quiet", "--iam-dir", t.TempDir(), "posix", g.Dir)
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+Key, "ROOT_SECRET_KEY="+Secret)
	cmd.Dir = t.TempDir()
	said := &said{}
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() {
		exited <- cmd.Wait()
		close(exited)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		for range exited {     // until it is closed
		}
	})
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if answer, err := client.Get("http://" + g.Address + "/"); err == nil { // also a refusal is an answer
			_ = answer.Body.Close()
			return g
		}
		select {
		case err := <-exited:
			t.Logf("versitygw ended: %v: %s", err, said.text())
			return nil
		case <-tick.C:
		}
	}
	t.Fatalf("versitygw does not answer: %s", said.text())
	return nil
}

// said collects what the server says.
type said struct {
	mu sync.Mutex
	b  strings.Builder
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *said) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// Bucket makes a bucket.
func (g *Gateway) Bucket(t testing.TB, name string) {
	t.Helper()
	if err := os.Mkdir(filepath.Join(g.Dir, name), 0o755); err != nil {
		t.Fatal(err)
	}
}

// URL is that of a share, with the account in it.
func (g *Gateway) URL(bucketAndFolder string) string { return g.URLWith(Secret, bucketAndFolder) }

// URLWith has another secret.
func (g *Gateway) URLWith(secret, bucketAndFolder string) string {
	secret = strings.NewReplacer("/", "%2F", "+", "%2B").Replace(secret)
	return "s3://" + Key + ":" + secret + "@" + bucketAndFolder + "?endpoint=http://" + g.Address + "&region=us-east-1&use_path_style=true&disable_https=true"
}
