package holder

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	"github.com/navvy-run/navvy/api"
	"github.com/navvy-run/navvy/gateway/jobrunner"
	"github.com/navvy-run/navvy/server"
	"github.com/navvy-run/navvy/server/auth"
)

// Serving says how a holder serves others, over the network.
type Serving struct {
	// Listen is the address of the port for gRPC, HOST:PORT.
	Listen string
	// Authority issues certificates; nil if an outside one does.
	Authority *auth.Authority
	// Prepare is called once what is issued can be recorded: it makes certificates
	// that are missing. Defaults to nothing.
	Prepare func(record func(*x509.Certificate) error, revoked func(serial string) bool) error
	// Certificate is the server's own, asked for each connection, and Pool whom the
	// clients' certificates must come from.
	Certificate func() (*tls.Certificate, error)
	Pool        *x509.CertPool
	// HTTP are the addresses for HTTP. Defaults to none.
	HTTP HTTPOptions
	// NetRPC is the address of the gateway for net/rpc, on loopback. Defaults to none.
	NetRPC string
	// FaaS says where the REST contract of package gateway/faas is served. Defaults to nowhere.
	FaaS FaaSOptions
	// Scaler is where the contract of package gateway/keda is served: plain on loopback, over
	// mTLS where it begins with https://. Defaults to nowhere.
	Scaler string

	// MSTC says how clients of package gateway/mstc are served. Defaults to not at all.
	MSTC MSTCOptions
}

// What a client of the port can make a server hold, beside what server.GRPCOptions bounds.
const (
	maxStreams = 8192             // of one connection at once
	idleConn   = 10 * time.Minute // without a call
	bufferSize = 16 << 10         // of a connection, in each direction
)

// options are those of the server of the port.
func (h *Holder) options(config *tls.Config) []grpc.ServerOption {
	return append(server.GRPCOptions(h.gate, config),
		grpc.Creds(h.door.meet(h.gate.Credentials(config))),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: api.KeepaliveTime, Timeout: api.KeepaliveTimeout, MaxConnectionIdle: idleConn}),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.ReadBufferSize(bufferSize), grpc.WriteBufferSize(bufferSize),
	)
}

// openPort opens the addresses on which others are served.
func (h *Holder) openPort(ctx context.Context, srv *server.Server, local auth.Identity) error {
	s := h.cfg.Serving
	if err := srv.LoadRevocations(ctx); err != nil {
		return err
	}
	if s.Prepare != nil {
		record := func(cert *x509.Certificate) error { return srv.RecordCertificate(context.WithoutCancel(ctx), cert) }
		if err := s.Prepare(record, h.gate.Revoked); err != nil {
			return err
		}
	}
	config := auth.ServerTLS(s.Certificate, s.Pool, h.gate.Revoked)
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.Listen)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", s.Listen, err)
	}
	h.listeners = append(h.listeners, l)
	h.door = newDoor(l)
	h.port = grpc.NewServer(h.options(config)...)
	srv.Register(h.port)
	jobrunner.New(h.channel, nil).Register(h.port)
	h.health = health.NewServer()
	grpc_health_v1.RegisterHealthServer(h.port, h.health)
	reflection.Register(h.port)
	h.serving = append(h.serving, func() error { return h.port.Serve(h.door) })
	h.forget = srv.Forget
	if h.metrics, err = h.newMetrics(); err != nil {
		return err
	}
	if err := h.openNetRPC(ctx, s.NetRPC); err != nil {
		return err
	}
	if err := h.openFaaS(ctx, &s.FaaS, local, config); err != nil {
		return err
	}
	if err := h.openScaler(ctx, s.Scaler, config); err != nil {
		return err
	}
	if err := h.openMSTC(ctx, &s.MSTC, config); err != nil {
		return err
	}
	return h.serveHTTP(ctx, &s.HTTP, srv, config)
}

// runGateways starts those that call the API by themselves.
func (h *Holder) runGateways(serving context.Context) {
	if h.brokers != nil {
		h.background(serving, "brokers", func(ctx context.Context) error { return h.brokers.Run(ctx, h.channel) })
	}
	if h.netrpc != nil {
		h.background(serving, "netrpc", h.netrpc.Run)
	}
	if h.mstc != nil {
		h.background(serving, "mstc", h.mstc.Run)
	}
}

// authority issues certificates; nil if nobody here does.
func (c *Config) authority() *auth.Authority {
	if c.Serving == nil {
		return nil
	}
	return c.Serving.Authority
}

// servePort serves what openPort has opened.
func (h *Holder) servePort() {
	for _, serve := range h.serving {
		h.work.Go(func() error {
			if err := serve(); err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, grpc.ErrServerStopped) {
				h.fail(fmt.Errorf("serve the network: %w", err))
			}
			return nil
		})
	}
}

// Addresses are where others are served: the port for gRPC, and those for HTTP and
// for health alone, nil where there are none.
func (h *Holder) Addresses() (port, http, health net.Addr) {
	if h.door != nil {
		port = h.door.Addr()
	}
	return port, h.httpAddr, h.healthAddr
}

// closePort lets calls from the network end, or with cut ends them.
func (h *Holder) closePort(cut bool) {
	h.closeScaler(cut)
	if cut {
		for _, s := range h.web {
			_ = s.Close()
		}
	} else {
		h.closeWeb()
	}
	switch {
	case h.port == nil:
	case cut:
		h.port.Stop()
	default:
		h.port.GracefulStop()
	}
}
