package kubernetes

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/cluster/driver"
	"github.com/navvy-run/navvy/cluster/work"
)

// marks finds the marks of clusters.
const marks = labelCluster + "," + labelKind + "=" + driver.KindCluster

// everywhere lists objects: of the namespace of the file, or of all; of that of the context if all
// may not be listed.
func (d *Driver) everywhere(ctx context.Context, gvr schema.GroupVersionResource, selector string) ([]unstructured.Unstructured, error) {
	list := func(namespace string) ([]unstructured.Unstructured, error) {
		l, err := d.client.Resource(gvr).Namespace(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
		if err != nil {
			return nil, d.explain(err)
		}
		return l.Items, nil
	}
	if d.o.Namespace != "" {
		return list(d.o.Namespace)
	}
	items, err := list("")
	if errors.Is(err, navvy.ErrDenied) {
		return list(d.home)
	}
	return items, err
}

// Clusters implements driver.Driver.
func (d *Driver) Clusters(ctx context.Context) ([]string, error) {
	items, err := d.everywhere(ctx, configMaps, marks)
	if err != nil {
		return nil, err
	}
	names := map[string]bool{}
	for i := range items {
		names[items[i].GetLabels()[labelCluster]] = true
	}
	return slices.Sorted(maps.Keys(names)), nil
}

// place is the namespace of a cluster; empty if there is none of that name, and no file that
// says where it is to be.
func (d *Driver) place(ctx context.Context, cluster string) (string, error) {
	if d.o.Namespace != "" {
		return d.o.Namespace, nil
	}
	items, err := d.everywhere(ctx, configMaps, marks+","+selector(cluster))
	if err == nil && len(items) == 0 {
		items, err = d.remains(ctx, cluster)
	}
	if err != nil || len(items) == 0 {
		return "", err
	}
	var spaces []string
	for i := range items {
		spaces = append(spaces, cmp.Or(items[i].GetNamespace(), items[i].GetName()))
	}
	slices.Sort(spaces)
	if spaces = slices.Compact(spaces); len(spaces) > 1 {
		return "", fmt.Errorf("there is one in each of the namespaces %s: say which by its file, with -f: %w", strings.Join(spaces, ", "), navvy.ErrConflict)
	}
	return spaces[0], nil
}

// remains finds what is left of a cluster without its mark: the namespace that was made for it, its
// lock, or what runs and holds data.
func (d *Driver) remains(ctx context.Context, cluster string) ([]unstructured.Unstructured, error) {
	all, err := d.client.Resource(namespaces).List(ctx, metav1.ListOptions{LabelSelector: selector(cluster)})
	if err != nil && !apierrors.IsForbidden(err) {
		return nil, d.explain(err)
	}
	var found []unstructured.Unstructured
	if err == nil {
		found = slices.DeleteFunc(all.Items, func(u unstructured.Unstructured) bool { return u.GetDeletionTimestamp() != nil })
	}
	for gvr, selector := range map[schema.GroupVersionResource]string{
		leases: labelLock + "=" + cluster, resources["StatefulSet"]: selector(cluster),
		resources["Deployment"]: selector(cluster), resources["PersistentVolumeClaim"]: selector(cluster),
	} {
		more, err := d.everywhere(ctx, gvr, selector)
		if err != nil && !errors.Is(err, navvy.ErrDenied) {
			return nil, err
		}
		found = append(found, more...)
	}
	return found, nil
}

// view is what is seen of a cluster at once.
type view struct {
	*Driver
	cluster, namespace string
	salt               []byte
	objects            []unstructured.Unstructured
	hidden             map[string]error // kinds of KEDA's that cannot be listed, and why
	// Of the server, if there is one and it answers: away says why it does not.
	away   error
	queues map[string]client.Queue
}

// Observe implements driver.Driver.
func (d *Driver) Observe(ctx context.Context, cluster string) (*driver.World, error) {
	namespace, err := d.place(ctx, cluster)
	if err != nil || namespace == "" {
		return &driver.World{}, err
	}
	v := &view{Driver: d, cluster: cluster, namespace: namespace}
	if err := v.list(ctx); err != nil {
		return nil, err
	}
	w := &driver.World{}
	if i := slices.IndexFunc(v.objects, func(u unstructured.Unstructured) bool { return u.GetName() == markName(cluster) }); i >= 0 {
		data, _, _ := unstructured.NestedStringMap(v.objects[i].Object, "data")
		if config := data[keyConfig]; config != "" {
			w.Config = []byte(config)
		}
		v.salt, _ = base64.StdEncoding.DecodeString(data[keySalt]) // what is not ours is no salt
		w.Salt = v.salt
	}
	if v.find("StatefulSet", serverName(cluster)) != nil {
		v.ask(ctx)
	}
	for i := range v.objects {
		o, err := v.observe(ctx, &v.objects[i])
		if err != nil {
			return nil, err
		}
		w.Resources = append(w.Resources, *o)
	}
	w.Resources = append(w.Resources, v.unseen(w.Config)...)
	return w, nil
}

func (v *view) find(kind, name string) *unstructured.Unstructured {
	for i := range v.objects {
		if u := &v.objects[i]; u.GetKind() == kind && u.GetName() == name {
			return u
		}
	}
	return nil
}

// list lists all that bears the mark, but for what others make of it: KEDA makes autoscalers with
// the labels of its objects, and they go with these.
func (v *view) list(ctx context.Context) error {
	kinds := slices.Sorted(maps.Keys(resources))
	found := make([][]unstructured.Unstructured, len(kinds))
	var mu sync.Mutex // of hidden
	v.hidden = map[string]error{}
	all, ctx := errgroup.WithContext(ctx)
	for i, kind := range kinds {
		all.Go(func() error {
			list, err := v.client.Resource(resources[kind]).Namespace(v.namespace).List(ctx, metav1.ListOptions{LabelSelector: selector(v.cluster)})
			if resources[kind].Group == kedaGroup && (apierrors.IsNotFound(err) || apierrors.IsForbidden(err)) {
				mu.Lock()
				defer mu.Unlock()
				v.hidden[kind] = v.explain(err)
				return nil
			}
			if err != nil {
				return v.explain(err)
			}
			for j := range list.Items {
				list.Items[j].SetKind(kind)
			}
			found[i] = slices.DeleteFunc(list.Items, func(u unstructured.Unstructured) bool { return metav1.GetControllerOf(&u) != nil })
			return nil
		})
	}
	err := all.Wait()
	v.objects = slices.Concat(found...)
	return err
}

// ask asks the server what is in its queues.
func (v *view) ask(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lookLength)
	defer cancel()
	v.queues = map[string]client.Queue{}
	v.away = v.withServer(ctx, v.namespace, v.cluster, func(c *client.Client) error {
		for q, err := range c.Queues(ctx) {
			if err != nil {
				return err
			}
			v.queues[q.Name] = q
		}
		return nil
	})
}

// observe tells how an object is.
func (v *view) observe(ctx context.Context, u *unstructured.Unstructured) (*driver.Observed, error) {
	o := &driver.Observed{ID: idOf(u), Properties: properties(u), Health: driver.HealthOK, Handle: u}
	if text := u.GetAnnotations()[annotationNeeds]; text != "" {
		_ = json.Unmarshal([]byte(text), &o.Needs) // what is not ours needs nothing
	}
	applied, where := drift(u, v.salt)
	o.Properties[propertyObject] = shortSum([]byte(applied))
	if !setsReplicas(applied) { // an autoscaler does
		delete(o.Properties, propertyReplicas)
	}
	if where != "" {
		o.Properties[propertyObject] = "changed: " + where
	}
	switch {
	case o.Kind == driver.KindCluster:
		text, _, _ := unstructured.NestedString(u.Object, "data", keyConfig)
		o.Properties["namespace"], o.Properties["file"] = u.GetNamespace(), shortSum([]byte(text))
	case o.Kind == kindQueue:
		v.observeQueue(u, o)
	case u.GetKind() == "PersistentVolumeClaim":
		v.observeClaim(u, o)
	case u.GetKind() == "StatefulSet", u.GetKind() == "Deployment":
		h, err := v.look(ctx, u)
		if err != nil {
			return nil, v.explain(err)
		}
		h.observe(o)
		if u.GetKind() == "StatefulSet" && o.Health == driver.HealthOK {
			o.Detail = fmt.Sprintf("kubectl --namespace %s exec -it %s --container server -- navvy …", v.namespace, podName(v.cluster))
		}
	}
	if u.GetDeletionTimestamp() != nil {
		o.Health, o.Detail = driver.HealthFailed, "it is being removed"
	}
	return o, nil
}

// phaseLost is that of a claim whose volume was removed. The server may have it mounted still.
const phaseLost = "Lost"

// lostVolume says of a claim that its volume was removed.
func lostVolume(u *unstructured.Unstructured) string {
	volume, _, _ := unstructured.NestedString(u.Object, "spec", "volumeName")
	return "the volume " + volume + " was removed, and the claim is Lost"
}

// observeClaim tells what is lost with the server's data: all that is in its queues, whoever has
// made them.
func (v *view) observeClaim(u *unstructured.Unstructured, o *driver.Observed) {
	phase, _, _ := unstructured.NestedString(u.Object, "status", "phase")
	o.Detail = "volume: " + cmp.Or(phase, "none yet")
	if phase == phaseLost {
		o.Health, o.Detail = driver.HealthFailed, lostVolume(u)
	}
	switch {
	case phase != "Bound" && phase != phaseLost: // there is nothing in it
	case v.away != nil || v.queues == nil:
		o.Holds = work.Unknown
	default:
		o.Holds = work.Held(v.queues)
	}
}

// observeQueue tells what the server says of a queue.
func (v *view) observeQueue(u *unstructured.Unstructured, o *driver.Observed) {
	object := o.Properties[propertyObject]
	if v.queues == nil {
		o.Health, o.Detail = driver.HealthFailed, "there is no server"
		return
	}
	if v.away != nil {
		o.Health, o.Detail, o.Holds = driver.HealthUnknown, v.away.Error(), work.Unknown
		return
	}
	q, there := v.queues[o.Name]
	if !there || !q.Has {
		o.Properties = work.QueueProperties(nil, nil, nil)
		o.Properties["paused"], o.Properties[propertyObject] = "", object
		o.Health, o.Detail = driver.HealthFailed, "its settings were removed"
		return
	}
	plain := strings.Fields(u.GetAnnotations()[annotationPlain])
	o.Properties = work.QueueProperties(q.Settings.Work, func(name string) bool { return slices.Contains(plain, name) }, v.salt)
	o.Properties[propertyObject] = object
	for name := range strings.FieldsSeq(u.GetAnnotations()[annotationVariables]) {
		if _, there := o.Properties["environment."+name]; !there {
			o.Properties["environment."+name] = ""
		}
	}
	if q.Settings.Paused {
		o.Properties["paused"] = "yes"
	}
	o.Detail, o.Holds = work.Contents(&q), work.Holds(&q)
}

// Gauge implements driver.Gauger. What is in the queues of a broker only the broker knows.
func (d *Driver) Gauge(ctx context.Context, cluster string) (*driver.Gauges, error) {
	namespace, err := d.place(ctx, cluster)
	if err != nil {
		return nil, err
	}
	list, err := d.client.Resource(configMaps).Namespace(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector(cluster)})
	if err != nil {
		return nil, d.explain(err)
	}
	ours := map[string]bool{}
	for i := range list.Items {
		if id := idOf(&list.Items[i]); id.Kind == kindQueue {
			ours[id.Name] = true
		}
	}
	g := &driver.Gauges{}
	if len(ours) == 0 {
		return g, nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookLength)
	defer cancel()
	err = d.withServer(ctx, namespace, cluster, func(c *client.Client) error { return gauge(ctx, c, ours, g) })
	slices.SortFunc(g.Workers, func(a, b driver.WorkerGauge) int { return strings.Compare(a.Name, b.Name) })
	if err != nil {
		return nil, fmt.Errorf("cluster %s: %w: %w", cluster, err, navvy.ErrUnavailable)
	}
	return g, nil
}

func gauge(ctx context.Context, c *client.Client, ours map[string]bool, g *driver.Gauges) error {
	for q, err := range c.Queues(ctx) {
		if err != nil {
			return err
		}
		if ours[q.Name] {
			g.Queues = append(g.Queues, driver.QueueGauge{Name: q.Name, Waiting: q.Waiting, Running: q.Running, Answers: q.Answers, Dead: q.DeadLetters, Rate: q.AnsweredRate})
		}
	}
	fleet, err := c.Fleet(ctx)
	for i := range fleet {
		w := &fleet[i]
		g.Workers = append(g.Workers, driver.WorkerGauge{Name: w.Name, State: w.State, Slots: w.Slots, Busy: int(w.Running)})
	}
	return err
}
