package ssh

import (
	"context"
	"fmt"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/cluster/driver"
	"github.com/navvy-run/navvy/cluster/local"
)

// part is what a resource of this provider has as its Spec.
type part interface {
	put(ctx context.Context, h *hosts, s *local.Site, r *driver.Resource) error
}

// Put implements local.Elsewhere.
func (h *hosts) Put(ctx context.Context, s *local.Site, r *driver.Resource) error {
	p, ok := r.Spec.(part)
	if !ok {
		return fmt.Errorf("it was not compiled by this provider: %w", navvy.ErrInvalid)
	}
	return p.put(ctx, h, s, r)
}

// Remove implements local.Elsewhere.
func (h *hosts) Remove(ctx context.Context, s *local.Site, id driver.ID) error {
	switch id.Kind {
	case kindHost:
		return h.removeHost(ctx, s)
	case kindTunnel:
		return h.removeTunnels(ctx, s)
	case kindWorker:
		return h.removeWorker(ctx, s, id)
	}
	return fmt.Errorf("this provider has none of the kind %s: %w", id.Kind, navvy.ErrInvalid)
}
