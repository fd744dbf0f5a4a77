package container

import (
	"context"
	"fmt"
	"os"
	"slices"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
)

// Found tells why there is no cluster to run containers on; nil if there may be one: a file
// that names one, or the pod that this process is in, of which the environment tells.
func Found(env func(string) string) error {
	if configured() {
		return nil
	}
	if env("KUBERNETES_SERVICE_HOST") != "" {
		return nil
	}
	return fmt.Errorf("there is no Kubernetes cluster: set KUBECONFIG, or put its configuration into %s: %w", clientcmd.RecommendedHomeFile, navvy.ErrUnavailable)
}

// configured tells whether there is a file that names a cluster.
func configured() bool {
	return slices.ContainsFunc(clientcmd.NewDefaultClientConfigLoadingRules().Precedence, func(file string) bool {
		_, err := os.Stat(file)
		return err == nil
	})
}

// Absent is the driver of the kind container where there is no cluster, and why.
func Absent(why error) driver.Driver { return absent{why} }

type absent struct{ why error }

// Capabilities implements driver.Driver.
func (a absent) Capabilities() driver.Capabilities {
	return driver.Capabilities{Kind: navvy.KindContainer, Absent: a.why.Error(), Adopts: true, Remains: true}
}

// Start implements driver.Driver.
func (a absent) Start(context.Context, *driver.Task) (driver.Execution, error) {
	return nil, &driver.Refusal{Reason: navvy.ReasonStart, Message: a.why.Error()}
}

// Recover implements driver.Driver. What an earlier process has left may run on all the same,
// and is not forgotten.
func (a absent) Recover(_ context.Context, _ []byte, t *driver.Task) (driver.Execution, error) {
	return nil, fmt.Errorf("container: what is left of attempt %s cannot be looked after: %w: %w", t.Token, a.why, navvy.ErrUnavailable)
}

// Close implements driver.Driver.
func (absent) Close() error { return nil }
