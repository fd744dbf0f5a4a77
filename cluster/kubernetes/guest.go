package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/cluster/config"
	"github.com/navvy-run/navvy/cluster/driver"
	"github.com/navvy-run/navvy/cluster/work"
)

// Guests is what the workers of a cluster have on a Kubernetes that another provider makes for
// them, beside what the file says. Its mark, lock, queues and files are that provider's.
type Guests struct {
	// Args are added to the worker's own.
	Args []string
	// Contents is of what is in its volumes: pods are replaced if it is another one.
	Contents string
	Secrets  []GuestSecret
	Volumes  []GuestVolume
	// Beside are containers beside the worker in its pod, as Kubernetes has them. They may do
	// no more than the worker.
	Beside []map[string]any
}

// GuestSecret is a Secret of which something may be known only when it is put.
type GuestSecret struct {
	Name string            // behind that of the cluster
	Data map[string]string // what is known
	Late []string          // the names of what Put is given
	// Environment has workers find it in their environment.
	Environment bool
}

// GuestVolume is a volume of the pods of workers, to be read: its source as Kubernetes has it,
// and where they find it.
type GuestVolume struct {
	Source map[string]any
	At     string // an absolute path
}

// GuestSecretName is the name of a Secret in the namespace.
func GuestSecretName(cluster, name string) string { return cluster + "-" + name }

// guestPart is what of a part only a Guest wants to know.
type guestPart struct {
	salt []byte
	late []string
}

// CompileGuests tells of what the workers consist: a ServiceAccount without rights, Secrets, and a
// Deployment. Like Compile of a driver it calls nobody; queue.url of the file must be there, and
// kubernetes.namespace. Needs are of the cluster's own mark, which is the caller's.
func CompileGuests(c *config.Cluster, salt []byte, o *Options, g *Guests) ([]driver.Resource, error) {
	d := unconnected(o)
	if err := d.check(c); err != nil {
		return nil, err
	}
	k := &compiler{d: d, c: c, salt: salt, mark: driver.ID{Kind: driver.KindCluster, Name: c.Name}}
	objects, err := k.render()
	if err != nil {
		return nil, err
	}
	if k.env, err = work.NewEnvironment(c, d.o.Getenv); err != nil {
		return nil, err
	}
	if err := k.guests(g); err != nil {
		return nil, err
	}
	if err := k.broker(); err != nil {
		return nil, err
	}
	for _, u := range objects {
		if err := k.chartObject(u); err != nil {
			return nil, err
		}
	}
	return k.list, nil
}

func (k *compiler) guests(g *Guests) error {
	for _, arg := range g.Args {
		k.pods.args = append(k.pods.args, arg)
	}
	if g.Contents != "" {
		k.pods.note("contents " + g.Contents)
	}
	for _, c := range g.Beside {
		k.pods.beside = append(k.pods.beside, c)
	}
	for i := range g.Secrets {
		if err := k.guestSecret(&g.Secrets[i]); err != nil {
			return err
		}
	}
	for i, v := range g.Volumes {
		at := path.Clean(v.At)
		for _, own := range ownPaths {
			if at == own || strings.HasPrefix(at, own+"/") || strings.HasPrefix(own, at+"/") {
				return unsupported(fmt.Sprintf("share[%d].at", i), "%s: workers have their own files in %s", v.At, own)
			}
		}
		name := fmt.Sprintf("share-%d", i)
		volume := map[string]any{"name": name}
		maps.Copy(volume, v.Source)
		k.pods.mount(volume, map[string]any{"name": name, "mountPath": at, "readOnly": true})
	}
	return nil
}

func (k *compiler) guestSecret(s *GuestSecret) error {
	u := k.object("Secret", GuestSecretName(k.c.Name, s.Name))
	data := map[string]any{}
	for name, value := range s.Data {
		data[name] = encoded(value)
	}
	u.Object["type"], u.Object["data"] = "Opaque", data
	if len(s.Late) > 0 {
		setAnnotations(u, map[string]string{annotationLate: strings.Join(s.Late, " ")})
	}
	if s.Environment {
		k.pods.envFrom = append(k.pods.envFrom, map[string]any{"secretRef": map[string]any{"name": u.GetName()}})
	}
	applied, err := sanitize(u, k.salt)
	if err != nil {
		return err
	}
	k.pods.note(u.GetName() + " " + applied)
	id := driver.ID{Kind: kindOf(u), Name: u.GetName()}
	p, err := k.add(id, u, nil)
	if err != nil {
		return err
	}
	p.guest = &guestPart{salt: k.salt, late: s.Late}
	k.made = append(k.made, id)
	return nil
}

// Late is what a Secret is given when it is put: it is in no description.
type Late struct {
	Values map[string]string
	// Of is what the values are keys of, as Observe tells it.
	Of string
}

// Guest is what workers of a cluster have on a Kubernetes that another provider has made. It may be
// used by many at once.
type Guest struct{ d *Driver }

// OpenGuest opens the Kubernetes of a kubeconfig, which is kept in memory alone, for a namespace,
// which Options have. It calls nobody yet. The error wraps navvy.ErrInvalid for a kubeconfig that is none, and
// navvy.ErrUnsupported for one that names programs or files of this machine: it comes from elsewhere.
func OpenGuest(kubeconfig []byte, o *Options) (*Guest, error) {
	all, err := clientcmd.Load(kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("kubernetes: the kubeconfig: %w: %w", err, navvy.ErrInvalid)
	}
	if err := selfContained(all); err != nil {
		return nil, err
	}
	config, err := clientcmd.NewDefaultClientConfig(*all, &clientcmd.ConfigOverrides{}).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("kubernetes: the kubeconfig: %w: %w", err, navvy.ErrInvalid)
	}
	d := unconnected(o)
	return &Guest{d}, d.connect(config)
}

func selfContained(all *clientcmdapi.Config) error {
	for _, user := range all.AuthInfos {
		if user.Exec != nil || user.AuthProvider != nil || user.ClientCertificate+user.ClientKey+user.TokenFile != "" {
			return unsupported("kubernetes", "the kubeconfig has programs or files of this machine in it; such a one has no administrator of its own")
		}
	}
	for _, c := range all.Clusters {
		if c.CertificateAuthority != "" || c.InsecureSkipTLSVerify {
			return unsupported("kubernetes", "the kubeconfig does not hold the certificate of the API server's authority")
		}
	}
	return nil
}

// Close lets go of connections.
func (g *Guest) Close() error { return g.d.Close() }

// Await waits until the API server answers: that of a new cluster may take a while to be found.
// The error, if the context ends before, says why it did not.
func (g *Guest) Await(ctx context.Context) error {
	for pauses := looks(); ; {
		var version struct{}
		err := g.d.get(ctx, "/version", &version)
		if err == nil || !errors.Is(err, navvy.ErrUnavailable) && ctx.Err() == nil {
			return err
		}
		if waited := pauses.Wait(ctx); waited != nil {
			return errors.Join(err, waited)
		}
	}
}

// Put makes a resource of CompileGuests, and the namespace if there is none.
func (g *Guest) Put(ctx context.Context, cluster string, r *driver.Resource, late Late) error {
	p, ok := r.Spec.(*part)
	if !ok {
		return fmt.Errorf("%s: it was not compiled by this provider: %w", r.ID, navvy.ErrInvalid)
	}
	if err := g.d.makeNamespace(ctx, cluster, p.object.GetNamespace()); err != nil {
		return named(r.ID, err)
	}
	own := *p
	own.object = p.object.DeepCopy()
	switch {
	case p.guest != nil && len(p.guest.late) > 0:
		if err := fillIn(&own, late); err != nil {
			return named(r.ID, err)
		}
	case r.Kind == "deployment":
		keys, err := g.keys(ctx, cluster)
		if err == nil && keys != "" {
			err = unstructured.SetNestedField(own.object.Object, keys, "spec", "template", "metadata", "annotations", annotationKeys)
		}
		if err != nil {
			return named(r.ID, err)
		}
	}
	return named(r.ID, g.d.put(ctx, cluster, &own, r.ID))
}

// fillIn gives a Secret what is late.
func fillIn(p *part, late Late) error {
	data, _, err := unstructured.NestedMap(p.object.Object, "data")
	if err != nil {
		return err
	}
	for _, name := range p.guest.late {
		if late.Values[name] == "" {
			return fmt.Errorf("nobody gives it %s: %w", name, navvy.ErrNotFound)
		}
		data[name] = encoded(late.Values[name])
	}
	p.object.Object["data"] = data
	setAnnotations(p.object, map[string]string{annotationKeys: lateSum(data, p.guest.late, p.guest.salt), annotationOf: late.Of})
	return nil
}

// lateSum tells whether what is late is the same.
func lateSum(data map[string]any, names []string, salt []byte) string {
	var all strings.Builder
	for _, name := range slices.Sorted(slices.Values(names)) {
		fmt.Fprintf(&all, "%q=%q\n", name, data[name])
	}
	return driver.Secret(salt, []byte(all.String()))
}

// keys is a digest of what was given late to all Secrets of a cluster; empty if nothing was. Pods
// bear it, so that they are replaced with it.
func (g *Guest) keys(ctx context.Context, cluster string) (string, error) {
	v := &view{Driver: g.d, cluster: cluster, namespace: g.d.o.Namespace}
	if err := v.list(ctx); err != nil {
		return "", err
	}
	return v.keys(), nil
}

func (v *view) keys() string {
	var all []string
	for i := range v.objects {
		if sum := v.objects[i].GetAnnotations()[annotationKeys]; sum != "" && v.objects[i].GetKind() == "Secret" {
			all = append(all, v.objects[i].GetName()+" "+sum)
		}
	}
	if len(all) == 0 {
		return ""
	}
	slices.Sort(all)
	return shortSum([]byte(strings.Join(all, "\n")))
}

// GuestObserved is a resource of a Guest's that there is.
type GuestObserved struct {
	driver.Observed
	Of string // what the keys in it are of
}

// Observe tells what there is of a cluster's workers. The salt is the cluster's.
func (g *Guest) Observe(ctx context.Context, cluster string, salt []byte) ([]GuestObserved, error) {
	v := &view{Driver: g.d, cluster: cluster, namespace: g.d.o.Namespace, salt: salt}
	if err := v.list(ctx); err != nil {
		return nil, err
	}
	var all []GuestObserved
	for i := range v.objects {
		u := &v.objects[i]
		o, err := v.observe(ctx, u)
		if err != nil {
			return nil, err
		}
		v.lateDrift(u, o)
		all = append(all, GuestObserved{*o, u.GetAnnotations()[annotationOf]})
	}
	return all, nil
}

// lateDrift finds what was given late and is another one by now: in a Secret, or in pods that
// have one of before.
func (v *view) lateDrift(u *unstructured.Unstructured, o *driver.Observed) {
	switch late := u.GetAnnotations()[annotationLate]; {
	case u.GetKind() == "Secret" && late != "":
		data, _, _ := unstructured.NestedMap(u.Object, "data")
		if lateSum(data, strings.Fields(late), v.salt) != u.GetAnnotations()[annotationKeys] {
			o.Properties[propertyObject] = "changed: data"
		}
	case u.GetKind() == "Deployment":
		is, _, _ := unstructured.NestedString(u.Object, "spec", "template", "metadata", "annotations", annotationKeys)
		if is != v.keys() {
			o.Properties[propertyObject] = "changed: keys"
		}
	}
}

// Remove removes a resource that Observe told of; nil for one that is gone.
func (g *Guest) Remove(ctx context.Context, cluster string, o *driver.Observed) error {
	u, ok := o.Handle.(*unstructured.Unstructured)
	if !ok {
		return fmt.Errorf("%s: it was not observed by this provider: %w", o.ID, navvy.ErrInvalid)
	}
	return named(o.ID, g.d.remove(ctx, cluster, u, o.ID))
}

// labelAzure is on the namespaces that AKS makes by itself.
const labelAzure = "kubernetes.azure.com/managedby"

// Others is something on the cluster that is neither Kubernetes' own nor a cluster's of navvy's of that name:
// a namespace, or a pod in the one that is always there; empty for nothing.
func (g *Guest) Others(ctx context.Context, cluster string) (string, error) {
	list, err := g.d.client.Resource(namespaces).List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", g.d.explain(err)
	}
	for i := range list.Items {
		u := &list.Items[i]
		switch name := u.GetName(); {
		case u.GetLabels()[labelCluster] == cluster, u.GetLabels()[labelAzure] != "", strings.HasPrefix(name, "kube-"), strings.HasPrefix(name, "gatekeeper-"):
		case name != "default":
			return "the namespace " + name, nil
		default:
			pods, err := g.d.client.Resource(podsOf).Namespace(name).List(ctx, metav1.ListOptions{})
			if err != nil {
				return "", g.d.explain(err)
			}
			if len(pods.Items) > 0 {
				return "the pod " + pods.Items[0].GetName() + " in the namespace " + name, nil
			}
		}
	}
	return "", nil
}
