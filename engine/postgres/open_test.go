package postgres

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine/driver"
	"github.com/navvy-run/navvy/engine/driver/drivertest"
)

// admin runs a statement beside the store.
func admin(t testing.TB, url, sql string, args ...any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	if _, err := conn.Exec(ctx, sql, args...); err != nil {
		t.Fatal(err)
	}
}

// refused opens what must be refused, with this error and these words.
func refusedOpen(t *testing.T, url string, opts *Options, want error, words ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	s, err := Open(ctx, url, opts)
	if err == nil {
		_ = s.Close()
	}
	if !errors.Is(err, want) {
		t.Errorf("open: %v, want %v", err, want)
		return
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("error does not say %q: %v", word, err)
		}
	}
	if strings.Contains(err.Error(), "s3cr3t") {
		t.Errorf("error shows the password: %v", err)
	}
}

func put(key, value string) *driver.Batch {
	b := new(driver.Batch)
	b.Put([]byte(key), []byte(value))
	return b
}

func TestOpenTwice(t *testing.T) {
	t.Parallel()
	url := server(t)
	opts := &Options{Schema: schema(t, url)}
	s := open(t, url, opts)
	refusedOpen(t, url, opts, navvy.ErrUnavailable, "held by another navvy", opts.Schema)
	// Another schema is another store.
	other := open(t, url, &Options{Schema: schema(t, url)})
	for _, err := range []error{other.Close(), s.Apply(t.Context(), put("a", "1")), s.Close()} {
		if err != nil {
			t.Error(err)
		}
	}
	if err := open(t, url, opts).Close(); err != nil {
		t.Error(err)
	}
}

func TestOpenNewer(t *testing.T) {
	t.Parallel()
	url := server(t)
	opts := &Options{Schema: schema(t, url)}
	if err := open(t, url, opts).Close(); err != nil {
		t.Fatal(err)
	}
	admin(t, url, "UPDATE "+opts.Schema+".meta SET version = 2")
	refusedOpen(t, url, opts, navvy.ErrCorrupt, "version 2", "newer")
	admin(t, url, "DELETE FROM "+opts.Schema+".meta")
	refusedOpen(t, url, opts, navvy.ErrCorrupt, "meta")
}

func TestOpenDenied(t *testing.T) {
	t.Parallel()
	address := server(t)
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	role := schema(t, address)
	admin(t, address, "CREATE ROLE "+role+" LOGIN PASSWORD 's3cr3t'")
	t.Cleanup(func() { admin(t, address, "DROP ROLE "+role) })
	u.User = url.UserPassword(role, "s3cr3t")
	refusedOpen(t, u.String(), nil, navvy.ErrDenied, "permission")
	u.User = url.UserPassword("nobody_"+role, "s3cr3t")
	refusedOpen(t, u.String(), nil, navvy.ErrDenied, "nobody_"+role)
	u.Path = "/no_such_database"
	u.User = url.UserPassword(role, "s3cr3t")
	refusedOpen(t, u.String(), nil, navvy.ErrNotFound, "no_such_database")
}

// TestOpenWithoutServer needs no server.
func TestOpenWithoutServer(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{
		"postgres://user:s3cr3t@127.0.0.1:notaport/db", "postgres://user:s3cr3t@%zz/db", "postgres://user:s3cr3t@host/db?sslmode=maybe",
		"://s3cr3t",
	} {
		refusedOpen(t, bad, nil, navvy.ErrInvalid, "postgres://user:password@host")
	}
	refusedOpen(t, "postgres://user:s3cr3t@127.0.0.1:1/db?connect_timeout=2", nil, navvy.ErrUnavailable, "127.0.0.1:1", "db")
	for _, bad := range []*Options{{Schema: "A"}, {Schema: "a-b"}, {Schema: `x"; DROP`}, {Schema: strings.Repeat("x", 64)}, {Connections: 1}, {Connections: -2}} {
		refusedOpen(t, "postgres://user@127.0.0.1:1/db", bad, navvy.ErrInvalid, "Options.")
	}
}

func TestPlace(t *testing.T) {
	t.Parallel()
	address := server(t)
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(u.User.Username(), "s3cr3t")
	s := open(t, u.String(), &Options{Schema: schema(t, address)})
	if place := s.Info().Place; strings.Contains(place, "s3cr3t") || !strings.Contains(place, s.opts.Schema) {
		t.Errorf("place is %q", place)
	}
	if place, err := Place(u.String(), &Options{Schema: s.opts.Schema}); err != nil || place != s.Info().Place {
		t.Errorf("%q, %v; want %q", place, err, s.Info().Place)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestLost ends one of the connections that live as long as the store.
func TestLost(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		pid  func(s *Store) uint32
		idle bool
	}{
		"the one that changes":          {func(s *Store) uint32 { return s.writer.PgConn().PID() }, false},
		"the one that changes, at rest": {func(s *Store) uint32 { return s.writer.PgConn().PID() }, true},
		"the one that waits":            {func(s *Store) uint32 { return s.syncer.PgConn().PID() }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := server(t)
			fatal := make(chan error, 10)
			opts := &Options{Schema: schema(t, url), OnFatal: func(err error) { fatal <- err }, ping: time.Hour}
			if test.idle {
				opts.ping = 10 * time.Millisecond
			}
			s := open(t, url, opts)
			if err := s.Apply(t.Context(), put("a", "1")); err != nil {
				t.Fatal(err)
			}
			w, err := s.CreateLog(t.Context(), "log")
			if err != nil {
				t.Fatal(err)
			}
			admin(t, url, "SELECT pg_terminate_backend($1)", int32(test.pid(s)))
			if !test.idle {
				// Whichever connection it is, this needs both.
				if err := errors.Join(s.Apply(t.Context(), put("b", "1")), w.Append([]byte("x")), w.Sync()); err == nil {
					t.Error("nothing noticed that the connection is gone")
				}
			}
			if err := <-fatal; !errors.Is(err, navvy.ErrUnavailable) || !strings.Contains(err.Error(), opts.Schema) {
				t.Errorf("OnFatal got %v", err)
			}
			// Another takes over, and the first changes nothing any more.
			next := open(t, url, opts)
			if err := s.Apply(t.Context(), put("a", "2")); !errors.Is(err, navvy.ErrUnavailable) {
				t.Errorf("apply on a failed store: %v", err)
			}
			if _, err := s.Get(t.Context(), []byte("a")); !errors.Is(err, navvy.ErrUnavailable) {
				t.Errorf("get on a failed store: %v", err)
			}
			if got, err := next.Get(t.Context(), []byte("a")); err != nil || string(got) != "1" {
				t.Errorf("get: %q, %v", got, err)
			}
			_ = w.Close()
			if err := s.Close(); !errors.Is(err, navvy.ErrUnavailable) {
				t.Errorf("close of a failed store: %v", err)
			}
			if err := next.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestCrashFindsLazy shows that the crash test would find a commit that does
// not wait for the disk.
func TestCrashFindsLazy(t *testing.T) {
	t.Parallel()
	p := newPrivate(t)
	lazy := func(t testing.TB) driver.Store {
		s := open(t, p.url, nil)
		s.commits.wait = "off"
		s.sql.flush = "SELECT"
		return s
	}
	h := drivertest.Harness{
		New: lazy,
		Crash: func(t testing.TB, s driver.Store, seed uint64) driver.Store {
			_ = p.crash(t, s, seed).Close()
			return lazy(t)
		},
	}
	for seed := range uint64(5) {
		err := drivertest.CheckCrash(t, h, seed)
		if err != nil {
			t.Log(err)
			return
		}
		admin(t, p.url, "DROP SCHEMA navvy CASCADE")
	}
	t.Error("not found")
}
