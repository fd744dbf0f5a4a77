// Package keda serves KEDA's contract of external scalers: it tells how many tasks wait and
// run that workers of a kind could do, so that KEDA starts as many of them, and none when
// there is nothing to do. docs/kubernetes.md says what a trigger may say.
package keda

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/api"
	scaler "github.com/navvy-run/navvy/gateway/keda/externalscaler"
)

// Selection says which tasks are counted.
type Selection struct {
	// Queue and Kind are those of their jobs. Empty for all.
	Queue, Kind string
	// Labels are those that the workers have: tasks that ask for others are not counted.
	Labels map[string]string
}

// Source knows how much there is to do. Its methods may be called at once.
type Source interface {
	// Wanted counts the tasks that wait, and those that run.
	Wanted(ctx context.Context, s *Selection) (waiting, running int64, err error)
	// WantedChanged gives a channel that is closed when Wanted may say something else.
	WantedChanged() <-chan struct{}
}

// Gateway serves externalscaler.ExternalScaler. Its methods may be called at once.
type Gateway struct {
	scaler.UnimplementedExternalScalerServer
	source Source
	calm   time.Duration
	closed chan struct{}
	close  func()
}

var _ scaler.ExternalScalerServer = (*Gateway)(nil)

// calm is how long a stream that has said that there is something to do waits before it
// looks whether there still is: KEDA waits for minutes before it takes that at its word.
const calm = time.Second

// New makes a gateway.
func New(source Source) *Gateway {
	closed := make(chan struct{})
	return &Gateway{source: source, calm: calm, closed: closed, close: sync.OnceFunc(func() { close(closed) })}
}

// Close ends all streams, and those to come. KEDA opens one anew two seconds after it has
// ended well; where its connection breaks KEDA waits longer each time, for up to a minute.
func (g *Gateway) Close() { g.close() }

// Register adds the service to a registrar, which lets in only whom it should.
func (g *Gateway) Register(r grpc.ServiceRegistrar) { scaler.RegisterExternalScalerServer(r, g) }

// What a trigger may say beside what KEDA itself reads.
const (
	keyQueue  = "queue"
	keyKind   = "kind"
	keyLabels = "labels"
	keyTasks  = "tasksPerWorker"
)

// metric is the name of the one measure.
const metric = "navvy-tasks-wanted"

// trigger is what a ScaledObject says.
type trigger struct {
	Selection
	tasks int64 // for which one worker is there
}

// read reads what a ScaledObject says. The error wraps navvy.ErrInvalid.
func read(ref *scaler.ScaledObjectRef) (*trigger, error) {
	m := ref.GetScalerMetadata()
	t := &trigger{Selection: Selection{Queue: m[keyQueue], Kind: m[keyKind], Labels: map[string]string{}}, tasks: 1}
	fail := func(key, want string) (*trigger, error) {
		return nil, fmt.Errorf("ScaledObject %.100s/%.100s: %s %.100q: want %s: %w", ref.GetNamespace(), ref.GetName(), key, m[key], want, navvy.ErrInvalid)
	}
	switch t.Kind {
	case "", navvy.KindCommand, navvy.KindContainer, navvy.KindFunction, navvy.KindService:
	default:
		return fail(keyKind, "command, container, function or service")
	}
	if t.Queue != "" && navvy.ValidateQueue(t.Queue) != nil {
		return fail(keyQueue, "the name of a queue")
	}
	if text := m[keyTasks]; text != "" {
		n, err := strconv.ParseInt(text, 10, 32)
		if err != nil || n < 1 {
			return fail(keyTasks, "a whole number from 1 on")
		}
		t.tasks = n
	}
	if text := m[keyLabels]; text != "" {
		for pair := range strings.SplitSeq(text, ",") {
			name, value, ok := strings.Cut(strings.TrimSpace(pair), "=")
			if !ok {
				return fail(keyLabels, "NAME=VALUE,…")
			}
			t.Labels[name] = value
		}
		if navvy.ValidateLabels(t.Labels) != nil {
			return fail(keyLabels, "names and values of labels")
		}
	}
	return t, nil
}

// total counts what a trigger is about.
func (g *Gateway) total(ctx context.Context, ref *scaler.ScaledObjectRef) (int64, error) {
	t, err := read(ref)
	if err != nil {
		return 0, fail(err)
	}
	waiting, running, err := g.source.Wanted(ctx, &t.Selection)
	return waiting + running, fail(err)
}

// fail turns an error into what KEDA is told, which is an administrator's.
func fail(err error) error { return api.ToWire(err, func(err error) string { return err.Error() }) }

// IsActive implements the call of that name.
func (g *Gateway) IsActive(ctx context.Context, ref *scaler.ScaledObjectRef) (*scaler.IsActiveResponse, error) {
	n, err := g.total(ctx, ref)
	if err != nil {
		return nil, err
	}
	return &scaler.IsActiveResponse{Result: n > 0}, nil
}

// StreamIsActive implements the call of that name: it says at once how it is, that work has
// come as soon as it has, and that there is none any more a moment later. It ends with Close.
func (g *Gateway) StreamIsActive(ref *scaler.ScaledObjectRef, stream grpc.ServerStreamingServer[scaler.IsActiveResponse]) error {
	ctx := stream.Context()
	for first, last := true, false; ; first = false {
		changed := g.source.WantedChanged() // before the count: nothing is missed
		n, err := g.total(ctx, ref)
		if err != nil {
			return err
		}
		if active := n > 0; first || active != last {
			if err := stream.Send(&scaler.IsActiveResponse{Result: active}); err != nil {
				return err
			}
			last = active
		}
		if last {
			if more, err := wait(ctx, g, time.After(g.calm)); !more {
				return err
			}
		}
		if more, err := wait(ctx, g, changed); !more {
			return err
		}
	}
}

// wait waits for something; it returns false if the stream is to end, and with what.
func wait[T any](ctx context.Context, g *Gateway, something <-chan T) (more bool, err error) {
	select {
	case <-something:
		return true, nil
	case <-g.closed:
		return false, nil
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

// GetMetricSpec implements the call of that name.
func (g *Gateway) GetMetricSpec(_ context.Context, ref *scaler.ScaledObjectRef) (*scaler.GetMetricSpecResponse, error) {
	t, err := read(ref)
	if err != nil {
		return nil, fail(err)
	}
	return &scaler.GetMetricSpecResponse{MetricSpecs: []*scaler.MetricSpec{{
		MetricName: metric, TargetSize: t.tasks, TargetSizeFloat: float64(t.tasks),
	}}}, nil
}

// GetMetrics implements the call of that name.
func (g *Gateway) GetMetrics(ctx context.Context, req *scaler.GetMetricsRequest) (*scaler.GetMetricsResponse, error) {
	n, err := g.total(ctx, req.GetScaledObjectRef())
	if err != nil {
		return nil, err
	}
	return &scaler.GetMetricsResponse{MetricValues: []*scaler.MetricValue{{
		MetricName: metric, MetricValue: n, MetricValueFloat: float64(n),
	}}}, nil
}
