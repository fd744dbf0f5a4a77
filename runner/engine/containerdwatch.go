package engine

import (
	"cmp"
	"context"
	"fmt"
	"time"

	apievents "github.com/containerd/containerd/api/events"
	events "github.com/containerd/containerd/api/services/events/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/navvy-run/navvy/internal/pause"
)

// The namespace of containerd in which it keeps what a kubelet would have it run, and how a
// call says so.
const (
	kubeNamespace   = "k8s.io"
	namespaceHeader = "containerd-namespace"
)

// watch reads containerd's events. That it listens is known when it hears an event of our own.
func (c *containerd) watch(ctx context.Context, instance string, ready func(), changed func(id string)) error {
	ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(ctx, namespaceHeader, kubeNamespace))
	defer cancel()
	topic := "/navvy/" + instance
	var filters []string
	for _, topic := range []string{"/tasks/exit", "/containers/delete", topic} {
		filters = append(filters, fmt.Sprintf("namespace==%q,topic==%q", kubeNamespace, topic))
	}
	stream, err := c.events.Subscribe(ctx, &events.SubscribeRequest{Filters: filters})
	if err != nil {
		return fmt.Errorf("containerd: %w", err)
	}
	heard := make(chan struct{})
	c.running.Go(func() { c.call(ctx, topic, heard) })
	for told := false; ; {
		envelope, err := stream.Recv()
		if err != nil {
			return fmt.Errorf("containerd: %w", err)
		}
		if envelope.Topic == topic {
			if !told {
				told = true
				close(heard)
				ready()
			}
			continue
		}
		if main := concerned(envelope.Event); main != "" {
			before := c.sandboxOf(main)
			c.running.Go(func() {
				c.settle(ctx, main)
				// One that we did not know may have been adopted meanwhile, as one that runs.
				if id := cmp.Or(before, c.sandboxOf(main)); id != "" {
					changed(id)
				}
			})
		}
	}
}

// sandboxOf tells in which sandbox a container is; empty if that is not known.
func (c *containerd) sandboxOf(main string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.of[main]
}

// call publishes an event until it is heard.
func (c *containerd) call(ctx context.Context, topic string, heard <-chan struct{}) {
	event, err := anypb.New(&apievents.TaskExit{})
	if err != nil {
		return // it never happens
	}
	for again := pauses(); ; {
		_, _ = c.events.Publish(ctx, &events.PublishRequest{Topic: topic, Event: event}) // the stream tells that it fails
		select {
		case <-heard:
			return
		default:
		}
		if again.Wait(ctx) != nil {
			return
		}
	}
}

// concerned is the container of an event; empty for none.
func concerned(event *anypb.Any) string {
	m, err := event.UnmarshalNew()
	if err != nil {
		return ""
	}
	switch e := m.(type) {
	case *apievents.TaskExit:
		if e.ID == e.ContainerID { // or it is something else that was run in it
			return e.ContainerID
		}
	case *apievents.ContainerDelete:
		return e.ID
	}
	return ""
}

// settlePatience bounds how long the interface for kubelets may be behind the events, settleStep
// is the first pause in between.
const (
	settlePatience = time.Minute
	settleStep     = 2 * time.Millisecond
)

// settle returns when an end is known to the interface for kubelets, which hears the same
// events as we do.
func (c *containerd) settle(ctx context.Context, main string) {
	ctx, cancel := context.WithTimeout(ctx, settlePatience)
	defer cancel()
	for again := (pause.Series{First: settleStep, Longest: time.Second}); ; {
		r, err := c.runtime.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: main})
		if err == nil && r.Status.State == cri.ContainerState_CONTAINER_EXITED || status.Code(err) == codes.NotFound {
			return
		}
		if again.Wait(ctx) != nil {
			return
		}
	}
}
