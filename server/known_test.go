package server

import (
	"errors"
	"slices"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/navvy-run/navvy"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
)

// An unknown field is seen wherever in a call it may be, also in fields that will be
// added to the messages of a call.
func TestUnknownAnywhereInACall(t *testing.T) {
	t.Parallel()
	newer := protowire.AppendVarint(protowire.AppendTag(nil, 987, protowire.VarintType), 1)
	n := 0
	var visit func(d protoreflect.MessageDescriptor, path []protoreflect.FieldDescriptor)
	visit = func(d protoreflect.MessageDescriptor, path []protoreflect.FieldDescriptor) {
		call := &navvyv1.RunCall{}
		m := call.ProtoReflect()
		for _, f := range path {
			if f.IsList() {
				m = m.Mutable(f).List().AppendMutable().Message()
			} else {
				m = m.Mutable(f).Message()
			}
		}
		calls := &navvyv1.RunRequest{Calls: []*navvyv1.RunCall{{}, call}}
		if err := known(calls); err != nil {
			t.Errorf("%v, and nothing is unknown: %v", path, err)
		}
		m.SetUnknown(newer)
		if err := known(calls); !errors.Is(err, navvy.ErrUnsupported) {
			t.Errorf("with a field more in %s: %v", d.FullName(), err)
		}
		n++
		for i := range d.Fields().Len() {
			f := d.Fields().Get(i)
			if f.IsMap() && f.MapValue().Message() != nil {
				t.Fatalf("%s holds messages by name: this test has to be told how to look at them", f.FullName())
			}
			if f.Message() != nil && !f.IsMap() {
				visit(f.Message(), append(slices.Clip(path), f))
			}
		}
	}
	visit((&navvyv1.RunCall{}).ProtoReflect().Descriptor(), nil)
	if n < 10 {
		t.Errorf("only %d messages were looked at", n)
	}
}
