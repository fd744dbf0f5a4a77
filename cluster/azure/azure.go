// Package azure is the provider azure of clusters: a resource group with a Service Bus
// namespace or a storage account that keeps the queues, file shares, Application Insights, and
// a container group of Azure Container Instances for each worker, or a cluster of Azure Kubernetes
// Service whose workers are put there by package cluster/kubernetes. Whatever can be made by a
// deployment of an ARM template is: the templates are in the folder templates, and each
// resource of the plan is one deployment of a name of its own, so that a step that was
// interrupted goes on where it is.
//
// The mark of a cluster is the tag navvy-cluster of its resource group, and of each resource
// in it. Queues and file shares have no tags: they are the cluster's if a deployment of the
// cluster made them. The file that was applied last is an output of the deployment of the mark.
//
// docs/cluster.md tells what is made, and what was not tried on the real cloud.
package azure

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/resources/armdeployments"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/resources/armresources/v3"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/cluster/config"
	"github.com/navvy-run/navvy/internal/pause"
)

// Options are how Azure is reached. The zero value is the default.
type Options struct {
	// Location is where a resource group is made that is missing, such as westeurope, and
	// ResourceGroup its name. Both are as the file has them; they are not needed for a
	// cluster that is there. ResourceGroup defaults to navvy- and the cluster's name.
	Location, ResourceGroup string
	// Getenv gives the variables that values of the file name. Defaults to none.
	Getenv func(string) string
	// Credential proves who we are. Defaults to what the Azure SDK finds: variables
	// AZURE_CLIENT_ID and the like, a managed identity, az login.
	Credential azcore.TokenCredential
	// Transport carries the calls. Defaults to the Azure SDK's.
	Transport policy.Transporter
	// Poll is how long to wait between two looks at what is under way. Defaults to 3 s.
	Poll time.Duration
	// RetryDelay is the first pause before a call is repeated that failed for a while.
	// Defaults to the Azure SDK's.
	RetryDelay time.Duration
	// Logger is told what goes on. Defaults to nothing.
	Logger *slog.Logger
}

// Driver makes clusters in one subscription. It implements driver.Driver, and may be used by
// many at once.
type Driver struct {
	subscription string
	o            Options
	arm          *arm.Client
	groups       *armresources.ResourceGroupsClient
	resources    *armresources.Client
	deployments  *armdeployments.DeploymentsClient
	uploads      uploader
	wrap         func(http.RoundTripper) http.RoundTripper // around calls of AKS clusters; nil for nothing
}

var subscriptionID = regexp.MustCompile(`^[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}$`)

// New is a driver for a subscription, by its id. It calls nobody yet. The error wraps
// navvy.ErrInvalid for what is no id, navvy.ErrDenied if there is nothing to sign in with.
func New(subscription string, o *Options) (*Driver, error) {
	if o == nil {
		o = &Options{}
	}
	if !subscriptionID.MatchString(subscription) {
		return nil, invalid("azure.subscription is %q: want the id of a subscription, such as az account show --query id prints", subscription)
	}
	d := &Driver{subscription: subscription, o: *o}
	if d.o.Poll == 0 {
		d.o.Poll = 3 * time.Second
	}
	if d.o.Getenv == nil {
		d.o.Getenv = func(string) string { return "" }
	}
	if d.o.Logger == nil {
		d.o.Logger = slog.New(slog.DiscardHandler)
	}
	if d.o.Credential == nil {
		found, err := azidentity.NewDefaultAzureCredential(nil)
		if err != nil {
			return nil, noCredentials(err)
		}
		d.o.Credential = found
	}
	return d, d.connect()
}

// calls is how often a call is repeated that fails for a while: throttled, a server that
// errs, a connection that breaks. Retry-After is waited for.
const calls = 6

func (d *Driver) connect() error {
	options := &arm.ClientOptions{ClientOptions: policy.ClientOptions{
		Transport: d.o.Transport, Telemetry: policy.TelemetryOptions{ApplicationID: "navvy"},
		Retry: policy.RetryOptions{MaxRetries: calls, RetryDelay: d.o.RetryDelay},
	}}
	var failed [4]error
	d.arm, failed[0] = arm.NewClient("navvy", "v1.0.0", d.o.Credential, options)
	d.groups, failed[1] = armresources.NewResourceGroupsClient(d.subscription, d.o.Credential, options)
	d.resources, failed[2] = armresources.NewClient(d.subscription, d.o.Credential, options)
	d.deployments, failed[3] = armdeployments.NewDeploymentsClient(d.subscription, d.o.Credential, options)
	d.uploads = &files{options: options.ClientOptions}
	return errors.Join(failed[:]...)
}

// Close does nothing: connections are the SDK's, and end by themselves.
func (d *Driver) Close() error { return nil }

// group is the name of a cluster's resource group if there is none yet.
func (d *Driver) group(cluster string) string {
	if d.o.ResourceGroup != "" {
		return d.o.ResourceGroup
	}
	return groupName(&config.Cluster{Name: cluster, Azure: &config.Azure{}})
}

// placed tells whether there is a file that says where the cluster is to be.
func (d *Driver) placed() bool { return d.o.Location != "" || d.o.ResourceGroup != "" }

// pause waits between two looks.
func (d *Driver) pause(ctx context.Context) error { return pause.For(ctx, d.o.Poll) }

func invalid(format string, a ...any) error {
	return fmt.Errorf("azure: %s: %w", fmt.Sprintf(format, a...), navvy.ErrInvalid)
}

func unsupported(format string, a ...any) error {
	return fmt.Errorf("azure: %s: %w", fmt.Sprintf(format, a...), navvy.ErrUnsupported)
}
