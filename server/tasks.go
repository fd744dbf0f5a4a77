package server

import (
	"context"
	"fmt"

	"google.golang.org/grpc"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/api"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
	"github.com/navvy-run/navvy/engine"
	"github.com/navvy-run/navvy/manager"
)

// taskKV implements the TaskKV service.
type taskKV struct {
	navvyv1.UnimplementedTaskKVServer
	*Server
}

// caller is an attempt that calls.
type caller struct {
	owner  string
	values engine.Values   // the owner's
	over   <-chan struct{} // closed when its lease is over
	// changed is closed when certificates have changed, so that the owner may be one
	// who may do nothing any more.
	changed <-chan struct{}
}

// caller finds out who calls. The worker may speak for attempts that are leased to it,
// and whose they are is not for it to say; names is the owner that the call names.
func (s *taskKV) caller(ctx context.Context, attempt *navvyv1.AttemptRef, names string) (c caller, err error) {
	if attempt == nil {
		return c, fmt.Errorf("a task's call that names no attempt: %w", navvy.ErrInvalid)
	}
	var ref manager.Ref
	ref.Task, ref.Attempt = api.ToRef(attempt)
	if c.owner, c.over, err = s.mgr.Leased(workerName(ctx, ""), ref); err != nil {
		return c, err
	}
	if names != "" && names != c.owner {
		return c, fmt.Errorf("a task has the values of its owner, %s, and not those of %s: %w", c.owner, names, navvy.ErrDenied)
	}
	if c.changed, err = s.inStanding(ctx, c.owner); err != nil {
		return c, fmt.Errorf("task %s: %w", ref.Task, err)
	}
	c.values = s.eng.Values(c.owner)
	return c, nil
}

// Put implements the call of that name.
func (s *taskKV) Put(ctx context.Context, req *navvyv1.TaskKVPutRequest) (*navvyv1.PutValueResponse, error) {
	c, err := s.caller(ctx, req.GetAttempt(), req.GetCall().GetOwner())
	if err != nil {
		return nil, s.fail(err)
	}
	resp, err := putValue(ctx, c.values, req.GetCall())
	return resp, s.fail(err)
}

// Get implements the call of that name.
func (s *taskKV) Get(ctx context.Context, req *navvyv1.TaskKVGetRequest) (*navvyv1.GetValueResponse, error) {
	c, err := s.caller(ctx, req.GetAttempt(), req.GetCall().GetOwner())
	if err != nil {
		return nil, s.fail(err)
	}
	resp, err := getValue(ctx, c.values, req.GetCall())
	return resp, s.fail(err)
}

// List implements the call of that name.
func (s *taskKV) List(ctx context.Context, req *navvyv1.TaskKVListRequest) (*navvyv1.ListValuesResponse, error) {
	c, err := s.caller(ctx, req.GetAttempt(), req.GetCall().GetOwner())
	if err != nil {
		return nil, s.fail(err)
	}
	resp, err := listValues(ctx, c.values, req.GetCall())
	return resp, s.fail(err)
}

// Delete implements the call of that name.
func (s *taskKV) Delete(ctx context.Context, req *navvyv1.TaskKVDeleteRequest) (*navvyv1.DeleteValueResponse, error) {
	c, err := s.caller(ctx, req.GetAttempt(), req.GetCall().GetOwner())
	if err != nil {
		return nil, s.fail(err)
	}
	resp, err := deleteValue(ctx, c.values, req.GetCall())
	return resp, s.fail(err)
}

// Watch implements the call of that name.
func (s *taskKV) Watch(req *navvyv1.TaskKVWatchRequest, stream grpc.ServerStreamingServer[navvyv1.WatchValuesResponse]) error {
	return s.fail(s.watch(req, stream))
}

func (s *taskKV) watch(req *navvyv1.TaskKVWatchRequest, stream grpc.ServerStreamingServer[navvyv1.WatchValuesResponse]) error {
	c, err := s.caller(stream.Context(), req.GetAttempt(), req.GetCall().GetOwner())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	go s.endWith(ctx, cancel, c)
	err = watchValues(ctx, c.values, req.GetCall(), stream.Send)
	if cause := context.Cause(ctx); err != nil && stream.Context().Err() == nil && cause != nil {
		return cause
	}
	return err
}

// endWith ends what an attempt watches when its lease is over, or its owner may do
// nothing any more.
func (s *taskKV) endWith(ctx context.Context, end context.CancelCauseFunc, c caller) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.over:
			end(fmt.Errorf("the attempt has ended: %w", navvy.ErrLeaseLost))
			return
		case <-c.changed:
		}
		var err error
		if c.changed, err = s.inStanding(ctx, c.owner); err != nil {
			end(err)
			return
		}
	}
}
