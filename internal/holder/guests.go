package holder

import (
	"strings"
	"sync"

	"google.golang.org/grpc"

	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
)

// guests counts who is there, and tells when nobody is. Its zero value is ready,
// and its methods may be called at once.
type guests struct {
	mu    sync.Mutex
	n     int
	empty chan struct{} // closed when the last one leaves; nil if nobody waits
}

func (g *guests) enter() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.n++
}

func (g *guests) exit() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.n--; g.n == 0 && g.empty != nil {
		close(g.empty)
		g.empty = nil
	}
}

// count is how many are there.
func (g *guests) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.n
}

// nobody gives a channel that is closed once nobody is there.
func (g *guests) nobody() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.n == 0 {
		done := make(chan struct{})
		close(done)
		return done
	}
	if g.empty == nil {
		g.empty = make(chan struct{})
	}
	return g.empty
}

// stream counts the calls about jobs that a process makes to itself: in process, a
// call goes on for a moment when its caller has left it.
func (g *guests) stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if strings.HasPrefix(info.FullMethod, "/"+navvyv1.Jobs_ServiceDesc.ServiceName+"/") {
		g.enter()
		defer g.exit()
	}
	return handler(srv, stream)
}
