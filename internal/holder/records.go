package holder

import (
	"context"

	"github.com/navvy-run/navvy/engine"
	"github.com/navvy-run/navvy/gateway/records"
)

// gatewayRecords are those of a gateway, in the engine's registry.
type gatewayRecords struct {
	registry engine.Registry
	kind     engine.Kind
}

// List implements records.Store.
func (r gatewayRecords) List(ctx context.Context, prefix, after string, limit int) ([]records.Record, string, error) {
	entries, next, err := r.registry.List(ctx, r.kind, prefix, after, limit)
	list := make([]records.Record, len(entries))
	for i := range entries {
		list[i] = records.Record{Name: entries[i].Name, Value: entries[i].Value}
	}
	return list, next, err
}

// Apply implements records.Store.
func (r gatewayRecords) Apply(ctx context.Context, changes ...records.Change) error {
	list := make([]engine.Change, len(changes))
	for i := range changes {
		list[i] = engine.Change{Kind: r.kind, Name: changes[i].Name, Value: changes[i].Value, Delete: changes[i].Delete}
	}
	return r.registry.Apply(ctx, list...)
}
