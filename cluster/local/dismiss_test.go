package local

import (
	"context"
	"errors"
	"os"
	"testing"

	"google.golang.org/grpc"

	"github.com/navvy-run/navvy"
)

// A server that does not answer just now lets workers in again later: they are not forgotten.
// Of one that is gone nobody is let in.
func TestDismissAllLater(t *testing.T) {
	t.Parallel()
	d := New(Options{Dial: func(context.Context, string) (*grpc.ClientConn, error) { return nil, errors.New("it is down") }})
	s := &Site{s: &site{d: d, name: "demo", dir: t.TempDir(), mark: &mark{}}}
	if err := s.DismissAll(t.Context(), "worker-001"); err != nil {
		t.Errorf("without a server: %v", err)
	}
	if err := os.Mkdir(s.s.path(serverDir), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := s.DismissAll(t.Context(), "worker-001"); !errors.Is(err, errServerAway) || !errors.Is(err, navvy.ErrUnavailable) {
		t.Errorf("with one that is down: %v", err)
	}
}
