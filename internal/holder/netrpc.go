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
	h.netrpc = netrpc.New(l, netrpcRecords{h.eng.Registry()}, &netrpc.Options{Logger: h.cfg.Logger})
	return nil
}

// NetRPC is where the gateway for net/rpc listens; nil if there is none.
func (h *Holder) NetRPC() net.Addr { return h.netrpcAddr }

// netrpcRecords are those of the gateway, in the engine's registry.
type netrpcRecords struct{ registry engine.Registry }

// List implements netrpc.Records.
func (r netrpcRecords) List(ctx context.Context, prefix, after string, limit int) ([]netrpc.Record, string, error) {
	entries, next, err := r.registry.List(ctx, engine.KindNetRPC, prefix, after, limit)
	list := make([]netrpc.Record, len(entries))
	for i := range entries {
		list[i] = netrpc.Record{Name: entries[i].Name, Value: entries[i].Value}
	}
	return list, next, err
}

// Apply implements netrpc.Records.
func (r netrpcRecords) Apply(ctx context.Context, changes ...netrpc.Change) error {
	list := make([]engine.Change, len(changes))
	for i := range changes {
		list[i] = engine.Change{Kind: engine.KindNetRPC, Name: changes[i].Name, Value: changes[i].Value, Delete: changes[i].Delete}
	}
	return r.registry.Apply(ctx, list...)
}
