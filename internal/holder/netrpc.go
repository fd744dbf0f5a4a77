package holder

import (
	"context"
	"net"

	"github.com/navvy-run/navvy/engine"
	"github.com/navvy-run/navvy/gateway/netrpc"
)

// openNetRPC opens the gateway for net/rpc, if there is to be one.
func (h *Holder) openNetRPC(ctx context.Context, address string) error {
	if address == "" {
		return nil
	}
	l, err := netrpc.Listen(ctx, address)
	if err != nil {
		return err
	}
	h.listeners = append(h.listeners, l)
	h.netrpcAddr = l.Addr()
	h.netrpc = netrpc.New(l, gatewayRecords{h.eng.Registry(), engine.KindNetRPC}, &netrpc.Options{Logger: h.cfg.Logger})
	return nil
}

// NetRPC is where the gateway for net/rpc listens; nil if there is none.
func (h *Holder) NetRPC() net.Addr { return h.netrpcAddr }
