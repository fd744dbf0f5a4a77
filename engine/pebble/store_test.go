package pebble

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/navvy-run/navvy/engine/driver"
	"github.com/navvy-run/navvy/engine/driver/drivertest"
)

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
			New: func(t testing.TB) driver.Store {
				return open(t, "/store", &Options{FS: &oddFS{FS: vfs.NewCrashableMem(), slow: true}})
			},
			Reopen:  reopen,
			Crash:   crash,
			Crashes: 8,
		})
	})
}

// crash opens what a loss of power at this moment leaves: what was synced, and
// a random part of what was not.
func crash(t testing.TB, s driver.Store, seed uint64) driver.Store {
	t.Helper()
	opts := s.(*Store).opts
	rng := rand.New(rand.NewPCG(seed, 1))
	fs := *opts.FS.(*oddFS)
	fs.FS = fs.FS.(*vfs.MemFS).CrashClone(vfs.CrashCloneCfg{
		UnsyncedDataPercent: []int{0, 10, 50, 90, 100}[rng.IntN(5)],
		RNG:                 rng,
	})
	_ = s.Close()
	opts.FS = &fs
	again, err := Open(s.Info().Place, &opts)
	if err != nil {
		t.Fatal(err)
	}
	return again
}

// oddFS is a file system that takes its time to sync the log of changes, or
// does not sync some files at all.
type oddFS struct {
	vfs.FS
	slow bool
	lost func(name string) bool
}

func (o *oddFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := o.FS.Create(name, category)
	return o.file(name, f, err)
}

func (o *oddFS) ReuseForWrite(from, to string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := o.FS.ReuseForWrite(from, to, category)
	return o.file(to, f, err)
}

func (o *oddFS) OpenDir(name string) (vfs.File, error) {
	f, err := o.FS.OpenDir(name)
	return o.file(name, f, err)
}

func (o *oddFS) file(name string, f vfs.File, err error) (vfs.File, error) {
	switch {
	case err != nil:
		return nil, err
	case o.lost != nil && o.lost(name):
		return unsyncedFile{f}, nil
	case o.slow && strings.HasSuffix(name, ".log"):
		return slowFile{f}, nil
	}
	return f, nil
}

type unsyncedFile struct{ vfs.File }

func (unsyncedFile) Sync() error     { return nil }
func (unsyncedFile) SyncData() error { return nil }

// slowFile makes it likely that a crash comes while something waits for a sync.
type slowFile struct{ vfs.File }

func (f slowFile) SyncData() error {
	<-time.After(time.Millisecond)
	return f.File.SyncData()
}

// TestCrashFindsLies shows that the crash test would find a missing sync.
func TestCrashFindsLies(t *testing.T) {
	t.Parallel()
	for name, lost := range map[string]func(name string) bool{
		"the log of changes":   func(name string) bool { return strings.HasSuffix(name, ".log") },
		"output":               func(name string) bool { return strings.HasSuffix(name, "_log") },
		"output's directory":   func(name string) bool { return strings.HasPrefix(name, "/store/logs/crash/") },
		"output's directories": func(name string) bool { return name == "/store/logs" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := drivertest.Harness{
				New: func(t testing.TB) driver.Store {
					return open(t, "/store", &Options{FS: &oddFS{FS: vfs.NewCrashableMem(), lost: lost}})
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
