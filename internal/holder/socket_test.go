package holder

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
)

func TestSocket(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	h, stop := start(t, cfg)
	if info, err := os.Stat(cfg.Dir.join(socketName)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket: %v, %v", info, err)
	}
	first, second := dial(t, cfg.Dir), dial(t, cfg.Dir)
	for _, conn := range []*client.Client{client.New(first), client.New(second), client.New(h.Conn())} {
		o, err := conn.Overview(t.Context())
		if err != nil || o.GetVersion() != "test" || o.GetPid() != int64(os.Getpid()) {
			t.Errorf("%v, %v", o, err)
		}
	}
	if n := h.listener.connected(); n != 2 {
		t.Errorf("%d connections", n)
	}
	if _, err := stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(cfg.Dir.join(socketName)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left behind: %v", err)
	}
	if _, err := client.New(first).Overview(t.Context()); !errors.Is(err, navvy.ErrUnavailable) {
		t.Errorf("a call of a holder that has left: %v", err)
	}
	if _, err := cfg.Dir.Dial(t.Context()); err == nil {
		t.Error("nobody listens, and yet there is a connection")
	}
	lock := freed(t, cfg.Dir)
	if err := lock.Unlock(); err != nil {
		t.Error(err)
	}
}

// freed takes the lock of a holder that has left. A process that a test beside
// this one has just forked may hold it for a moment.
func freed(t *testing.T, dir *Dir) *Lock {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); runtime.Gosched() {
		lock, _, err := dir.TryLock()
		if err != nil {
			t.Fatal(err)
		}
		if lock != nil {
			return lock
		}
	}
	t.Fatal("the lock is not free")
	return nil
}

// A path may be longer than a socket's: sockaddr_un has 108 bytes.
func TestLongPath(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	for _, length := range []int{len(base) + 20, maxSocketPath - 1, maxSocketPath, maxSocketPath + 1, 200, 1000} {
		path := base + "/"
		for len(path) < length-len("/"+socketName) {
			path += strings.Repeat("d", min(200, length-len("/"+socketName)-len(path))) + "/"
		}
		cfg := testConfig(t)
		var err error
		if cfg.Dir, err = OpenDir(path); err != nil {
			t.Fatal(err)
		}
		_, stop := start(t, cfg)
		if _, err := client.New(dial(t, cfg.Dir)).Overview(t.Context()); err != nil {
			t.Errorf("%d bytes: %v", len(cfg.Dir.join(socketName)), err)
		}
		if _, err := stop(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(cfg.Dir.join(socketName)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%d bytes: the socket is left behind: %v", length, err)
		}
	}
}

// What a killed holder has left, or somebody else has put there, is taken away.
func TestStaleSocket(t *testing.T) {
	t.Parallel()
	for name, leave := range map[string]func(path string) error{
		"socket": func(path string) error {
			l, err := net.Listen("unix", path)
			if err != nil {
				return err
			}
			l.(*net.UnixListener).SetUnlinkOnClose(false)
			return l.Close()
		},
		"file":     func(path string) error { return os.WriteFile(path, []byte("x"), 0o600) },
		"dangling": func(path string) error { return os.Symlink("nowhere", path) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := testConfig(t)
			if err := leave(cfg.Dir.join(socketName)); err != nil {
				t.Fatal(err)
			}
			if _, err := cfg.Dir.Dial(t.Context()); err == nil {
				t.Error("nobody listens, and yet there is a connection")
			}
			start(t, cfg)
			if _, err := client.New(dial(t, cfg.Dir)).Overview(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// The kernel tells who calls; others than our user and root are hung up on.
func TestPeers(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	inner, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	callers := []int{1001, 1000, -1, 0, 1000}
	l := &ownListener{Listener: inner, uid: 1000, peer: func(conn net.Conn) (int, error) {
		if uid, err := peer(conn); uid != os.Geteuid() || err != nil {
			t.Errorf("the kernel says that user %d calls, %v", uid, err)
		}
		uid := callers[0]
		callers = callers[1:]
		if uid < 0 {
			return 0, errors.New("nobody knows")
		}
		return uid, nil
	}}
	defer l.Close()
	accepted := make(chan net.Conn)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- conn
		}
	}()
	open := 0
	for _, welcome := range []bool{false, true, false, true, true} {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if !welcome {
			if n, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
				t.Errorf("a stranger was not hung up on: %d, %v", n, err)
			}
			continue
		}
		served := <-accepted
		if open++; l.connected() != open {
			t.Errorf("%d connections are open, want %d", l.connected(), open)
		}
		defer served.Close()
	}
}

func TestNobody(t *testing.T) {
	t.Parallel()
	inner, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	l := &ownListener{Listener: inner, uid: os.Geteuid(), peer: peer}
	defer l.Close()
	<-l.nobody()
	client, err := net.Dial("unix", inner.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	alone := l.nobody()
	select {
	case <-alone:
		t.Error("somebody is connected")
	default:
	}
	if err := errors.Join(conn.Close()); err != nil {
		t.Error(err)
	}
	<-alone
	_ = conn.Close() // a second time, as grpc does
	if n := l.connected(); n != 0 {
		t.Errorf("%d connections", n)
	}
}

// A holder that takes connections and says nothing is not waited for for ever.
func TestSilentHolder(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	silent, err := net.Listen("unix", cfg.Dir.join(socketName))
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := cfg.Dir.Dial(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	// One that hangs up is told apart.
	go func() {
		for {
			conn, err := silent.Accept()
			if err != nil {
				return
			}
			_ = conn.Close()
		}
	}()
	if _, err := cfg.Dir.Dial(t.Context()); !errors.Is(err, navvy.ErrUnavailable) {
		t.Errorf("%v", err)
	}
}
