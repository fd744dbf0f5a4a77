package cli

import (
	"github.com/navvy-run/navvy/cluster/config"
	"github.com/navvy-run/navvy/cluster/kubernetes"
)

// openKubernetes opens the provider kubernetes, for the context of a file, or the current one.
func (a *app) openKubernetes(file *config.Cluster) (*kubernetes.Driver, error) {
	o := &kubernetes.Options{
		Getenv: a.env, Logger: a.logger(), CheckService: checkService, CheckQueue: a.checkBrokerQueue,
	}
	if file != nil && file.Kubernetes != nil {
		o.Context, o.Namespace = file.Kubernetes.Context, file.Kubernetes.Namespace
	}
	return kubernetes.New(o)
}
