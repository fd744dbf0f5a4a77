package server

import (
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // the codec that this one bounds
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/navvy-run/navvy"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
)

// maxCallsInMessage is how many calls a message of Run may have. An empty one takes two
// bytes on the wire and a hundred times as much in memory: they are counted first.
const maxCallsInMessage = 1_000

// boundedCodec is the codec of gRPC, and refuses what would take far more memory than a
// message may have bytes.
type boundedCodec struct{ encoding.CodecV2 }

func codec() grpc.ServerOption {
	return grpc.ForceServerCodecV2(boundedCodec{encoding.GetCodecV2("proto")})
}

// Unmarshal implements encoding.CodecV2.
func (c boundedCodec) Unmarshal(data mem.BufferSlice, v any) error {
	m, ok := v.(*navvyv1.RunRequest)
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	whole := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer whole.Free()
	if fields(whole.ReadOnlyData()) > maxCallsInMessage {
		return fmt.Errorf("a message has more than %d calls: %w", maxCallsInMessage, navvy.ErrInvalid)
	}
	return proto.Unmarshal(whole.ReadOnlyData(), m)
}

// fields counts the fields of a message, up to one more than a message of calls may have.
func fields(b []byte) (n int) {
	for len(b) > 0 && n <= maxCallsInMessage {
		_, _, length := protowire.ConsumeField(b)
		if length < 0 {
			break // Unmarshal says what is wrong
		}
		b = b[length:]
		n++
	}
	return n
}
