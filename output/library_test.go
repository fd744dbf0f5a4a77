package output_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"

	"pgregory.net/rapid"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/output"
)

// kinds are the logs that there are: in memory, in a file, and in a File that
// shows what was appended only after a Sync. Each call makes a new one.
func kinds(t *testing.T) map[string]func() *output.Log {
	t.Helper()
	dir := t.TempDir()
	var files atomic.Int64
	return map[string]func() *output.Log{
		"memory": func() *output.Log { return output.NewLog(nil) },
		"disk": func() *output.Log {
			l, err := output.Create(filepath.Join(dir, fmt.Sprint(files.Add(1))))
			if err != nil {
				t.Error(err)
			}
			return l
		},
		"behind": func() *output.Log {
			return output.NewLog(func() (output.File, error) { return &file{}, nil })
		},
	}
}

// written is one write of a task.
type written struct {
	stream output.Stream
	bytes  []byte
}

// join makes one of writes to the same stream that follow each other.
func join(list []written) []written {
	var joined []written
	for _, w := range list {
		if last := len(joined) - 1; last >= 0 && joined[last].stream == w.stream {
			joined[last].bytes = append(joined[last].bytes, w.bytes...)
		} else if len(w.bytes) > 0 {
			joined = append(joined, written{w.stream, bytes.Clone(w.bytes)})
		}
	}
	return joined
}

// marked notes what comes to one stream, in one list for both.
type marked struct {
	stream output.Stream
	list   *[]written
}

func (m marked) Write(p []byte) (int, error) {
	*m.list = append(*m.list, written{m.stream, bytes.Clone(p)})
	return len(p), nil
}

// follow reads a log through Copy to its end; what came, in order.
func follow(ctx context.Context, l *output.Log) ([]written, error) {
	var got []written
	err := output.Copy(marked{output.Stdout, &got}, marked{output.Stderr, &got}, l.Reader(ctx))
	return join(got), err
}

// drawWrites draws what a task writes: few or many pieces, short or long, of any bytes.
func drawWrites(t *rapid.T) []written {
	list := make([]written, rapid.IntRange(0, 12).Draw(t, "writes"))
	for i := range list {
		list[i].stream = rapid.SampledFrom([]output.Stream{output.Stdout, output.Stderr}).Draw(t, "stream")
		list[i].bytes = rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "bytes")
		if times := rapid.SampledFrom([]int{1, 1, 1, 1000}).Draw(t, "times"); len(list[i].bytes) > 0 {
			list[i].bytes = bytes.Repeat(list[i].bytes, times)
		}
	}
	return list
}

// Whoever reads, and from whenever on, gets the same: all bytes of both streams,
// in the order in which they were written.
func TestAllReadersGetTheSame(t *testing.T) {
	t.Parallel()
	for kind, create := range kinds(t) {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(t *rapid.T) {
				log, list := create(), drawWrites(t)
				want := join(list)
				out := output.Capture(log)
				writers := map[output.Stream]*output.Writer{output.Stdout: out.Stdout(), output.Stderr: out.Stderr()}
				feeds := make([]string, len(list))
				starts := make([]int, len(list)+1)
				for i := range starts {
					starts[i] = rapid.IntRange(0, 2).Draw(t, "readers that begin here")
					if i < len(list) {
						feeds[i] = rapid.SampledFrom([]string{"write", "read", "read in bits"}).Draw(t, "way")
					}
				}
				var readers sync.WaitGroup
				read := func() {
					if got, err := follow(context.Background(), log); err != nil || !equal(got, want) {
						t.Errorf("a reader got %d pieces, want %d: %v", len(got), len(want), err)
					}
				}
				for i, w := range list {
					for range starts[i] {
						readers.Go(read)
					}
					if err := ways[feeds[i]](writers[w.stream], w.bytes); err != nil {
						t.Error(err)
					}
				}
				_, err := out.Finish()
				log.Finish(err)
				for range starts[len(list)] + 1 {
					readers.Go(read)
				}
				readers.Wait()
				if err := errors.Join(err, log.Close()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func equal(a, b []written) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].stream != b[i].stream || !bytes.Equal(a[i].bytes, b[i].bytes) {
			return false
		}
	}
	return true
}

// A thousand readers follow the two streams of one process-like writer live.
func TestAThousandReadersFollow(t *testing.T) {
	t.Parallel()
	log := output.NewLog(nil)
	out := output.Capture(log)
	const lines = 50
	var seen, readers sync.WaitGroup
	var want []written
	for i := range lines {
		stream := []output.Stream{output.Stdout, output.Stderr}[i%2]
		want = append(want, written{stream, fmt.Appendf(nil, "line %d\n", i)})
	}
	for range 1000 {
		seen.Add(1)
		readers.Go(func() {
			r, p := log.Reader(t.Context()), make([]byte, 1)
			if _, err := r.Read(p); err != nil {
				t.Error(err)
			}
			seen.Done() // live: the writer waits for all to have the first byte
			var got []written
			err := output.Copy(marked{output.Stdout, &got}, marked{output.Stderr, &got}, io.MultiReader(bytes.NewReader(p), r))
			if err != nil || !equal(join(got), want) {
				t.Errorf("a reader got %d lines: %v", len(got), err)
			}
		})
	}
	for i, w := range want {
		to := map[output.Stream]*output.Writer{output.Stdout: out.Stdout(), output.Stderr: out.Stderr()}[w.stream]
		if _, err := to.Write(w.bytes); err != nil {
			t.Error(err)
		}
		if i == 0 {
			seen.Wait()
		}
	}
	_, err := out.Finish()
	log.Finish(err)
	readers.Wait()
}

// stuck is a reader's own writer that takes nothing until it may.
type stuck struct {
	reached chan<- struct{}
	goOn    <-chan struct{}
	n       int64
}

func (s *stuck) Write(p []byte) (int, error) {
	if s.n == 0 {
		s.reached <- struct{}{}
		<-s.goOn
	}
	s.n += int64(len(p))
	return len(p), nil
}

// The writer comes to its end while readers are stuck, who then get everything.
func TestSlowReadersDoNotSlowTheWriter(t *testing.T) {
	t.Parallel()
	for kind, create := range kinds(t) {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			log := create()
			out := output.Capture(log)
			const many, size = 10, 4 << 20
			reached, goOn := make(chan struct{}), make(chan struct{})
			var readers sync.WaitGroup
			for range many {
				readers.Go(func() {
					s := &stuck{reached: reached, goOn: goOn}
					if err := output.Copy(s, s, log.Reader(t.Context())); err != nil || s.n != size {
						t.Errorf("a slow reader got %d bytes: %v", s.n, err)
					}
				})
			}
			if _, err := out.Stdout().Write(pattern(1)); err != nil {
				t.Error(err)
			}
			for range many {
				<-reached
			}
			if _, err := out.Stdout().ReadFrom(bytes.NewReader(pattern(size - 1))); err != nil {
				t.Error(err)
			}
			_, err := out.Finish()
			log.Finish(err)
			close(goOn)
			readers.Wait()
			if err := log.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// heap is how much memory is in use.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// Readers that never read cost nothing, however much is written. It is not
// parallel: it looks at the memory of the process.
func TestReadersThatNeverReadCostNoMemory(t *testing.T) {
	log, err := output.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	out := output.Capture(log)
	write := func(size int64) {
		if _, err := out.Stdout().ReadFrom(io.LimitReader(zeros{}, size)); err != nil {
			t.Fatal(err)
		}
	}
	write(1 << 20)
	before := heap()
	idle := make([]io.Reader, 1000)
	for i := range idle {
		idle[i] = log.Reader(t.Context())
	}
	write(128 << 20)
	if grown := heap() - before; grown > 8<<20 {
		t.Errorf("%d readers that do not read take %d bytes of memory", len(idle), grown)
	}
	runtime.KeepAlive(idle)
	if err := log.Close(); err != nil {
		t.Error(err)
	}
}

// Readers that have read all there is, and wait for more, hold no buffers.
func TestWaitingReadersHoldNoBuffers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := output.NewLog(nil)
		out := output.Capture(log)
		if _, err := out.Stdout().Write(pattern(1 << 20)); err != nil {
			t.Fatal(err)
		}
		before := heap()
		var readers sync.WaitGroup
		const many = 1000
		for range many {
			readers.Go(func() {
				if err := output.Copy(io.Discard, io.Discard, log.Reader(t.Context())); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		if grown := heap() - before; grown > many*32<<10 {
			t.Errorf("%d waiting readers take %d bytes of memory", many, grown)
		}
		log.Finish(nil)
		readers.Wait()
	})
}

// zeros is as many zero bytes as anybody wants.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func TestCreate(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	log, err := output.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := output.Create(path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("create it again: %v", err)
	}
	frame := output.AppendFrame(nil, output.Stdout, []byte("short"))
	if err := log.Append(frame); err != nil {
		t.Fatal(err)
	}
	if there, err := os.ReadFile(path); err != nil || !bytes.Equal(there, frame) {
		t.Errorf("the file holds %q, %v", there, err)
	}
	if n, err := log.Wait(t.Context(), 2); n != int64(len(frame))-2 || err != nil {
		t.Errorf("wait: %d, %v", n, err)
	}
	if err := errors.Join(log.Sync(), log.Close()); err != nil {
		t.Error(err)
	}
	if err := log.Append(frame); !errors.Is(err, navvy.ErrClosed) {
		t.Errorf("append to a closed log: %v", err)
	}
}

// What cannot be taken apart, written or read is an error of Copy.
func TestCopyErrors(t *testing.T) {
	t.Parallel()
	frames := output.AppendFrame(nil, output.Stderr, []byte("hello"))
	broken := iotest.ErrReader(errDisk)
	for name, c := range map[string]struct {
		stderr io.Writer
		frames io.Reader
		want   error
	}{
		"no frame": {io.Discard, bytes.NewReader([]byte("no frame")), navvy.ErrCorrupt},
		"cut":      {io.Discard, bytes.NewReader(frames[:7]), output.ErrShort},
		"read":     {io.Discard, io.MultiReader(bytes.NewReader(frames), broken), errDisk},
		"write":    {failing{}, bytes.NewReader(frames), errDisk},
		"fine":     {io.Discard, bytes.NewReader(frames), nil},
	} {
		if err := output.Copy(io.Discard, c.stderr, c.frames); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := output.Copy(io.Discard, io.Discard, output.NewLog(nil).Reader(ctx)); !errors.Is(err, context.Canceled) {
		t.Errorf("a reader whose context has ended: %v", err)
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errDisk }
