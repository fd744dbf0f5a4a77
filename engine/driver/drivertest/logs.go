package drivertest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine/driver"
)

func createLog(t testing.TB, s driver.Store, name string) driver.LogWriter {
	t.Helper()
	w, err := s.CreateLog(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func openLog(t testing.TB, s driver.Store, name string) driver.LogReader {
	t.Helper()
	r, err := s.OpenLog(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// must fails the test if one of the steps did.
func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func testLogs(t *testing.T, h Harness) {
	s := open(t, h)
	w := createLog(t, s, "output/j1/0/1")
	_, err := s.CreateLog(t.Context(), "output/j1/0/1")
	wantError(t, err, navvy.ErrExists)
	_, err = s.OpenLog(t.Context(), "output/j1/0/2")
	wantError(t, err, navvy.ErrNotFound)

	must(t, w.Sync())
	r := openLog(t, s, "output/j1/0/1")
	if n, err := r.ReadAt(make([]byte, 1), 0); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("an empty log gave %d bytes, %v", n, err)
	}

	piece := []byte("hello ")
	must(t, w.Append(piece))
	copy(piece, "world!") // the caller's again
	must(t, w.Append(piece), w.Append(nil), w.Sync())
	for _, test := range []struct {
		off  int64
		size int
		want string
		err  error
	}{
		{0, 12, "hello world!", nil},
		{0, 13, "hello world!", io.EOF},
		{6, 3, "wor", nil},
		{11, 5, "!", io.EOF},
		{12, 5, "", io.EOF},
		{900, 5, "", io.EOF},
		{-1, 5, "", navvy.ErrInvalid},
	} {
		p := make([]byte, test.size)
		n, err := r.ReadAt(p, test.off)
		// io.ReaderAt leaves open whether the last bytes come with io.EOF.
		full := n == test.size && test.err == nil
		if string(p[:n]) != test.want || !full && !errors.Is(err, test.err) {
			t.Errorf("read %d at %d: %q, %v; want %q, %v", test.size, test.off, p[:n], err, test.want, test.err)
		}
	}

	// The writer may go; the log stays, and its name is taken.
	must(t, w.Append([]byte(" again")), w.Sync(), w.Close())
	if got := readLog(t, r, 18); got != "hello world! again" {
		t.Errorf("log is %q", got)
	}
	must(t, r.Close())
	_, err = s.CreateLog(t.Context(), "output/j1/0/1")
	wantError(t, err, navvy.ErrExists)
	wantError(t, w.Append([]byte("x")), navvy.ErrClosed)

	// Large pieces, of which no size is round.
	w = createLog(t, s, "large")
	var want []byte
	for i := range 5 {
		piece := bytes.Repeat([]byte{byte('a' + i), 0, 0xff}, 100_000+i)
		want = append(want, piece...)
		must(t, w.Append(piece))
	}
	must(t, w.Sync(), w.Close())
	r = openLog(t, s, "large")
	if got := readLog(t, r, len(want)+1); got != string(want) {
		t.Errorf("a large log came back changed, %d bytes of %d", len(got), len(want))
	}
	must(t, r.Close())
}

func readLog(t testing.TB, r driver.LogReader, size int) string {
	t.Helper()
	p := make([]byte, size)
	n, err := r.ReadAt(p, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return string(p[:n])
}

func testLogNames(t *testing.T, h Harness) {
	s := open(t, h)
	long := strings.Repeat("a", driver.MaxLogName)
	deep := strings.Repeat("a/", driver.MaxLogName/2-1) + "a"
	for _, name := range []string{"a", "a/b", "a/b/c", "a.b", "a.log/b", "a.log", "-", "...", "..a", "a..", "0/.x", long, deep} {
		w := createLog(t, s, name)
		must(t, w.Append([]byte(name)), w.Sync(), w.Close())
	}
	for _, name := range []string{"a", "a/b", "a/b/c", "a.log", "a.log/b", "...", long, deep} {
		r := openLog(t, s, name)
		if got := readLog(t, r, 300); got != name {
			t.Errorf("log %.20q holds %.20q", name, got)
		}
		must(t, r.Close())
	}
	for _, name := range []string{
		"", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/..", "a/./b", "A", "a_b", "a b", "a\\b", "a\x00b", "é", "a:b", long + "a",
	} {
		_, err := s.CreateLog(t.Context(), name)
		wantError(t, err, navvy.ErrInvalid)
		_, err = s.OpenLog(t.Context(), name)
		wantError(t, err, navvy.ErrInvalid)
		wantError(t, s.DropLogs(t.Context(), name), navvy.ErrInvalid)
	}
}

func testDropLogs(t *testing.T, h Harness) {
	s := open(t, h)
	create := func(names ...string) {
		for _, name := range names {
			w := createLog(t, s, name)
			must(t, w.Append([]byte(name)), w.Sync(), w.Close())
		}
	}
	there := func(want bool, names ...string) {
		t.Helper()
		for _, name := range names {
			r, err := s.OpenLog(t.Context(), name)
			if err == nil {
				must(t, r.Close())
			}
			if want {
				must(t, err)
			} else {
				wantError(t, err, navvy.ErrNotFound)
			}
		}
	}
	must(t, s.DropLogs(t.Context(), "nothing"), s.DropLogs(t.Context(), "nothing/at/all"))
	create("out/j1", "out/j1/0/1", "out/j1/0/2", "out/j1/1/1", "out/j10/0/1", "out/j1.x", "out/j2/0/1", "other")
	must(t, s.DropLogs(t.Context(), "out/j1"))
	there(false, "out/j1", "out/j1/0/1", "out/j1/0/2", "out/j1/1/1")
	there(true, "out/j10/0/1", "out/j1.x", "out/j2/0/1", "other")
	must(t, s.DropLogs(t.Context(), "out/j1"))

	// One log of many; then the last ones, and their names can be used again.
	must(t, s.DropLogs(t.Context(), "out/j2/0/1"))
	there(false, "out/j2/0/1")
	must(t, s.DropLogs(t.Context(), "out"))
	there(false, "out/j10/0/1", "out/j1.x")
	there(true, "other")
	create("out/j1/0/1")
	there(true, "out/j1/0/1")

	// A log that is being written and read.
	w := createLog(t, s, "out/j3/0/1")
	must(t, w.Append([]byte("one")), w.Sync())
	r := openLog(t, s, "out/j3/0/1")
	must(t, s.DropLogs(t.Context(), "out/j3"))
	_ = w.Append([]byte("two")) // may fail
	_ = w.Sync()
	_ = w.Close()
	_ = r.Close()
	there(false, "out/j3/0/1")
}

// testLogsInUse reads logs while they grow, and makes and drops others beside.
func testLogsInUse(t *testing.T, h Harness) {
	s := open(t, h)
	const writers, pieces, size = 4, 60, 3000
	err := together(2*writers, func(i int) error {
		if i >= writers {
			for n := range pieces / 2 {
				name := fmt.Sprintf("tree/d%d/%d", i%2, i*1000+n)
				w, err := s.CreateLog(t.Context(), name)
				if err != nil {
					return err
				}
				if err := w.Append([]byte(name)); err != nil {
					return err
				}
				if err := errors.Join(w.Sync(), w.Close(), s.DropLogs(t.Context(), name)); err != nil {
					return err
				}
			}
			return nil
		}
		name := fmt.Sprintf("tree/w%d", i)
		w, err := s.CreateLog(t.Context(), name)
		if err != nil {
			return err
		}
		if err := w.Sync(); err != nil {
			return err
		}
		var synced atomic.Int64
		return together(2, func(part int) error {
			if part == 0 {
				for n := range pieces {
					if err := w.Append(bytes.Repeat([]byte{byte(n)}, size)); err != nil {
						return err
					}
					if n%7 == 0 || n == pieces-1 {
						if err := w.Sync(); err != nil {
							return err
						}
						synced.Store(int64(n+1) * size)
					}
				}
				return w.Close()
			}
			return follow(t, s, name, &synced, pieces*size, func(off int64) byte { return byte(off / size) })
		})
	})
	if err != nil {
		t.Error(err)
	}
}

// follow reads a log from its start until all of it came, each byte right, and
// never less than what was synced before it looked.
func follow(t testing.TB, s driver.Store, name string, synced *atomic.Int64, end int64, want func(off int64) byte) error {
	r, err := s.OpenLog(t.Context(), name)
	if err != nil {
		return err
	}
	p := make([]byte, 4096)
	for off := int64(0); off < end; {
		least := synced.Load()
		n, err := r.ReadAt(p, off)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if n < len(p) && off+int64(n) < least {
			return fmt.Errorf("log %s ends at %d, %d were synced", name, off+int64(n), least)
		}
		for i, c := range p[:n] {
			if c != want(off+int64(i)) {
				return fmt.Errorf("log %s: byte %d is %d", name, off+int64(i), c)
			}
		}
		off += int64(n)
	}
	return r.Close()
}
