package share

import (
	"context"
	"crypto/rand"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/navvy-run/navvy/engine"
	"github.com/navvy-run/navvy/engine/driver"
	memorystore "github.com/navvy-run/navvy/engine/memory"
	"github.com/navvy-run/navvy/engine/pebble"
	"github.com/navvy-run/navvy/engine/postgres"
	"github.com/navvy-run/navvy/share/enginebucket"
)

// engineOn is a share that the engine keeps, on any store. Each has an engine of its own.
func engineOn(open func(t *testing.T) driver.Store) store {
	spoiled := sync.Map{}
	return store{
		open: func(t *testing.T) *Share {
			st := &spoiledStore{Store: open(t)}
			e, err := engine.Open(t.Context(), st, nil)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if _, err := e.Verify(context.Background(), func(err error) { st.complain(t, err) }); err != nil {
					t.Error(err)
				}
				if err := st.Close(); err != nil {
					t.Error(err)
				}
			})
			s := OpenSums("engine", enginebucket.Open(e.Files()), e.Files().Move)
			spoiled.Store(s, st)
			return s
		},
		spoil: func(_ *testing.T, s *Share, _ string, data []byte) {
			st, _ := spoiled.Load(s)
			st.(*spoiledStore).spoil(data)
		},
		fixed: true,
	}
}

// spoiledStore gives back something else than was written.
type spoiledStore struct {
	driver.Store
	mu   sync.Mutex
	last string // the log that was begun last
	bad  map[string]string
}

// complain tells of what verify finds, unless it was to find it.
func (s *spoiledStore) complain(t *testing.T, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bad == nil {
		t.Error(err)
	}
}

func (s *spoiledStore) spoil(data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bad == nil {
		s.bad = map[string]string{}
	}
	s.bad[s.last] = string(data)
}

func (s *spoiledStore) CreateLog(ctx context.Context, name string) (driver.LogWriter, error) {
	s.mu.Lock()
	s.last = name
	s.mu.Unlock()
	return s.Store.CreateLog(ctx, name)
}

func (s *spoiledStore) OpenLog(ctx context.Context, name string) (driver.LogReader, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if data, ok := s.bad[name]; ok {
		return spoiledLog{strings.NewReader(data)}, nil
	}
	return s.Store.OpenLog(ctx, name)
}

type spoiledLog struct{ io.ReaderAt }

func (spoiledLog) Close() error { return nil }

func engineInMemory(*testing.T) store {
	return engineOn(func(*testing.T) driver.Store { return memorystore.New() })
}

func engineOnPebble(*testing.T) store {
	return engineOn(func(t *testing.T) driver.Store {
		s, err := pebble.Open(t.TempDir(), nil)
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}

func engineOnPostgres(t *testing.T) store {
	url := os.Getenv("NAVVY_TEST_POSTGRES")
	switch {
	case url != "":
	case os.Getenv("CI") != "":
		t.Fatal("NAVVY_TEST_POSTGRES is not set; see scripts/postgres.sh")
	default:
		t.Skip("NAVVY_TEST_POSTGRES is not set; see scripts/postgres.sh")
	}
	return engineOn(func(t *testing.T) driver.Store {
		name := "test_" + strings.ToLower(rand.Text())
		s, err := postgres.Open(t.Context(), url, &postgres.Options{Schema: name, Connections: 2})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { dropSchema(t, url, name) })
		return s
	})
}

func dropSchema(t *testing.T, url, name string) {
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
}
