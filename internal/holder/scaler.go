package holder

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"github.com/navvy-run/navvy/api"
	"github.com/navvy-run/navvy/gateway/keda"
	"github.com/navvy-run/navvy/manager"
)

// CheckScaler refuses an address where the contract of package gateway/keda must not be
// served. The error wraps navvy.ErrDenied for one that others reach.
func CheckScaler(address string) error { return checkWeb("scaler", address) }

// maxScalerMessage bounds what a scaler is asked.
const maxScalerMessage = 64 << 10

// openScaler opens the address on which KEDA asks how much there is to do, if there is to be
// one: in plain text on loopback, where /metrics tells the same, or over mTLS where it begins
// with https://, for viewers and administrators.
func (h *Holder) openScaler(ctx context.Context, address string, config *tls.Config) error {
	if address == "" {
		return nil
	}
	if err := CheckScaler(address); err != nil {
		return err
	}
	plain, secure := strings.CutPrefix(address, secureScheme)
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", plain)
	if err != nil {
		return fmt.Errorf("scaler address %s: %w", address, err)
	}
	h.listeners = append(h.listeners, l)
	h.scalerAddr = l.Addr()
	options := []grpc.ServerOption{
		grpc.MaxRecvMsgSize(maxScalerMessage), grpc.ConnectionTimeout(headerTimeout),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: api.KeepaliveTime, Timeout: api.KeepaliveTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: api.KeepaliveTime / 2, PermitWithoutStream: true}),
	}
	var door net.Listener = l
	if secure {
		d := newDoor(l)
		door = d
		options = append(options, grpc.Creds(d.meet(h.gate.Credentials(config))),
			grpc.ChainUnaryInterceptor(h.gate.Unary()), grpc.ChainStreamInterceptor(h.gate.Stream()))
	}
	h.scaler = grpc.NewServer(options...)
	h.scaling = keda.New(wanted{h.mgr})
	h.scaling.Register(h.scaler)
	h.serving = append(h.serving, func() error { return h.scaler.Serve(door) })
	return nil
}

// closeScaler lets calls of scalers end, whose streams would last for ever, or with cut ends them.
func (h *Holder) closeScaler(cut bool) {
	switch {
	case h.scaler == nil:
	case cut:
		h.scaler.Stop()
	default:
		h.scaling.Close()
		h.scaler.GracefulStop()
	}
}

// Scaler is where KEDA asks; nil if nowhere.
func (h *Holder) Scaler() net.Addr { return h.scalerAddr }

// wanted is a manager as package gateway/keda knows it.
type wanted struct{ *manager.Manager }

// Wanted implements keda.Source.
func (w wanted) Wanted(ctx context.Context, s *keda.Selection) (waiting, running int64, err error) {
	n, err := w.Manager.Wanted(ctx, &manager.Want{Queue: s.Queue, Kind: s.Kind, Labels: s.Labels})
	return n.Waiting, n.Running, err
}
