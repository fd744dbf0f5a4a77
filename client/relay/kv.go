package relay

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/navvy-run/navvy/api"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
)

// kv is the service KV as tasks see it.
type kv struct {
	navvyv1.UnimplementedKVServer
	relay *Relay
}

// Put implements the call of that name.
func (k *kv) Put(ctx context.Context, req *navvyv1.PutValueRequest) (*navvyv1.PutValueResponse, error) {
	return pass(ctx, k.relay, func(ctx context.Context, by *navvyv1.AttemptRef) (*navvyv1.PutValueResponse, error) {
		return k.relay.rpc.Put(ctx, &navvyv1.TaskKVPutRequest{Attempt: by, Call: req})
	})
}

// Get implements the call of that name.
func (k *kv) Get(ctx context.Context, req *navvyv1.GetValueRequest) (*navvyv1.GetValueResponse, error) {
	return pass(ctx, k.relay, func(ctx context.Context, by *navvyv1.AttemptRef) (*navvyv1.GetValueResponse, error) {
		return k.relay.rpc.Get(ctx, &navvyv1.TaskKVGetRequest{Attempt: by, Call: req})
	})
}

// List implements the call of that name.
func (k *kv) List(ctx context.Context, req *navvyv1.ListValuesRequest) (*navvyv1.ListValuesResponse, error) {
	return pass(ctx, k.relay, func(ctx context.Context, by *navvyv1.AttemptRef) (*navvyv1.ListValuesResponse, error) {
		return k.relay.rpc.List(ctx, &navvyv1.TaskKVListRequest{Attempt: by, Call: req})
	})
}

// Delete implements the call of that name.
func (k *kv) Delete(ctx context.Context, req *navvyv1.DeleteValueRequest) (*navvyv1.DeleteValueResponse, error) {
	return pass(ctx, k.relay, func(ctx context.Context, by *navvyv1.AttemptRef) (*navvyv1.DeleteValueResponse, error) {
		return k.relay.rpc.Delete(ctx, &navvyv1.TaskKVDeleteRequest{Attempt: by, Call: req})
	})
}

// Watch implements the call of that name.
func (k *kv) Watch(req *navvyv1.WatchValuesRequest, stream grpc.ServerStreamingServer[navvyv1.WatchValuesResponse]) error {
	var broken error // of a watch that has told something, and is not made again from its beginning
	p, err := pass(stream.Context(), k.relay, func(ctx context.Context, by *navvyv1.AttemptRef) (*Pass, error) {
		told := false
		from, err := k.relay.rpc.Watch(ctx, &navvyv1.TaskKVWatchRequest{Attempt: by, Call: req})
		for err == nil {
			var m *navvyv1.WatchValuesResponse
			if m, err = from.Recv(); err == nil {
				told = true
				err = stream.Send(m)
			}
		}
		if told {
			broken, err = err, nil
		}
		return passOf(ctx), err
	})
	if err == nil {
		err = p.explain(broken)
	}
	return err
}

// How often, and after which pause, a call is made again that was refused because the
// attempt is not leased to this worker: a server that has just come back may not have
// known yet what the worker runs.
const (
	refusals = 10
	pause    = 50 * time.Millisecond
)

// pass makes a call to the server in the name of an attempt, until that ends.
func pass[T any](ctx context.Context, r *Relay, call func(context.Context, *navvyv1.AttemptRef) (T, error)) (resp T, err error) {
	p := passOf(ctx)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(p.over, cancel)()
	for refused := 0; ; {
		goesOn, err := r.opts.Session(ctx)
		if err != nil {
			return resp, p.explain(api.ToWire(err, error.Error))
		}
		resp, err = call(ctx, api.FromRef(p.ref.Task, p.ref.Attempt))
		if status.Code(err) != codes.FailedPrecondition || refused == refusals || p.over.Err() != nil {
			return resp, p.explain(err)
		}
		if goesOn() {
			refused++
			select {
			case <-ctx.Done():
			case <-time.After(pause):
			}
		}
	}
}

// passOf is the pass of a call, which admit has seen.
func passOf(ctx context.Context) *Pass { return ctx.Value(passKey{}).(*Pass) }

// explain says in the words of a task why a call has failed.
func (p *Pass) explain(err error) error {
	switch {
	case err == nil:
		return nil
	case p.over.Err() != nil:
		return errEnded
	case status.Code(err) == codes.Unavailable:
		return status.Errorf(codes.Unavailable, "the worker that runs this task has lost its server: %s", status.Convert(err).Message())
	}
	return err
}
