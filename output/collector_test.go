package output_test

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/output"
)

// check sees that out describes frames, which hold just these streams.
func check(t *testing.T, out navvy.Output, frames, stdout, stderr []byte) {
	t.Helper()
	if out.Length != int64(len(frames)) || out.CRC != output.UpdateCRC(0, frames) {
		t.Errorf("length %d and checksum %x do not describe the %d bytes of frames", out.Length, out.CRC, len(frames))
	}
	if out.Stdout != int64(len(stdout)) || out.Stderr != int64(len(stderr)) {
		t.Errorf("%d and %d bytes are counted, want %d and %d", out.Stdout, out.Stderr, len(stdout), len(stderr))
	}
	gotOut, gotErr, err := output.Split(frames)
	if err != nil || !bytes.Equal(gotOut, stdout) || !bytes.Equal(gotErr, stderr) {
		t.Errorf("frames hold %d and %d bytes, %v; want %d and %d", len(gotOut), len(gotErr), err, len(stdout), len(stderr))
	}
}

// ways are how a stream comes to a Writer.
var ways = map[string]func(w *output.Writer, p []byte) error{
	"write": func(w *output.Writer, p []byte) error {
		_, err := w.Write(p)
		return err
	},
	"read": func(w *output.Writer, p []byte) error {
		_, err := w.ReadFrom(bytes.NewReader(p))
		return err
	},
	"read in bits": func(w *output.Writer, p []byte) error {
		_, err := w.ReadFrom(iotest.HalfReader(bytes.NewReader(p)))
		return err
	},
}

func TestCollector(t *testing.T) {
	t.Parallel()
	for name, feed := range ways {
		for size, n := range map[string]int{"none": 0, "short": 10, "just short": 60_000, "long": 70_000, "longer": 1_000_000} {
			t.Run(name+" "+size, func(t *testing.T) {
				t.Parallel()
				s := newSink()
				c := output.NewCollector(s)
				stdout, stderr := pattern(n), pattern(n/1000)
				if err := feed(c.Stderr(), stderr); err != nil {
					t.Error(err)
				}
				if err := feed(c.Stdout(), stdout); err != nil {
					t.Error(err)
				}
				out, err := c.Finish()
				if err != nil {
					t.Error(err)
				}
				if short := out.Length < output.InlineLimit; out.Logged == short || short != (s.pieces == 0) {
					t.Errorf("%d bytes of frames: logged %t, %d uploads", out.Length, out.Logged, s.pieces)
				}
				frames := out.Inline
				if out.Logged {
					frames = s.bytes()
				}
				check(t, out, frames, stdout, stderr)
			})
		}
	}
}

// TestCollectorPieces sees that many short writes make few uploads.
func TestCollectorPieces(t *testing.T) {
	t.Parallel()
	s := newSink()
	c := output.NewCollector(s)
	const lines = 100_000
	for range lines {
		if _, err := c.Stdout().Write([]byte("a line\n")); err != nil {
			t.Fatal(err)
		}
	}
	out, err := c.Finish()
	if err != nil || !out.Logged || int64(s.pieces) > 2+out.Length/output.InlineLimit*5/4 {
		t.Errorf("%d bytes took %d uploads, %v", out.Length, s.pieces, err)
	}
	check(t, out, s.bytes(), bytes.Repeat([]byte("a line\n"), lines), nil)
}

// TestCollectorBoth writes both streams at once.
func TestCollectorBoth(t *testing.T) {
	t.Parallel()
	s := newSink()
	c := output.NewCollector(s)
	stdout, stderr := pattern(3_000_000), pattern(2_000_000)
	var copiers sync.WaitGroup
	copiers.Go(func() {
		if err := ways["read"](c.Stdout(), stdout); err != nil {
			t.Error(err)
		}
	})
	copiers.Go(func() {
		if err := ways["write"](c.Stderr(), stderr); err != nil {
			t.Error(err)
		}
	})
	copiers.Wait()
	out, err := c.Finish()
	if err != nil {
		t.Error(err)
	}
	check(t, out, s.bytes(), stdout, stderr)
}

func TestCollectorWatch(t *testing.T) {
	t.Parallel()
	s := newSink()
	c := output.NewCollector(s)
	write := func(line string) {
		if _, err := io.WriteString(c.Stdout(), line); err != nil {
			t.Fatal(err)
		}
	}
	write("before\n")
	c.Watch()
	<-s.grown
	if got, _, _ := output.Split(s.bytes()); string(got) != "before\n" {
		t.Errorf("the watcher got %q", got)
	}
	c.Watch()
	write("after\n")
	if got, _, _ := output.Split(s.bytes()); string(got) != "before\nafter\n" {
		t.Errorf("the watcher got %q", got)
	}
	if err := ways["read"](c.Stdout(), []byte("read\n")); err != nil {
		t.Error(err)
	}
	out, err := c.Finish()
	if err != nil || !out.Logged || out.Inline != nil {
		t.Errorf("output %+v, %v", out, err)
	}
	check(t, out, s.bytes(), []byte("before\nafter\nread\n"), nil)
}

// TestCollectorWatchBlocked sees that Watch does not wait for the sink.
func TestCollectorWatchBlocked(t *testing.T) {
	t.Parallel()
	s := newSink()
	s.blocked = make(chan struct{})
	c := output.NewCollector(s)
	if _, err := io.WriteString(c.Stdout(), "before"); err != nil {
		t.Fatal(err)
	}
	c.Watch()
	close(s.blocked)
	<-s.grown
	if _, err := c.Finish(); err != nil {
		t.Error(err)
	}
}

func TestCollectorErrors(t *testing.T) {
	t.Parallel()
	for name, feed := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSink()
			s.err = errDisk
			c := output.NewCollector(s)
			if err := feed(c.Stdout(), pattern(200_000)); !errors.Is(err, errDisk) {
				t.Errorf("write: %v", err)
			}
			if _, err := c.Finish(); !errors.Is(err, errDisk) {
				t.Errorf("finish: %v", err)
			}
			if err := feed(c.Stdout(), []byte("more")); !errors.Is(err, errDisk) {
				t.Errorf("write after the end: %v", err)
			}
		})
	}
	t.Run("no sink", func(t *testing.T) {
		t.Parallel()
		c := output.NewCollector(nil)
		if _, err := c.Stdout().Write(pattern(200_000)); !errors.Is(err, navvy.ErrUnsupported) {
			t.Errorf("write: %v", err)
		}
	})
	t.Run("source", func(t *testing.T) {
		t.Parallel()
		c := output.NewCollector(nil)
		if _, err := c.Stdout().ReadFrom(iotest.ErrReader(errDisk)); !errors.Is(err, errDisk) {
			t.Errorf("read: %v", err)
		}
	})
	t.Run("late", func(t *testing.T) {
		t.Parallel()
		c := output.NewCollector(nil)
		if _, err := c.Finish(); err != nil {
			t.Error(err)
		}
		if _, err := c.Stdout().Write([]byte("late")); !errors.Is(err, navvy.ErrClosed) {
			t.Errorf("write after the end: %v", err)
		}
	})
}

// TestCollectorMemory sees what a task with little to say costs. It is not
// parallel, because it counts what this process allocates.
func TestCollectorMemory(t *testing.T) { //nolint:paralleltest // see above
	const tasks = 1000
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range tasks {
		c := output.NewCollector(nil)
		if _, err := c.Stdout().ReadFrom(strings.NewReader("done\n")); err != nil {
			t.Error(err)
		}
		if _, err := c.Finish(); err != nil {
			t.Error(err)
		}
	}
	runtime.ReadMemStats(&after)
	if each := (after.TotalAlloc - before.TotalAlloc) / tasks; each > 6<<10 {
		t.Errorf("a task that writes one line costs %d bytes", each)
	}
}

type discardSink struct{}

func (discardSink) Upload([]byte) error { return nil }

// BenchmarkCollector is what a long output costs between the pipe and the sink.
func BenchmarkCollector(b *testing.B) {
	const size = 64 << 20
	source := pattern(1 << 20)
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		c := output.NewCollector(discardSink{})
		for range size / len(source) {
			if _, err := c.Stdout().ReadFrom(bytes.NewReader(source)); err != nil {
				b.Fatal(err)
			}
		}
		if _, err := c.Finish(); err != nil {
			b.Fatal(err)
		}
	}
}
