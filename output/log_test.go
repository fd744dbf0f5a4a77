package output_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/output"
)

// readAll reads a log to its end from off on, in pieces of at most size bytes.
func readAll(ctx context.Context, l *output.Log, off int64, size int) ([]byte, error) {
	var all []byte
	p := make([]byte, size)
	for {
		n, err := l.Read(ctx, p, off+int64(len(all)))
		all = append(all, p[:n]...)
		if err != nil {
			return all, err
		}
	}
}

// TestLog has many readers of one log, live and later, from all kinds of offsets.
func TestLog(t *testing.T) {
	t.Parallel()
	for _, length := range []int{0, 1, 1000, output.InlineLimit, output.InlineLimit + 1, 1 << 20} {
		t.Run(fmt.Sprint(length), func(t *testing.T) {
			t.Parallel()
			f, want := &file{}, pattern(length)
			l := output.NewLog(func() (output.File, error) { return f, nil })
			var readers sync.WaitGroup
			read := func(off int64, size int) {
				readers.Go(func() {
					got, err := readAll(t.Context(), l, off, size)
					if !errors.Is(err, io.EOF) || !bytes.Equal(got, want[min(off, int64(length)):]) {
						t.Errorf("from %d: %d bytes and %v, want %d", off, len(got), err, max(0, int64(length)-off))
					}
				})
			}
			offsets := []int64{0, 1, 999, output.InlineLimit - 1, output.InlineLimit, 900_000, int64(length) + 5}
			for _, off := range offsets {
				read(off, 1000)
				read(off, 100_000)
			}
			for rest := want; len(rest) > 0; {
				n := min(len(rest), 7000)
				if err := l.Append(rest[:n]); err != nil {
					t.Error(err)
				}
				rest = rest[n:]
			}
			l.Finish(nil)
			for _, off := range offsets {
				read(off, 1<<20)
			}
			readers.Wait()
			if n, crc := l.Sum(); n != int64(length) || crc != output.UpdateCRC(0, want) {
				t.Errorf("sum is %d, %x", n, crc)
			}
			if length <= output.InlineLimit && f.bytes != nil {
				t.Error("a short log made a file")
			}
		})
	}
}

// TestLogMany has a thousand readers wait for each byte.
func TestLogMany(t *testing.T) {
	t.Parallel()
	f := &file{}
	l := output.NewLog(func() (output.File, error) { return f, nil })
	const many, pieces, size = 1000, 30, 4000
	var readers sync.WaitGroup
	var got atomic.Int64
	for range many {
		readers.Go(func() {
			p := make([]byte, size)
			for off := int64(0); ; {
				n, err := l.Read(t.Context(), p, off)
				if err != nil {
					return
				}
				off += int64(n)
				got.Add(int64(n))
			}
		})
	}
	for range pieces {
		if err := l.Append(pattern(size)); err != nil {
			t.Fatal(err)
		}
	}
	l.Finish(nil)
	readers.Wait()
	if got.Load() != many*pieces*size {
		t.Errorf("%d bytes were read, want %d", got.Load(), many*pieces*size)
	}
}

func TestLogSync(t *testing.T) {
	t.Parallel()
	f := &file{}
	l := output.NewLog(func() (output.File, error) { return f, nil })
	if err := l.Append([]byte("short")); err != nil {
		t.Fatal(err)
	}
	if err := l.Sync(); err != nil {
		t.Fatal(err)
	}
	if string(f.bytes) != "short" || f.syncs != 1 {
		t.Errorf("after Sync the file holds %q, synced %d times", f.bytes, f.syncs)
	}
	if err := l.Append([]byte(" and more")); err != nil {
		t.Fatal(err)
	}
	l.Finish(nil)
	if got, err := readAll(t.Context(), l, 0, 3); string(got) != "short and more" || !errors.Is(err, io.EOF) {
		t.Errorf("read %q, %v", got, err)
	}
	if err := l.Close(); err != nil || !f.closed {
		t.Errorf("close: %v, the file is closed: %t", err, f.closed)
	}
}

func TestLogErrors(t *testing.T) {
	t.Parallel()
	t.Run("create", func(t *testing.T) {
		t.Parallel()
		l := output.NewLog(func() (output.File, error) { return nil, errDisk })
		if err := l.Append(pattern(output.InlineLimit + 1)); !errors.Is(err, errDisk) {
			t.Errorf("append: %v", err)
		}
		if _, err := readAll(t.Context(), l, 0, 100); !errors.Is(err, errDisk) {
			t.Errorf("read: %v", err)
		}
	})
	t.Run("append", func(t *testing.T) {
		t.Parallel()
		f := &file{failFrom: 100_000}
		l := output.NewLog(func() (output.File, error) { return f, nil })
		if err := l.Append(pattern(80_000)); err != nil {
			t.Fatal(err)
		}
		if err := l.Append(pattern(80_000)); !errors.Is(err, errDisk) {
			t.Errorf("append: %v", err)
		}
		if got, err := readAll(t.Context(), l, 0, 7000); len(got) != 80_000 || !errors.Is(err, errDisk) {
			t.Errorf("read %d bytes, %v", len(got), err)
		}
		if err := l.Append([]byte("x")); !errors.Is(err, navvy.ErrClosed) {
			t.Errorf("append after an error: %v", err)
		}
	})
	t.Run("finish", func(t *testing.T) {
		t.Parallel()
		l := output.NewLog(nil)
		l.Finish(errDisk)
		l.Finish(nil)
		if _, err := l.Read(t.Context(), make([]byte, 1), 0); !errors.Is(err, errDisk) {
			t.Errorf("read: %v", err)
		}
	})
	t.Run("offset", func(t *testing.T) {
		t.Parallel()
		l := output.NewLog(nil)
		if _, err := l.Read(t.Context(), make([]byte, 1), -1); !errors.Is(err, navvy.ErrInvalid) {
			t.Errorf("read: %v", err)
		}
	})
}

// TestLogWaits sees that a reader of a log that does not grow sleeps, and leaves when its context ends.
func TestLogWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := output.NewLog(nil)
		ctx, cancel := context.WithCancel(t.Context())
		left := make(chan error)
		go func() {
			_, err := l.Read(ctx, make([]byte, 1), 0)
			left <- err
		}()
		synctest.Wait()
		select {
		case err := <-left:
			t.Errorf("read of an empty log: %v", err)
		default:
		}
		cancel()
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Errorf("read: %v", err)
		}
	})
}

// discard is a file that forgets its bytes, but knows how many there are.
type discard struct{ length atomic.Int64 }

func (d *discard) Append(p []byte) error { d.length.Add(int64(len(p))); return nil }
func (d *discard) Sync() error           { return nil }
func (d *discard) Close() error          { return nil }

func (d *discard) ReadAt(p []byte, off int64) (int, error) {
	if rest := d.length.Load() - off; rest < int64(len(p)) {
		return int(rest), io.EOF
	}
	return len(p), nil
}

// BenchmarkLog has one writer and 64 readers who all keep up.
func BenchmarkLog(b *testing.B) {
	const readers = 64
	for _, size := range []int{200, 64 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			l := output.NewLog(func() (output.File, error) { return &discard{}, nil })
			var done sync.WaitGroup
			for range readers {
				done.Go(func() {
					p := make([]byte, 256<<10)
					for off := int64(0); ; {
						n, err := l.Read(context.Background(), p, off)
						if err != nil {
							return
						}
						off += int64(n)
					}
				})
			}
			piece := pattern(size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if err := l.Append(piece); err != nil {
					b.Fatal(err)
				}
			}
			l.Finish(nil)
			done.Wait()
		})
	}
}
