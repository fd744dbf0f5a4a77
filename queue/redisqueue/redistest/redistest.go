// Package redistest starts a Redis for tests.
package redistest

import (
	"bufio"
	"context"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/navvy-run/navvy/internal/pause"
)

// Server is a Redis of a test's own on 127.0.0.1. It confirms what is on its disk.
type Server struct {
	Addr string

	port int
	dir  string
	more []string
	cmd  *exec.Cmd
}

// Start starts one, which ends with the test. Without Debian's redis-server the test skips,
// or fails if CI is set. More arguments are those of redis-server.
func Start(tb testing.TB, more ...string) *Server {
	tb.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		if os.Getenv("CI") != "" {
			tb.Fatal("there is no redis-server, and CI must not skip this test")
		}
		tb.Skip("there is no redis-server (Debian package redis-server)")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	addr, _ := l.Addr().(*net.TCPAddr)
	if err := l.Close(); err != nil {
		tb.Fatal(err)
	}
	s := &Server{Addr: addr.String(), port: addr.Port, dir: tb.TempDir(), more: more}
	s.Restart(tb)
	tb.Cleanup(func() { s.Kill(tb) })
	return s
}

// Kill ends it without warning.
func (s *Server) Kill(tb testing.TB) {
	tb.Helper()
	if err := s.cmd.Process.Kill(); err != nil {
		tb.Errorf("kill redis: %v", err)
	}
	_ = s.cmd.Wait() // which tells of the kill
}

// Restart starts it with what it has on disk, and waits until it answers.
func (s *Server) Restart(tb testing.TB) {
	tb.Helper()
	args := append([]string{
		"--bind", "127.0.0.1", "--port", strconv.Itoa(s.port), "--dir", s.dir, "--logfile", "redis.log",
		"--appendonly", "yes", "--appendfsync", "always", "--save", "",
	}, s.more...)
	s.cmd = exec.Command("redis-server", args...) //nolint:noctx // it is killed at the test's end
	if err := s.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	wait := pause.Series{First: 5 * time.Millisecond, Longest: 100 * time.Millisecond}
	for !s.answers(ctx) {
		if wait.Wait(ctx) != nil {
			tb.Fatalf("redis-server %v does not answer", args)
		}
	}
}

// answers tells whether it does: also one that wants a password first has read its data.
func (s *Server) answers(ctx context.Context) bool {
	var d net.Dialer
	nc, err := d.DialContext(ctx, "tcp", s.Addr)
	if err != nil {
		return false
	}
	defer nc.Close()
	if _, err := nc.Write([]byte("PING\r\n")); err != nil {
		return false
	}
	line, err := bufio.NewReader(nc).ReadString('\n')
	return err == nil && (line == "+PONG\r\n" || strings.HasPrefix(line, "-NOAUTH"))
}
