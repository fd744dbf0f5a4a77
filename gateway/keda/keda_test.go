package keda

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/navvy-run/navvy"
	scaler "github.com/navvy-run/navvy/gateway/keda/externalscaler"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// steps are counts that a source gives one after the other, each at a change. internal/holder
// tests the real one.
type steps struct {
	mu      sync.Mutex
	counts  []int64
	changed chan struct{}
	asked   int
	err     error
}

func (s *steps) Wanted(context.Context, *Selection) (waiting, running int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	return s.counts[0], 0, s.err
}

func (s *steps) WantedChanged() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changed == nil {
		s.changed = make(chan struct{})
	}
	return s.changed
}

// looks tells how often it was asked.
func (s *steps) looks() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

// next goes on to the next count.
func (s *steps) next() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts = s.counts[1:]
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}

// told is a stream.
type told struct {
	grpc.ServerStream
	ctx  context.Context
	mu   sync.Mutex
	sent []bool
}

func (s *told) Context() context.Context { return s.ctx }

func (s *told) Send(r *scaler.IsActiveResponse) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent = append(s.sent, r.GetResult())
	return nil
}

// A stream tells of each change once: of work as it comes. While there is some it looks
// once in a while, however often the figures change.
func TestStream(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		source := &steps{counts: []int64{0, 0, 5, 3, 0, 4, 0}}
		ctx, cancel := context.WithCancel(t.Context())
		stream := &told{ctx: ctx}
		done := make(chan error)
		go func() { done <- New(source).StreamIsActive(&scaler.ScaledObjectRef{}, stream) }()
		check := func(want ...bool) {
			t.Helper()
			synctest.Wait()
			stream.mu.Lock()
			defer stream.mu.Unlock()
			if len(stream.sent) != len(want) || want[len(want)-1] != stream.sent[len(want)-1] {
				t.Errorf("it has told %v, want %v", stream.sent, want)
			}
		}
		check(false)
		source.next() // 0
		check(false)
		source.next() // 5, at once
		check(false, true)
		asked := source.looks()
		for range 3 { // 3, 0, 4 before it looks again
			source.next()
			synctest.Wait()
		}
		check(false, true)
		if n := source.looks() - asked; n != 0 {
			t.Errorf("it has looked %d times at what it need not know", n)
		}
		<-time.After(2 * calm)
		check(false, true)
		source.next() // 0
		check(false, true, false)
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("it ended with %v", err)
		}
	})
}

// A server that leaves ends its streams well, whether there is something to do or not: KEDA
// comes back at once.
func TestClose(t *testing.T) {
	t.Parallel()
	for _, count := range []int64{0, 5} {
		synctest.Test(t, func(t *testing.T) {
			g := New(&steps{counts: []int64{count}})
			done := make(chan error)
			go func() { done <- g.StreamIsActive(&scaler.ScaledObjectRef{}, &told{ctx: t.Context()}) }()
			synctest.Wait()
			g.Close()
			if err := <-done; err != nil {
				t.Errorf("with %d tasks it ended with %v", count, err)
			}
			g.Close()
			if err := g.StreamIsActive(&scaler.ScaledObjectRef{}, &told{ctx: t.Context()}); err != nil {
				t.Errorf("one that came later ended with %v", err)
			}
		})
	}
}

// What the source says is wrong KEDA is told.
func TestFailure(t *testing.T) {
	t.Parallel()
	g := New(&steps{counts: []int64{0}, err: navvy.ErrUnavailable})
	if _, err := g.GetMetrics(t.Context(), &scaler.GetMetricsRequest{}); status.Code(err) != codes.Unavailable {
		t.Errorf("figures: %v", err)
	}
	if err := g.StreamIsActive(nil, &told{ctx: t.Context()}); status.Code(err) != codes.Unavailable {
		t.Errorf("a stream: %v", err)
	}
}

// What a trigger says is understood, or refused as invalid.
func FuzzTrigger(f *testing.F) {
	f.Add("default", "container", "8", "gpu=a100,zone=b")
	f.Add("", "", "", "")
	f.Add("a://b", "potato", "-1", "=,=")
	f.Fuzz(func(t *testing.T, queue, kind, tasks, labels string) {
		got, err := read(&scaler.ScaledObjectRef{ScalerMetadata: map[string]string{
			keyQueue: queue, keyKind: kind, keyTasks: tasks, keyLabels: labels,
		}})
		switch {
		case err != nil && !errors.Is(err, navvy.ErrInvalid):
			t.Errorf("refused with %v", err)
		case err == nil && (got.tasks < 1 || got.Queue != queue || got.Kind != kind || got.Labels == nil || navvy.ValidateLabels(got.Labels) != nil):
			t.Errorf("understood as %+v", got)
		}
	})
}
