package pebble

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine/driver"
)

// faulty makes the write with a number fail, and those after it too, or not.
type faulty struct {
	at      int64 // counted from 0 when armed
	lasting bool
	armed   atomic.Bool
	n       atomic.Int64
	hit     atomic.Pointer[errorfs.Op]
}

func (f *faulty) String() string { return "faulty" }

func (f *faulty) MaybeError(op errorfs.Op) error {
	switch op.Kind {
	case errorfs.OpCreate, errorfs.OpRename, errorfs.OpReuseForWrite, errorfs.OpMkdirAll, errorfs.OpFileWrite,
		errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo:
	default:
		return nil
	}
	// That a log cannot be made fails only that call.
	making := op.Kind == errorfs.OpCreate || op.Kind == errorfs.OpMkdirAll
	if !f.armed.Load() || making && strings.HasPrefix(op.Path, "/store/logs") {
		return nil
	}
	if n := f.n.Add(1) - 1; n == f.at || f.lasting && n > f.at {
		f.hit.CompareAndSwap(nil, &op)
		return syscall.EIO
	}
	return nil
}

// TestWriteFails fails each write in turn. The store must fail for good, tell
// why, once, and lose nothing that it acknowledged.
func TestWriteFails(t *testing.T) {
	t.Parallel()
	for _, lasting := range []bool{false, true} {
		t.Run(fmt.Sprint(lasting), func(t *testing.T) {
			t.Parallel()
			for at := int64(0); ; {
				if !failAt(t, at, lasting) || t.Failed() {
					if at < 50 {
						t.Errorf("only %d writes", at)
					}
					return
				}
				at += 1 + at/8
			}
		})
	}
}

// failAt tells whether there was a write with that number.
func failAt(t *testing.T, at int64, lasting bool) bool {
	mem := vfs.NewCrashableMem()
	f := &faulty{at: at, lasting: lasting}
	fatal := make(chan error, 10)
	s := open(t, "/store", &Options{
		FS: errorfs.Wrap(mem, f), Memtable: 64 << 10, OnFatal: func(err error) { fatal <- err },
	})
	f.armed.Store(true)
	acked, err := fillUntilError(t, s)
	log, logged := appendUntilError(t, s)
	f.armed.Store(false)
	left := mem.CrashClone(vfs.CrashCloneCfg{})
	if f.hit.Load() == nil {
		if err != nil {
			t.Errorf("no write failed, but: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		return false
	}
	expectFailed(t, s, at, f, fatal, err)
	again := open(t, "/store", &Options{FS: left, Memtable: 64 << 10})
	holds(t, again, acked)
	if logged > 0 {
		r, err := again.OpenLog(t.Context(), log)
		if err != nil {
			t.Fatalf("write %d: %v", at, err)
		}
		p := make([]byte, logged)
		if _, err := r.ReadAt(p, 0); err != nil || !bytes.Equal(p, bytes.Repeat([]byte("x"), logged)) {
			t.Errorf("write %d: a synced log has changed, %v", at, err)
		}
		_ = r.Close()
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
	return true
}

// expectFailed looks at a store of which a write has failed.
func expectFailed(t *testing.T, s *Store, at int64, f *faulty, fatal chan error, err error) {
	t.Helper()
	told := <-fatal
	if !errors.Is(told, navvy.ErrUnavailable) || !errors.Is(told, syscall.EIO) || !strings.Contains(told.Error(), "/store") {
		t.Errorf("write %d: OnFatal got %v", at, told)
	}
	for _, err := range []error{
		err,
		s.Apply(t.Context(), new(driver.Batch)),
		s.Scan(t.Context(), driver.Range{}, func(_, _ []byte) error { return nil }),
		s.DropLogs(t.Context(), "x"),
		second(s.Get(t.Context(), []byte("k"))),
		second(s.CreateLog(t.Context(), "x")),
		s.Close(),
	} {
		if err != nil && (!errors.Is(err, navvy.ErrUnavailable) || !errors.Is(err, syscall.EIO)) {
			t.Errorf("write %d, %+v: a failed store returns %v", at, *f.hit.Load(), err)
		}
	}
	if len(fatal) > 0 {
		t.Errorf("OnFatal was called again: %v", <-fatal)
	}
}

func second[T any](_ T, err error) error { return err }

// fillUntilError fills more than one memtable.
func fillUntilError(t *testing.T, s *Store) (acked int, err error) {
	for i := range 60 {
		b := new(driver.Batch)
		b.Put(fmt.Appendf(nil, "k%06d", i), value(i))
		if err := s.Apply(t.Context(), b); err != nil {
			return i, err
		}
	}
	return 60, nil
}

// appendUntilError returns how many bytes of the log were synced.
func appendUntilError(t *testing.T, s *Store) (name string, synced int) {
	name = "output/job/0/1"
	w, err := s.CreateLog(t.Context(), name)
	if err != nil {
		return name, 0
	}
	defer func() { _ = w.Close() }()
	for i := range 5 {
		if w.Append(bytes.Repeat([]byte("x"), 1000)) != nil || w.Sync() != nil {
			break
		}
		synced = 1000 * (i + 1)
	}
	return name, synced
}

// TestOpenFails fails each write of opening, and opens again.
func TestOpenFails(t *testing.T) {
	t.Parallel()
	for _, fresh := range []bool{true, false} {
		t.Run(fmt.Sprint(fresh), func(t *testing.T) {
			t.Parallel()
			base, acked := vfs.NewCrashableMem(), 0
			if !fresh {
				s := open(t, "/store", &Options{FS: base, Memtable: 64 << 10})
				acked, _ = fillUntilError(t, s)
				base = base.CrashClone(vfs.CrashCloneCfg{})
				_ = s.Close()
			}
			for at := int64(0); ; at++ {
				mem := base.CrashClone(vfs.CrashCloneCfg{})
				f := &faulty{at: at, lasting: at%2 == 0}
				f.armed.Store(true)
				s, err := Open("/store", &Options{FS: errorfs.Wrap(mem, f), Memtable: 64 << 10})
				if f.hit.Load() == nil {
					if err != nil {
						t.Fatal(err)
					}
					_ = s.Close()
					return
				}
				if err == nil {
					// It was a write in the background.
					_ = s.Close()
				} else if !errors.Is(err, navvy.ErrUnavailable) || !strings.Contains(err.Error(), "/store") {
					t.Errorf("write %d, %+v: %v", at, *f.hit.Load(), err)
				}
				mem = mem.CrashClone(vfs.CrashCloneCfg{})
				again := open(t, "/store", &Options{FS: mem})
				holds(t, again, acked)
				if err := again.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// TestNoDescriptor has a log fail to be made: that is no reason to fail the store.
func TestNoDescriptor(t *testing.T) {
	t.Parallel()
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpCreate && strings.HasSuffix(op.Path, "_log") {
			return syscall.EMFILE
		}
		return nil
	}))
	s := open(t, "/store", &Options{FS: fs})
	if _, err := s.CreateLog(t.Context(), "log"); !errors.Is(err, navvy.ErrUnavailable) || !errors.Is(err, syscall.EMFILE) {
		t.Errorf("create log: %v", err)
	}
	if n, err := fillUntilError(t, s); err != nil {
		t.Errorf("after %d batches: %v", n, err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestReadFails has reading a table fail: the call says so, the store lives.
func TestReadFails(t *testing.T) {
	t.Parallel()
	mem := vfs.NewMem()
	var fail atomic.Bool
	fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if fail.Load() && op.Kind == errorfs.OpFileReadAt && strings.HasSuffix(op.Path, ".sst") {
			return syscall.EIO
		}
		return nil
	}))
	s := open(t, "/store", &Options{FS: fs})
	acked, err := fillUntilError(t, s)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, "/store", &Options{FS: fs}) // nothing is in memory
	fail.Store(true)
	for _, err := range []error{
		second(s.Get(t.Context(), []byte("k000001"))),
		s.Scan(t.Context(), driver.Range{}, func(_, _ []byte) error { return nil }),
	} {
		if !errors.Is(err, navvy.ErrUnavailable) || !errors.Is(err, syscall.EIO) {
			t.Errorf("reading fails: %v", err)
		}
	}
	fail.Store(false)
	holds(t, s, acked)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
