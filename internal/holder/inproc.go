package holder

import (
	"fmt"
	"reflect"

	"github.com/fullstorydev/grpchan/inprocgrpc"

	"github.com/navvy-run/navvy"
)

// sharing passes messages between client and server of one process without
// copying what they hold: package api asks both not to change what was sent.
type sharing struct{}

var _ inprocgrpc.Cloner = sharing{}

// Clone gives the message itself.
func (sharing) Clone(in any) (any, error) { return in, nil }

// Copy makes out hold what in holds. Generated messages are structs that may be
// copied as long as nobody uses them: out was just made, in was given away.
func (sharing) Copy(out, in any) error {
	to, from := reflect.ValueOf(out), reflect.ValueOf(in)
	if to.Type() != from.Type() || to.Kind() != reflect.Pointer || to.IsNil() || from.IsNil() {
		return fmt.Errorf("in process: a %T was sent where a %T is read: %w", in, out, navvy.ErrInvalid)
	}
	to.Elem().Set(from.Elem())
	return nil
}
