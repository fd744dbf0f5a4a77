package server

import (
	"context"
	"fmt"
	"log/slog"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/navvy-run/navvy"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
	"github.com/navvy-run/navvy/engine"
	"github.com/navvy-run/navvy/server/auth"
)

// kv implements the KV service.
type kv struct {
	navvyv1.UnimplementedKVServer
	*Server
}

// values are those that a call is about: the caller's own, or, for an admin who
// names another owner, that one's, which goes into the audit log.
func (s *kv) values(ctx context.Context, owner, method string) (engine.Values, error) {
	me := auth.From(ctx)
	if owner == "" || owner == me.Name {
		return s.eng.Values(me.Name), nil
	}
	if me.Role != auth.RoleAdmin {
		return engine.Values{}, fmt.Errorf("the values of %s are seen by their owner and by admins: %w", owner, navvy.ErrDenied)
	}
	s.opts.Gate.Acted(ctx, me, method, slog.String("owner", owner))
	return s.eng.Values(owner), nil
}

func fromValue(v *engine.Value) *navvyv1.Value {
	m := &navvyv1.Value{Key: v.Key, Value: v.Bytes, Version: v.Version, Size: int64(len(v.Bytes))}
	if !v.Changed.IsZero() {
		m.Changed = timestamppb.New(v.Changed)
	}
	return m
}

// Put implements the call of that name.
func (s *kv) Put(ctx context.Context, req *navvyv1.PutValueRequest) (*navvyv1.PutValueResponse, error) {
	values, err := s.values(ctx, req.GetOwner(), navvyv1.KV_Put_FullMethodName)
	if err != nil {
		return nil, s.fail(err)
	}
	resp, err := putValue(ctx, values, req)
	return resp, s.fail(err)
}

func putValue(ctx context.Context, values engine.Values, req *navvyv1.PutValueRequest) (*navvyv1.PutValueResponse, error) {
	v, err := values.Put(ctx, req.GetKey(), req.GetValue(), engine.Condition{IfAbsent: req.GetIfAbsent(), IfVersion: req.GetIfVersion()})
	if err != nil {
		return nil, err
	}
	return &navvyv1.PutValueResponse{Version: v.Version, Changed: timestamppb.New(v.Changed)}, nil
}

// Get implements the call of that name.
func (s *kv) Get(ctx context.Context, req *navvyv1.GetValueRequest) (*navvyv1.GetValueResponse, error) {
	values, err := s.values(ctx, req.GetOwner(), navvyv1.KV_Get_FullMethodName)
	if err != nil {
		return nil, s.fail(err)
	}
	resp, err := getValue(ctx, values, req)
	return resp, s.fail(err)
}

func getValue(ctx context.Context, values engine.Values, req *navvyv1.GetValueRequest) (*navvyv1.GetValueResponse, error) {
	v, err := values.Get(ctx, req.GetKey())
	if err != nil {
		return nil, err
	}
	return &navvyv1.GetValueResponse{Value: fromValue(&v)}, nil
}

// List implements the call of that name.
func (s *kv) List(ctx context.Context, req *navvyv1.ListValuesRequest) (*navvyv1.ListValuesResponse, error) {
	values, err := s.values(ctx, req.GetOwner(), navvyv1.KV_List_FullMethodName)
	if err != nil {
		return nil, s.fail(err)
	}
	resp, err := listValues(ctx, values, req)
	return resp, s.fail(err)
}

func listValues(ctx context.Context, values engine.Values, req *navvyv1.ListValuesRequest) (*navvyv1.ListValuesResponse, error) {
	list, next, err := values.List(ctx, req.GetPrefix(), req.GetPage(), pageLimit(req.GetLimit()))
	if err != nil {
		return nil, err
	}
	resp := &navvyv1.ListValuesResponse{NextPage: next}
	for i := range list {
		m := fromValue(&list[i])
		if req.GetKeysOnly() {
			m.Value = nil
		}
		resp.Values = append(resp.Values, m)
	}
	return resp, nil
}

// Delete implements the call of that name.
func (s *kv) Delete(ctx context.Context, req *navvyv1.DeleteValueRequest) (*navvyv1.DeleteValueResponse, error) {
	values, err := s.values(ctx, req.GetOwner(), navvyv1.KV_Delete_FullMethodName)
	if err != nil {
		return nil, s.fail(err)
	}
	resp, err := deleteValue(ctx, values, req)
	return resp, s.fail(err)
}

func deleteValue(ctx context.Context, values engine.Values, req *navvyv1.DeleteValueRequest) (*navvyv1.DeleteValueResponse, error) {
	version, err := values.Delete(ctx, req.GetKey(), req.GetIfVersion())
	if err != nil {
		return nil, err
	}
	return &navvyv1.DeleteValueResponse{Version: version}, nil
}

// Watch implements the call of that name.
func (s *kv) Watch(req *navvyv1.WatchValuesRequest, stream grpc.ServerStreamingServer[navvyv1.WatchValuesResponse]) error {
	values, err := s.values(stream.Context(), req.GetOwner(), navvyv1.KV_Watch_FullMethodName)
	if err != nil {
		return s.fail(err)
	}
	return s.fail(watchValues(stream.Context(), values, req, stream.Send))
}

func watchValues(ctx context.Context, values engine.Values, req *navvyv1.WatchValuesRequest, send func(*navvyv1.WatchValuesResponse) error) error {
	w, err := values.Watch(req.GetPrefix(), req.GetFrom())
	if err != nil {
		return err
	}
	defer w.Close()
	for {
		c, err := w.Next(ctx)
		if err != nil {
			return err
		}
		m := &navvyv1.WatchValuesResponse{Reset_: c.Reset, Through: c.Through}
		for i := range c.Changes {
			change := fromValue(&c.Changes[i].Value)
			change.Deleted = c.Changes[i].Deleted
			m.Changes = append(m.Changes, change)
		}
		if err := send(m); err != nil {
			return err
		}
	}
}
