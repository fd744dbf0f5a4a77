package worker

import (
	"context"
	"sync"

	"github.com/navvy-run/navvy/client"
)

// upload streams one attempt's output to the server, if there is much of it or
// somebody watches: output.Sink.
type upload struct {
	ctx    context.Context //nolint:containedctx // the session's, of which the attempt is a part
	server *client.Workers
	ref    client.AttemptRef

	mu     sync.Mutex
	stream *client.OutputStream // nil before the first frames
}

// Upload implements output.Sink.
func (u *upload) Upload(frames []byte) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.stream == nil {
		stream, err := u.server.WriteOutput(u.ctx, u.ref)
		if err != nil {
			return err
		}
		u.stream = stream
	}
	return u.stream.Upload(frames)
}

func (u *upload) close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.stream != nil {
		u.stream.Close()
	}
}
