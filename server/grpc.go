package server

import (
	"crypto/tls"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"github.com/navvy-run/navvy/api"
	"github.com/navvy-run/navvy/server/auth"
)

// handshakeTime is how long a connection may take to say who it is.
const handshakeTime = 10 * time.Second

// GRPCOptions are what a gRPC server needs that Register adds its services to: the
// gate before all calls, the bound of messages, and what finds connections that are
// dead or silent. config is what auth.ServerTLS made for a port; nil for a unix
// socket, whose listener has checked the peer.
func GRPCOptions(gate *auth.Gate, config *tls.Config) []grpc.ServerOption {
	o := []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(gate.Unary(), refuseUnknown), grpc.ChainStreamInterceptor(gate.Stream(), refuseUnknownIn), codec(),
		grpc.MaxRecvMsgSize(api.MaxMessage), grpc.ConnectionTimeout(handshakeTime),
		grpc.StaticStreamWindowSize(api.StreamWindow), grpc.StaticConnWindowSize(api.ConnWindow),
	}
	if config == nil {
		return o
	}
	return append(o, grpc.Creds(gate.Credentials(config)),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: api.KeepaliveTime, Timeout: api.KeepaliveTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: api.KeepaliveTime / 2, PermitWithoutStream: true}))
}
