package postgres

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/navvy-run/navvy/engine/driver"
	"github.com/navvy-run/navvy/engine/driver/drivertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server returns the URL of the PostgreSQL to test with.
func server(t testing.TB) string {
	t.Helper()
	url := os.Getenv("NAVVY_TEST_POSTGRES")
	if url == "" {
		if os.Getenv("CI") != "" {
			t.Fatal("NAVVY_TEST_POSTGRES is not set; see scripts/postgres.sh")
		}
		t.Skip("NAVVY_TEST_POSTGRES is not set; see scripts/postgres.sh")
	}
	return url
}

// schema returns a schema of the test's own, which is dropped after it.
func schema(t testing.TB, url string) string {
	t.Helper()
	name := "test_" + strings.ToLower(rand.Text())
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		conn, err := pgx.Connect(ctx, url)
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = conn.Close(ctx) }()
		if _, err := conn.Exec(ctx, "DROP SCHEMA IF EXISTS "+name+" CASCADE"); err != nil {
			t.Error(err)
		}
	})
	return name
}

func open(t testing.TB, url string, opts *Options) *Store {
	t.Helper()
	s, err := Open(t.Context(), url, opts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func harness(t testing.TB) drivertest.Harness {
	url := server(t)
	return drivertest.Harness{
		New: func(t testing.TB) driver.Store {
			return open(t, url, &Options{Schema: schema(t, url), Connections: 3})
		},
		Reopen: func(t testing.TB, s driver.Store) driver.Store {
			_ = s.Close()
			return open(t, url, &s.(*Store).opts)
		},
	}
}

func TestStore(t *testing.T) {
	t.Parallel()
	drivertest.Run(t, harness(t))
}

func BenchmarkStore(b *testing.B) { drivertest.Bench(b, harness(b)) }

// private is a server of the test's own, which it may crash.
type private struct {
	dir string
	url string
}

func script(t testing.TB, verb, dir string) string {
	t.Helper()
	path, err := filepath.Abs("../../scripts/postgres.sh")
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(path, verb, dir).Output()
	if err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			t.Logf("%s", exit.Stderr)
		}
		t.Fatalf("postgres.sh %s: %v", verb, err)
	}
	return strings.TrimSpace(string(out))
}

func newPrivate(t testing.TB) *private {
	t.Helper()
	server(t)
	// The parents of t.TempDir are closed to the user that runs the server.
	dir, err := os.MkdirTemp("", "navvy-postgres") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	p := &private{dir: dir, url: script(t, "start", dir)}
	t.Cleanup(func() {
		script(t, "stop", dir)
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return p
}

// crash ends the server as its death would, and starts it again.
func (p *private) crash(t testing.TB, s driver.Store, _ uint64) driver.Store {
	t.Helper()
	// The script takes its time to start: what was known to be durable when this
	// was called would have become so meanwhile.
	text, err := os.ReadFile(filepath.Join(p.dir, "data", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.Fields(string(text))[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGQUIT); err != nil {
		t.Fatal(err)
	}
	script(t, "crash", p.dir)
	script(t, "start", p.dir)
	_ = s.Close()
	return open(t, p.url, &s.(*Store).opts)
}

// TestCrash crashes the server under load, time and again.
func TestCrash(t *testing.T) {
	t.Parallel()
	for i := range 2 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			p := newPrivate(t)
			h := drivertest.Harness{
				New:   func(t testing.TB) driver.Store { return open(t, p.url, nil) },
				Crash: p.crash,
			}
			if err := drivertest.CheckCrash(t, h, uint64(i)); err != nil {
				t.Error(err)
			}
		})
	}
}
