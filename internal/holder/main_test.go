package holder

import (
	"context"
	"log/slog"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"github.com/navvy-run/navvy/engine/driver"
	"github.com/navvy-run/navvy/engine/memory"
	"github.com/navvy-run/navvy/runner"
	runnerdriver "github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/runner/noop"
	"github.com/navvy-run/navvy/runner/process"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testConfig is a holder of a new data directory with a store in memory, which
// runs real processes.
func testConfig(t *testing.T) Config {
	t.Helper()
	dir, err := OpenDir(t.TempDir() + "/data")
	if err != nil {
		t.Fatal(err)
	}
	store := memory.New()
	return Config{
		Dir: dir,
		OpenStore: func(context.Context, func(bool), func(error)) (driver.Store, error) {
			return store, nil
		},
		Runners: testRunners,
		Owner:   "tester", Version: "test", Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
}

func testRunners(_ context.Context, journal *runner.Journal) ([]*runner.Runner, error) {
	var list []*runner.Runner
	for _, d := range []runnerdriver.Driver{process.NewDriver(&process.Options{Render: render}), noop.Driver{}} {
		list = append(list, runner.New(d, &runner.Options{Journal: journal}))
	}
	return list, nil
}

// render appends the input to the command.
func render(t *runnerdriver.Task) ([]string, error) {
	return append(slices.Clip(t.Spec.Command.Args), string(t.Input)), nil
}

// start makes this process the holder until stop is called, or the test ends.
func start(t *testing.T, cfg Config) (h *Holder, stop func() (left bool, err error)) {
	t.Helper()
	lock, pid, err := cfg.Dir.TryLock()
	if err != nil || lock == nil {
		t.Fatalf("the lock is held by %d: %v", pid, err)
	}
	h, err = Start(t.Context(), lock, cfg)
	if err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceValues(func() (bool, error) {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		return h.Close(ctx, true)
	})
	t.Cleanup(func() {
		if _, err := stop(); err != nil {
			t.Error(err)
		}
	})
	return h, stop
}

// dial connects to the holder's socket until the test ends.
func dial(t *testing.T, d *Dir) *grpc.ClientConn {
	t.Helper()
	conn, err := d.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return conn
}

// touch makes an empty file.
func touch(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}
