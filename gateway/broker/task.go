package broker

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/output"
	"github.com/navvy-run/navvy/server/auth"
	"github.com/navvy-run/navvy/worker/answer"
)

// caller calls the API of this process in the name of an owner.
type caller struct {
	grpc.ClientConnInterface
	owner string
}

func (c caller) who(ctx context.Context) context.Context {
	return auth.With(ctx, auth.Identity{Name: c.owner, Role: auth.RoleUser})
}

// Invoke implements grpc.ClientConnInterface.
func (c caller) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	return c.ClientConnInterface.Invoke(c.who(ctx), method, args, reply, opts...)
}

// NewStream implements grpc.ClientConnInterface.
func (c caller) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return c.ClientConnInterface.NewStream(c.who(ctx), desc, method, opts...)
}

// answer has a task answer a request. How often that is tried is the affair of the queue's
// service; when it has failed for good the request is no good for the broker either, as is
// one whose job somebody has stopped.
func (b *bridge) answer(ctx context.Context, r *answer.Request) ([]byte, error) {
	began := b.gateway.opts.Clock()
	job := navvy.Job{
		Name: "request " + clipped(r.ID), Queue: b.name, Detached: true, IdempotencyKey: b.key(r),
		Spec: navvy.Spec{Service: &navvy.Service{}},
	}
	res, err := b.client.Run(ctx, job, r.Body)
	if err == nil && res.State == navvy.Failed && b.failedBefore(ctx, res.Task.Job, began) {
		// It is a dead letter that somebody has sent back: it is meant to be tried again.
		if _, _, err = b.client.Retry(ctx, res.Task.Job, client.RetryOptions{Failed: true}); err == nil {
			res, err = b.client.Run(ctx, job, r.Body)
		}
	}
	switch {
	case errors.Is(err, navvy.ErrConflict):
		return nil, fmt.Errorf("%s: %w", strings.TrimSuffix(err.Error(), ": "+navvy.ErrConflict.Error()), navvy.ErrInvalid)
	case errors.Is(err, navvy.ErrDenied), errors.Is(err, navvy.ErrNotFound):
		return nil, fmt.Errorf("the queue is not answered now: %w: %w", err, navvy.ErrUnavailable) // until somebody mends it
	case err != nil:
		return nil, err
	case res.State != navvy.Succeeded:
		return nil, fmt.Errorf("task %s: %s: %s: %w", res.Task, res.Reason, res.Message, navvy.ErrInvalid)
	}
	return b.client.Read(ctx, &client.Answer{Result: res}, output.Stdout)
}

// failedBefore tells whether a job had failed before an instant, by the server's clock.
func (b *bridge) failedBefore(ctx context.Context, id navvy.JobID, t time.Time) bool {
	job, err := b.client.Get(ctx, id)
	return err == nil && !job.Status.Finished.IsZero() && job.Status.Finished.Before(t)
}

// key is what a request that comes again has in common with its first coming: its id and
// its text, since nothing keeps two programs from giving the same id.
func (b *bridge) key(r *answer.Request) string {
	if r.ID == "" {
		return ""
	}
	h := sha256.New()
	h.Write(navvy.AppendFields(nil, b.requests, b.name, r.ID))
	h.Write(r.Body)
	return "broker/" + hex.EncodeToString(h.Sum(nil))
}

// clipped is an id that fits into the name of a job.
func clipped(id string) string {
	const most = 100
	if len(id) > most {
		return id[:most] + "…"
	}
	return id
}
