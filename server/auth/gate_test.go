package auth

import (
	"context"
	"errors"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/navvy-run/navvy"
)

// Local is only who calls in this process or over a unix socket: a gate that
// admits those refuses whoever comes over a port without TLS.
func TestLocal(t *testing.T) {
	t.Parallel()
	local := &Identity{Name: "ann", Role: RoleAdmin, Local: true}
	plain := insecure.NewCredentials()
	_, info, err := plain.ServerHandshake(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what  string
		peer  *peer.Peer
		local *Identity
		want  bool
	}{
		{"a unix socket", &peer.Peer{Addr: &net.UnixAddr{Net: "unix"}, AuthInfo: info}, local, true},
		{"a unix socket where nobody is local", &peer.Peer{Addr: &net.UnixAddr{Net: "unix"}, AuthInfo: info}, nil, false},
		{"a port", &peer.Peer{Addr: &net.TCPAddr{}, AuthInfo: info}, local, false},
		{"no address", &peer.Peer{}, local, false},
		{"nowhere", nil, local, false},
	} {
		ctx := t.Context()
		if c.peer != nil {
			ctx = peer.NewContext(ctx, c.peer)
		}
		got := Identity{}
		_, err := NewGate(&GateOptions{Local: c.local}).Unary()(ctx, nil, &grpc.UnaryServerInfo{FullMethod: "/navvy.v1.Identity/Certificates"},
			func(ctx context.Context, _ any) (any, error) {
				got = From(ctx)
				return nil, nil
			})
		if c.want && (err != nil || got != *local) || !c.want && status.Code(err) != codes.PermissionDenied {
			t.Errorf("%s: %+v, %v", c.what, got, err)
		}
	}
}

// In this process a call is that of whom its context names, which the table and what
// was revoked hold for; a context says nothing on any other way.
func TestCarried(t *testing.T) {
	t.Parallel()
	ann := Identity{Name: "ann", Role: RoleUser, Serial: "a1"}
	local := Identity{Name: "host", Role: RoleAdmin, Local: true}
	for _, c := range []struct {
		network string
		method  string
		revoked bool
		want    Identity // nobody: refused
	}{
		{"inproc", "/navvy.v1.Jobs/Get", false, ann},
		{"inproc", "/navvy.v1.Identity/Certificates", false, Identity{}},
		{"inproc", "/navvy.v1.Jobs/Get", true, Identity{}},
		{"unix", "/navvy.v1.Jobs/Get", false, local},
		{"tcp", "/navvy.v1.Jobs/Get", false, Identity{}},
	} {
		g := NewGate(&GateOptions{Local: &local})
		if c.revoked {
			g.Revoke(ann.Serial)
		}
		ctx := With(peer.NewContext(t.Context(), &peer.Peer{Addr: &net.UnixAddr{Net: c.network}}), ann)
		got := Identity{}
		_, err := g.Unary()(ctx, nil, &grpc.UnaryServerInfo{FullMethod: c.method}, func(ctx context.Context, _ any) (any, error) {
			got = From(ctx)
			return nil, nil
		})
		if refused := c.want == (Identity{}); got != c.want || refused != (status.Code(err) == codes.PermissionDenied) {
			t.Errorf("%+v: %+v, %v", c, got, err)
		}
	}
}

// Whoever revokes may also be asked, and both count.
func TestRevokedByEither(t *testing.T) {
	t.Parallel()
	g := NewGate(&GateOptions{Revoked: func(serial string) bool { return serial == "a" }})
	g.Revoke("b")
	for serial, want := range map[string]bool{"a": true, "b": true, "c": false, "": false} {
		if g.Revoked(serial) != want {
			t.Errorf("%q: %t", serial, !want)
		}
	}
}

// What a gate keeps of a connection goes with it.
func TestGateForgets(t *testing.T) {
	t.Parallel()
	g := NewGate(nil)
	var ended []error
	leave := g.enter("a", func(err error) { ended = append(ended, err) })
	other := g.enter("a", func(err error) { ended = append(ended, err) })
	other()
	g.Revoke("a")
	leave()
	if len(ended) != 1 || !errors.Is(ended[0], navvy.ErrDenied) || len(g.open) != 0 {
		t.Errorf("%d were ended: %v; %d are open", len(ended), ended, len(g.open))
	}
}
