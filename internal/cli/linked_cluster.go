package cli

import (
	"cmp"
	"context"
	"fmt"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/cluster/azure"
	"github.com/navvy-run/navvy/cluster/config"
	clusterdriver "github.com/navvy-run/navvy/cluster/driver"
)

// openProvider opens a provider of clusters: the one that a file describes, or without a file
// where its clusters are by default.
func (a *app) openProvider(_ context.Context, p config.Provider, file *config.Cluster) (clusterdriver.Driver, error) {
	switch p {
	case config.ProviderLocal:
		return a.openLocal()
	case config.ProviderAzure:
		return a.openAzure(file)
	case config.ProviderSSH:
		return a.openSSH("")
	case config.ProviderKubernetes:
		return a.openKubernetes(file)
	}
	return nil, fmt.Errorf("no provider is called %q: %w", p, navvy.ErrInvalid)
}

// openAzure opens the provider azure, for the subscription of a file, or of the environment.
func (a *app) openAzure(file *config.Cluster) (*azure.Driver, error) {
	o := &azure.Options{Getenv: a.env, Logger: a.logger()}
	subscription := ""
	if file != nil && file.Azure != nil {
		subscription, o.Location, o.ResourceGroup = file.Azure.Subscription, file.Azure.Location, file.Azure.ResourceGroup
	}
	if subscription = cmp.Or(subscription, a.env("AZURE_SUBSCRIPTION_ID")); subscription == "" {
		return nil, withHint(usagef("without a file it is not known which of your subscriptions is meant"), "set AZURE_SUBSCRIPTION_ID, or give the file with -f")
	}
	return azure.New(subscription, o)
}
