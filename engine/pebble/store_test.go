package pebble

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"github.com/navvy-run/navvy/engine/driver"
	"github.com/navvy-run/navvy/engine/driver/drivertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestStore(t *testing.T) {
	t.Parallel()
	reopen := func(t testing.TB, s driver.Store) driver.Store {
		_ = s.Close()
		return open(t, s.Info().Place, &s.(*Store).opts)
	}
	t.Run("disk", func(t *testing.T) {
		t.Parallel()
		drivertest.Run(t, drivertest.Harness{
			New:    func(t testing.TB) driver.Store { return open(t, t.TempDir(), nil) },
			Reopen: reopen,
		})
	})
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		drivertest.Run(t, drivertest.Harness{
			New:     func(t testing.TB) driver.Store { return open(t, "/store", &Options{FS: vfs.NewCrashableMem()}) },
			Reopen:  reopen,
			Crash:   crash,
			Crashes: 10,
		})
	})
}

// crash opens what a loss of power at this moment leaves: what was synced, and
// a random part of what was not.
func crash(t testing.TB, s driver.Store, seed uint64) driver.Store {
	t.Helper()
	opts := s.(*Store).opts
	rng := rand.New(rand.NewPCG(seed, 1))
	liar, _ := opts.FS.(*lyingFS)
	if liar != nil {
		opts.FS = liar.FS
	}
	left := opts.FS.(*vfs.MemFS).CrashClone(vfs.CrashCloneCfg{
		UnsyncedDataPercent: []int{0, 10, 50, 90, 100}[rng.IntN(5)],
		RNG:                 rng,
	})
	_ = s.Close()
	opts.FS = left
	if liar != nil {
		opts.FS = &lyingFS{FS: left, about: liar.about}
	}
	again, err := Open(s.Info().Place, &opts)
	if err != nil {
		t.Fatal(err)
	}
	return again
}

// lyingFS is a file system that does not sync some files.
type lyingFS struct {
	vfs.FS
	about func(name string) bool
}

func (l *lyingFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := l.FS.Create(name, category)
	return l.file(name, f, err)
}

func (l *lyingFS) ReuseForWrite(from, to string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := l.FS.ReuseForWrite(from, to, category)
	return l.file(to, f, err)
}

func (l *lyingFS) OpenDir(name string) (vfs.File, error) {
	f, err := l.FS.OpenDir(name)
	return l.file(name, f, err)
}

func (l *lyingFS) file(name string, f vfs.File, err error) (vfs.File, error) {
	if err == nil && l.about(name) {
		f = unsyncedFile{f}
	}
	return f, err
}

type unsyncedFile struct{ vfs.File }

func (unsyncedFile) Sync() error     { return nil }
func (unsyncedFile) SyncData() error { return nil }

// TestCrashFindsLies shows that the crash test would find a missing sync.
func TestCrashFindsLies(t *testing.T) {
	t.Parallel()
	for name, about := range map[string]func(name string) bool{
		"the log of changes":   func(name string) bool { return strings.HasSuffix(name, ".log") },
		"output":               func(name string) bool { return strings.HasSuffix(name, "_log") },
		"output's directory":   func(name string) bool { return strings.HasPrefix(name, "/store/logs/crash/") },
		"output's directories": func(name string) bool { return name == "/store/logs" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := drivertest.Harness{
				New: func(t testing.TB) driver.Store {
					return open(t, "/store", &Options{FS: &lyingFS{FS: vfs.NewCrashableMem(), about: about}})
				},
				Crash: crash,
			}
			for seed := range uint64(20) {
				if err := drivertest.CheckCrash(t, h, seed); err != nil {
					t.Log(err)
					return
				}
			}
			t.Error("not found")
		})
	}
}

func open(t testing.TB, dir string, opts *Options) *Store {
	t.Helper()
	s, err := Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
