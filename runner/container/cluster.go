package container

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/gentype"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/navvy-run/navvy"
)

// A client of all of Kubernetes' groups is a third of a binary; this one knows Jobs and pods.

type (
	jobClient = gentype.ClientWithList[*batchv1.Job, *batchv1.JobList]
	podClient = gentype.ClientWithList[*corev1.Pod, *corev1.PodList]
)

// connection is what the namespaces of a cluster share.
type connection struct {
	batch, core  rest.Interface
	params       runtime.ParameterCodec
	makes, calls gate
}

// cluster is one namespace of a Kubernetes cluster.
type cluster struct {
	namespace string
	jobs      *jobClient
	pods      *podClient
	core      rest.Interface
	params    runtime.ParameterCodec

	makes gate // of calls that make Jobs
	calls gate // of others, but for streams
}

// Rates that a client keeps to by itself; the API server's own priority and fairness says
// more, and is obeyed.
const (
	queriesPerSecond = 500
	queriesAtOnce    = 1000
)

// connect makes the clients of a cluster; nothing is sent yet. kubeconfig is a file, or
// empty for what is usual: $KUBECONFIG, ~/.kube/config, or the service account of the pod
// that this process is in. Namespace may be empty for the one that these name; home is the
// one that it is.
func connect(kubeconfig, kubecontext, namespace string) (c *connection, home string, err error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = kubeconfig
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: kubecontext})
	config, err := loader.ClientConfig()
	if err != nil {
		return nil, "", fmt.Errorf("kubernetes: %w: %w", err, navvy.ErrInvalid)
	}
	if namespace == "" {
		if namespace, _, err = loader.Namespace(); err != nil {
			return nil, "", fmt.Errorf("kubernetes: %w: %w", err, navvy.ErrInvalid)
		}
	}
	c, err = newConnection(config)
	return c, namespace, err
}

func newConnection(config *rest.Config) (*connection, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{batchv1.AddToScheme, corev1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	metav1.AddToGroupVersion(scheme, batchv1.SchemeGroupVersion)
	base := rest.CopyConfig(config)
	base.QPS, base.Burst = queriesPerSecond, queriesAtOnce
	base.UserAgent = "navvy"
	base.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	base.ContentType = runtime.ContentTypeProtobuf
	base.Wrap(func(t http.RoundTripper) http.RoundTripper { return noting{t} })
	base.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	client, err := rest.HTTPClientFor(base)
	if err != nil {
		return nil, fmt.Errorf("kubernetes: %w: %w", err, navvy.ErrInvalid)
	}
	batch, core := rest.CopyConfig(base), rest.CopyConfig(base)
	batch.GroupVersion, batch.APIPath = &batchv1.SchemeGroupVersion, "/apis"
	core.GroupVersion, core.APIPath = &corev1.SchemeGroupVersion, "/api"
	b, err := rest.RESTClientForConfigAndClient(batch, client)
	if err != nil {
		return nil, fmt.Errorf("kubernetes: %w: %w", err, navvy.ErrInvalid)
	}
	c, err := rest.RESTClientForConfigAndClient(core, client)
	if err != nil {
		return nil, fmt.Errorf("kubernetes: %w: %w", err, navvy.ErrInvalid)
	}
	return &connection{batch: b, core: c, params: runtime.NewParameterCodec(scheme), makes: newGate(), calls: newGate()}, nil
}

// in is a namespace of the cluster.
func (c *connection) in(namespace string) *cluster {
	return &cluster{
		namespace: namespace, core: c.core, params: c.params, makes: c.makes, calls: c.calls,
		jobs: gentype.NewClientWithList("jobs", c.batch, c.params, namespace,
			func() *batchv1.Job { return new(batchv1.Job) }, func() *batchv1.JobList { return new(batchv1.JobList) },
			gentype.PrefersProtobuf[*batchv1.Job]()),
		pods: gentype.NewClientWithList("pods", c.core, c.params, namespace,
			func() *corev1.Pod { return new(corev1.Pod) }, func() *corev1.PodList { return new(corev1.PodList) },
			gentype.PrefersProtobuf[*corev1.Pod]()),
	}
}

// log opens the log of a pod's container, whose lines begin with their times. With follow it
// goes on until the container has ended.
func (c *cluster) log(ctx context.Context, pod, container string, since time.Time, follow bool) (io.ReadCloser, error) {
	o := &corev1.PodLogOptions{Container: container, Follow: follow, Timestamps: true}
	if !since.IsZero() {
		o.SinceTime = &metav1.Time{Time: since.Truncate(time.Second)}
	}
	// Whoever follows it tries again by itself, with pauses.
	return c.core.Get().Namespace(c.namespace).Resource("pods").Name(pod).SubResource("log").
		VersionedParams(o, c.params).MaxRetries(0).Stream(ctx)
}

// events are what the cluster has told about an object, as far as it still knows.
func (c *cluster) events(ctx context.Context, uid types.UID) ([]corev1.Event, error) {
	list := &corev1.EventList{}
	err := c.core.Get().Namespace(c.namespace).Resource("events").
		VersionedParams(&metav1.ListOptions{FieldSelector: "involvedObject.uid=" + string(uid), Limit: mostEvents}, c.params).Do(ctx).Into(list)
	return list.Items, err
}

// mostEvents is how many events are looked through.
const mostEvents = 100
