package holder

import (
	"fmt"

	"github.com/fullstorydev/grpchan/inprocgrpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/navvy-run/navvy"
)

// sharing passes messages between client and server of one process without
// copying what they hold: package api asks both not to change what was sent.
type sharing struct{}

var _ inprocgrpc.Cloner = sharing{}

// Clone gives the message itself.
func (sharing) Clone(in any) (any, error) { return in, nil }

// Copy makes out hold what in holds.
func (sharing) Copy(out, in any) error {
	to, okTo := out.(proto.Message)
	from, okFrom := in.(proto.Message)
	if !okTo || !okFrom || to.ProtoReflect().Descriptor() != from.ProtoReflect().Descriptor() {
		return fmt.Errorf("in process: a %T was sent where a %T is read: %w", in, out, navvy.ErrInvalid)
	}
	target := to.ProtoReflect()
	from.ProtoReflect().Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		target.Set(field, value)
		return true
	})
	return nil
}
