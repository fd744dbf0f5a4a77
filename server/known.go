package server

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/api"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
)

// known refuses a request of the API with a field that this server does not know. A
// newer client has set it, and means something by it: a limit, say, that nobody would
// enforce. Fields that it has not set are not sent. What workers report is not looked
// at: a newer worker may tell more than an older server keeps.
func known(m proto.Message) error {
	if calls, ok := m.(*navvyv1.RunRequest); ok && plain(calls) {
		return nil
	}
	return knownIn(m.ProtoReflect())
}

// plain tells, in a fiftieth of the time that knownIn takes, whether calls have nothing
// unknown, and no messages but those that calls of small tasks have.
func plain(m *navvyv1.RunRequest) bool {
	for _, c := range m.GetCalls() {
		j, s := c.GetJob(), c.GetJob().GetSpec()
		switch {
		case j.GetAccepted() != nil, j.GetMaxFails() != nil, j.GetDelay() != nil,
			s.GetTimeout() != nil, s.GetGrace() != nil, s.GetRetry() != nil, s.GetLimits() != nil, s.GetStage() != nil,
			s.GetService().GetPackage() != nil:
			return false
		}
		if !bare(c) || !bare(j) || !bare(s) || !bare(s.GetCommand()) || !bare(s.GetNoop()) || !bare(s.GetFunction()) || !bare(s.GetService()) {
			return false
		}
	}
	return bare(m)
}

// bare tells whether a message itself has nothing unknown, or is not there.
func bare(m proto.Message) bool { return len(m.ProtoReflect().GetUnknown()) == 0 }

func knownIn(m protoreflect.Message) error {
	if unknown := m.GetUnknown(); len(unknown) > 0 {
		field, _, _ := protowire.ConsumeTag(unknown)
		return fmt.Errorf("this server does not know field %d of %s, which the client has set: it is older than the client: %w", field, m.Descriptor().FullName(), navvy.ErrUnsupported)
	}
	for _, f := range messagesIn(m.Descriptor()) {
		if !m.Has(f) {
			continue
		}
		if err := knownAt(f, m.Get(f)); err != nil {
			return err
		}
	}
	return nil
}

// knownAt is known for the messages of one field.
func knownAt(f protoreflect.FieldDescriptor, v protoreflect.Value) (err error) {
	switch {
	case f.IsMap():
		v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
			err = knownIn(v.Message())
			return err == nil
		})
	case f.IsList():
		for i := 0; i < v.List().Len() && err == nil; i++ {
			err = knownIn(v.List().Get(i).Message())
		}
	default:
		err = knownIn(v.Message())
	}
	return err
}

// messageFields are the fields of a kind of message that hold messages, by its
// descriptor: a call of one small task is looked at without its other fields.
var messageFields sync.Map

func messagesIn(d protoreflect.MessageDescriptor) []protoreflect.FieldDescriptor {
	if known, ok := messageFields.Load(d); ok {
		return known.([]protoreflect.FieldDescriptor) //nolint:forcetypeassert // nothing else is stored
	}
	var list []protoreflect.FieldDescriptor
	for i := range d.Fields().Len() {
		f := d.Fields().Get(i)
		if f.IsMap() && f.MapValue().Message() != nil || !f.IsMap() && f.Message() != nil {
			list = append(list, f)
		}
	}
	messageFields.Store(d, list)
	return list
}

// looked tells whether the requests of a call are looked at.
func looked(method string) bool {
	return strings.HasPrefix(method, "/navvy.v1.") && !strings.HasPrefix(method, "/navvy.v1.Workers/")
}

// refuseUnknownIn is known for all calls that are streams.
func refuseUnknownIn(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if looked(info.FullMethod) {
		stream = knownStream{stream}
	}
	return handler(srv, stream)
}

// knownStream refuses requests as known does.
type knownStream struct{ grpc.ServerStream }

// RecvMsg implements grpc.ServerStream.
func (s knownStream) RecvMsg(m any) error {
	err := s.ServerStream.RecvMsg(m)
	if req, ok := m.(proto.Message); ok && err == nil {
		err = api.ToWire(known(req), error.Error)
	}
	return err
}

// refuseUnknown is known for all calls that have one request.
func refuseUnknown(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if m, ok := req.(proto.Message); ok && looked(info.FullMethod) {
		if err := known(m); err != nil {
			return nil, api.ToWire(err, error.Error)
		}
	}
	return handler(ctx, req)
}
