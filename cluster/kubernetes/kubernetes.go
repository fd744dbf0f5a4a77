// Package kubernetes is the provider kubernetes of clusters: what the chart deploy/helm/navvy
// installs (package deploy/manifests has it rendered), in one namespace, by server-side apply.
// Each object is a resource of the plan, and bears the label navvy.run/cluster; one that does
// not is somebody else's. The ConfigMap NAME-cluster is the mark, with the file that was
// applied last.
//
// What was applied to an object is kept in an annotation of it, with digests in place of what
// Secrets and ConfigMaps hold: what is there is compared with that, and so what somebody has
// changed by hand is seen.
package kubernetes

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/cluster/driver"
	"github.com/navvy-run/navvy/internal/kubelog"
)

// Options are how a Kubernetes is reached. The zero value is the default.
type Options struct {
	// Kubeconfig is the file that says where it is. Defaults to $KUBECONFIG, else
	// ~/.kube/config, else the service account of the pod that this process is in.
	Kubeconfig string
	// Context is that of the kubeconfig. Defaults to its current one.
	Context string
	// Namespace is where clusters are, as the file has it. Without one they are looked for
	// in all namespaces.
	Namespace string
	// Getenv gives the variables that values of the file name. Defaults to none.
	Getenv func(string) string
	// CheckService refuses the form of a service that is wrong on any host, and CheckQueue
	// the URL of a broker's queue, or its connection string where it has one. They default to
	// nothing that is refused.
	CheckService func(form string) error
	CheckQueue   func(url, connection string) error
	// Wrap goes around all calls. Defaults to nothing.
	Wrap func(http.RoundTripper) http.RoundTripper
	// Logger is told what goes on. Defaults to nothing.
	Logger *slog.Logger
}

// Driver makes clusters in one Kubernetes. It implements driver.Driver and driver.Gauger, and
// may be used by many at once.
type Driver struct {
	o      Options
	config *rest.Config
	client *dynamic.DynamicClient
	raw    *rest.RESTClient // for what is no object
	http   *http.Client
	home   string // the namespace of the kubeconfig
	// dial connects to the navvy server of a cluster.
	dial  func(ctx context.Context, namespace, cluster string) (*grpc.ClientConn, error)
	lease time.Duration // of the lock
	// margin is how much longer than its lease the lock of somebody who seems dead is watched
	// before it is taken.
	margin time.Duration
	gone   time.Duration // bounds waits for what is being removed
	change time.Duration // bounds changes at a server
	ready  time.Duration // bounds waits for a server that is not ready, and not failing
	// patience bounds that with pods which fail.
	patience time.Duration
}

var (
	_ driver.Driver = (*Driver)(nil)
	_ driver.Gauger = (*Driver)(nil)
)

// The API server's own priority and fairness says how much is too much.
const (
	queriesPerSecond = 200
	queriesAtOnce    = 400
)

// unconnected is a driver that can compile.
func unconnected(o *Options) *Driver {
	if o == nil {
		o = &Options{}
	}
	d := &Driver{o: *o, lease: leaseTime, margin: leaseMargin, gone: goneTime, change: changeTime, ready: readyTime, patience: roomTime}
	d.dial = d.dialPod
	kubelog.Lead(nil) // what matters of it comes back as an error
	if d.o.Getenv == nil {
		d.o.Getenv = func(string) string { return "" }
	}
	if d.o.Logger == nil {
		d.o.Logger = slog.New(slog.DiscardHandler)
	}
	if d.o.CheckService == nil {
		d.o.CheckService = func(string) error { return nil }
	}
	if d.o.CheckQueue == nil {
		d.o.CheckQueue = func(string, string) error { return nil }
	}
	return d
}

// New reads the kubeconfig; it calls nobody yet. The error wraps navvy.ErrInvalid if there is
// none, or not the context.
func New(o *Options) (*Driver, error) {
	d := unconnected(o)
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = d.o.Kubeconfig
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: d.o.Context})
	config, err := loader.ClientConfig()
	if err != nil {
		return nil, noConfig(err, rules, d.o.Context)
	}
	if d.home, _, err = loader.Namespace(); err != nil {
		return nil, fmt.Errorf("kubernetes: %w: %w", err, navvy.ErrInvalid)
	}
	return d, d.connect(config)
}

// noConfig says what of a kubeconfig is missing.
func noConfig(err error, rules *clientcmd.ClientConfigLoadingRules, name string) error {
	all, loadErr := rules.Load()
	switch {
	case clientcmd.IsEmptyConfig(err), loadErr == nil && len(all.Contexts) == 0:
		return fmt.Errorf("kubernetes: there is no kubeconfig (%s): set KUBECONFIG to one that kubectl works with: %w", strings.Join(rules.GetLoadingPrecedence(), ", "), navvy.ErrInvalid)
	case loadErr == nil && name != "" && all.Contexts[name] == nil:
		return fmt.Errorf("kubernetes.context: the kubeconfig has no context %s, but %s: %w", name, strings.Join(slices.Sorted(maps.Keys(all.Contexts)), ", "), navvy.ErrInvalid)
	}
	return fmt.Errorf("kubernetes: the kubeconfig: %w: %w", err, navvy.ErrInvalid)
}

func (d *Driver) connect(config *rest.Config) error {
	d.config = rest.CopyConfig(config)
	d.config.QPS, d.config.Burst, d.config.UserAgent = queriesPerSecond, queriesAtOnce, "navvy"
	d.config.WarningHandlerWithContext = rest.NoWarnings{}
	if d.o.Wrap != nil {
		d.config.Wrap(d.o.Wrap)
	}
	var err error
	if d.http, err = rest.HTTPClientFor(d.config); err == nil {
		if d.client, err = dynamic.NewForConfigAndClient(d.config, d.http); err == nil {
			raw := dynamic.ConfigFor(d.config)
			raw.GroupVersion = &schema.GroupVersion{}
			d.raw, err = rest.UnversionedRESTClientForConfigAndClient(raw, d.http)
		}
	}
	if err != nil {
		return fmt.Errorf("kubernetes: the kubeconfig: %w: %w", err, navvy.ErrInvalid)
	}
	return nil
}

// Close implements driver.Driver.
func (d *Driver) Close() error {
	d.http.CloseIdleConnections()
	return nil
}

// named says which resource an error is of.
func named(id driver.ID, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", id, err)
}

func unsupported(key, why string, args ...any) error {
	return fmt.Errorf("%s: %s: %w", key, fmt.Sprintf(why, args...), navvy.ErrUnsupported)
}
