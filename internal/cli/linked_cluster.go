package cli

import (
	"context"
	"fmt"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/cluster/config"
	clusterdriver "github.com/navvy-run/navvy/cluster/driver"
)

// openProvider opens a provider of clusters: the one that a file describes, or without a file
// where its clusters are by default.
func (a *app) openProvider(_ context.Context, p config.Provider, _ *config.Cluster) (clusterdriver.Driver, error) {
	switch p {
	case config.ProviderLocal:
		return a.openLocal()
	case config.ProviderSSH, config.ProviderKubernetes, config.ProviderAzure:
	}
	return nil, fmt.Errorf("clusters on %s: %w", p, navvy.ErrUnsupported)
}
