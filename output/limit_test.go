package output_test

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/output"
)

// TestLimit sees that what is within a limit is kept to the byte, short or long,
// and that the limit is told once of what goes beyond.
func TestLimit(t *testing.T) {
	t.Parallel()
	for name, feed := range ways {
		for _, limit := range []int{1, 10, 4091, 16_384, 70_000, 1_000_000} {
			for _, more := range []int{-1, 0, 1, 5000} {
				t.Run(fmt.Sprint(name, limit, more), func(t *testing.T) {
					t.Parallel()
					s := newSink()
					c := output.NewCollector(s)
					over := 0
					c.Limit(int64(limit), func() { over++ })
					stdout := pattern(limit + more)
					err := feed(c.Stdout(), stdout)
					tooMuch := more > 0
					if errors.Is(err, output.ErrLimit) != tooMuch || errors.Is(err, navvy.ErrExhausted) != tooMuch || (err != nil) != tooMuch {
						t.Errorf("%v", err)
					}
					if err := feed(c.Stderr(), []byte("!")); tooMuch != errors.Is(err, output.ErrLimit) && more != 0 {
						t.Errorf("afterwards: %v", err)
					}
					out, err := c.Finish()
					if err != nil {
						t.Error(err)
					}
					stderr := []byte("!")[:min(1, max(0, -more))]
					check(t, out, kept(&out, s), stdout[:min(len(stdout), limit)], stderr)
					if want := min(1, max(0, more+1)); over != want {
						t.Errorf("the limit was told %d times, want %d", over, want)
					}
				})
			}
		}
	}
}

// kept are the frames of an output, wherever they are.
func kept(out *navvy.Output, s *sink) []byte {
	if out.Logged {
		return s.bytes()
	}
	return out.Inline
}

// TestLimitOfBothStreams writes to both at once: together they get to the limit, not beyond.
func TestLimitOfBothStreams(t *testing.T) {
	t.Parallel()
	for name, watch := range map[string]bool{"kept": false, "watched": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const limit = 300_001
			s := newSink()
			c := output.NewCollector(s)
			var over atomic.Int64
			c.Limit(limit, func() { over.Add(1) })
			if watch {
				c.Watch()
			}
			var writers sync.WaitGroup
			for _, w := range []*output.Writer{c.Stdout(), c.Stderr()} {
				writers.Go(func() {
					for range 1000 {
						if _, err := w.Write(pattern(997)); err != nil && !errors.Is(err, output.ErrLimit) {
							t.Error(err)
						}
					}
				})
			}
			writers.Wait()
			out, err := c.Finish()
			if err != nil || out.Stdout+out.Stderr != limit || over.Load() != 1 {
				t.Errorf("%+v, %v, told %d times", out, err, over.Load())
			}
			stdout, stderr, err := output.Split(kept(&out, s))
			if err != nil || int64(len(stdout)) != out.Stdout || int64(len(stderr)) != out.Stderr {
				t.Errorf("%d and %d bytes, %v", len(stdout), len(stderr), err)
			}
			for _, got := range [][]byte{stdout, stderr} {
				if want := bytes.Repeat(pattern(997), 1000); !bytes.HasPrefix(want, got) {
					t.Error("what is kept is not the beginning of what was written")
				}
			}
		})
	}
}

// What is written after the end says so, however much there was.
func TestLimitAfterTheEnd(t *testing.T) {
	t.Parallel()
	c := output.NewCollector(nil)
	c.Limit(4, func() { t.Error("the limit was told of what came late") })
	if _, err := c.Finish(); err != nil {
		t.Error(err)
	}
	if _, err := c.Stdout().Write([]byte("late")); !errors.Is(err, navvy.ErrClosed) {
		t.Errorf("%v", err)
	}
}

// A value is bounded by the same limit, apart from the output.
func TestLimitOfValue(t *testing.T) {
	t.Parallel()
	s := newSink()
	c := output.NewCollector(s)
	over := 0
	c.Limit(100_000, func() { over++ })
	write := func(w *output.Writer, n int, want error) {
		t.Helper()
		if _, err := w.Write(pattern(n)); !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Errorf("%d bytes: %v, want %v", n, err, want)
		}
	}
	write(c.Stdout(), 100_000, nil)
	write(c.Value(), 99_999, nil)
	if over > 0 {
		t.Error("the limit was told of a value within it")
	}
	write(c.Value(), 2, output.ErrLimit)
	write(c.Value(), 1, output.ErrLimit)
	write(c.Stderr(), 1, output.ErrLimit)
	if over != 1 {
		t.Errorf("the limit was told of %d times", over)
	}
	if out, err := c.Finish(); err != nil || out.Stdout != 100_000 || out.Stderr != 0 {
		t.Errorf("%+v, %v", out, err)
	}
	value := 0
	var split output.Decoder
	if err := split.Decode(s.bytes(), func(s output.Stream, p []byte) error {
		if s == output.Value {
			value += len(p)
		}
		return nil
	}); err != nil || value != 100_000 {
		t.Errorf("a value of %d bytes, %v", value, err)
	}
}
