package kubernetes

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/cluster/config"
	"github.com/navvy-run/navvy/cluster/driver"
	"github.com/navvy-run/navvy/cluster/work"
	"github.com/navvy-run/navvy/deploy/monitor"
)

// part is what a driver.Resource of this provider has as its Spec.
type part struct {
	object  *unstructured.Unstructured
	applied string      // what of it is kept, see sanitize
	queue   *navvy.Spec // of a queue on the server
	guest   *guestPart  // of a Guest's
}

// compiler makes resources of a file.
type compiler struct {
	d    *Driver
	c    *config.Cluster
	salt []byte
	list []driver.Resource

	mark driver.ID
	made []driver.ID // what the next ones need
	env  *work.Environment
	pods podChange // what else the pods of workers have
}

// Compile implements driver.Driver. It reads the files that are shared, to know what is in them.
func (d *Driver) Compile(_ context.Context, c *config.Cluster, salt []byte) ([]driver.Resource, error) {
	if err := d.check(c); err != nil {
		return nil, err
	}
	k := &compiler{d: d, c: c, salt: salt, mark: driver.ID{Kind: driver.KindCluster, Name: c.Name}}
	for _, step := range []func() error{k.cluster, k.chart, k.monitor} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return k.list, nil
}

// check refuses what this provider cannot do.
func (d *Driver) check(c *config.Cluster) error {
	if c.Kubernetes == nil {
		return fmt.Errorf("kubernetes: it is missing: config.Defaults makes it: %w", navvy.ErrInvalid)
	}
	if err := config.ValidateName(c.Name); err != nil {
		return fmt.Errorf("name: %w", err)
	}
	if !c.Queue.Kind.Server() {
		if err := checkServerless(c); err != nil {
			return err
		}
	}
	if err := d.checkService(c); err != nil {
		return err
	}
	return checkWorkers(c)
}

func checkWorkers(c *config.Cluster) error {
	w := &c.Workers
	switch {
	case c.Monitor.Kind != config.MonitorNone && c.Monitor.Kind != config.MonitorPrometheus:
		return unsupported("monitor.kind", "the provider kubernetes has prometheus, not %s", c.Monitor.Kind)
	case w.Autoscale != nil && c.Kubernetes.Scaler == config.ScalerHPA && w.Autoscale.Min < 1:
		return unsupported("workers.autoscale.min", "a HorizontalPodAutoscaler does not scale to none: write 1 or more, or kubernetes.scaler: keda")
	case w.Image == "":
		return fmt.Errorf("workers.image: it is missing: %w", navvy.ErrInvalid)
	case w.Count < 0:
		return fmt.Errorf("workers.count: %d, want 0 or more: %w", w.Count, navvy.ErrInvalid)
	}
	if err := navvy.ValidateLabels(w.Labels); err != nil {
		return fmt.Errorf("workers.labels: %w", err)
	}
	return nil
}

func (d *Driver) checkService(c *config.Cluster) error {
	const upTime = 30 * time.Second
	if c.Service.UpTimeout != 0 && time.Duration(c.Service.UpTimeout) != upTime {
		return unsupported("service.up_timeout", "workers wait %s for a service; leave it out", upTime)
	}
	if _, err := navvy.ParsePackage(c.Service.Package); c.Service.Package != "" && err != nil {
		return unsupported("service.package", "%s: on kubernetes it is NAME@VERSION of a package on the server; put the program into the image, or share it", c.Service.Package)
	}
	if err := d.o.CheckService(c.Service.Form()); err != nil {
		return fmt.Errorf("service: %w", err)
	}
	return nil
}

// checkServerless refuses what only a navvy server has.
func checkServerless(c *config.Cluster) error {
	switch {
	case c.Service.Package != "":
		return unsupported("service.package", "%s: without a navvy server there is none; put the program into the image, or share it", c.Service.Package)
	case c.Monitor.Kind != config.MonitorNone:
		return unsupported("monitor.kind", "with queue.kind %s there is no navvy server that Prometheus could ask; watch the broker itself", c.Queue.Kind)
	case c.Workers.Autoscale != nil:
		return unsupported("workers.autoscale", "with queue.kind %s there is no navvy server that says how much waits; write workers.count", c.Queue.Kind)
	case len(c.Workers.Labels) > 0:
		return unsupported("workers.labels", "without a navvy server (queue.kind navvy) nobody asks for them; leave them out")
	}
	return nil
}

// add adds an object as a resource, with the labels and annotations that it bears.
func (k *compiler) add(id driver.ID, u *unstructured.Unstructured, more driver.Properties, needs ...driver.ID) (*part, error) {
	if id != k.mark {
		needs = append([]driver.ID{k.mark}, needs...)
	}
	text, err := json.Marshal(needs)
	if err != nil {
		return nil, err
	}
	setLabels(u, map[string]string{labelManaged: managed, labelInstance: k.c.Name, labelCluster: k.c.Name, labelKind: id.Kind})
	setAnnotations(u, map[string]string{annotationName: id.Name, annotationNeeds: string(text)})
	applied, err := sanitize(u, k.salt)
	if err != nil {
		return nil, err
	}
	p := properties(u)
	p[propertyObject] = shortSum([]byte(applied))
	maps.Copy(p, more)
	part := &part{object: u, applied: applied}
	k.list = append(k.list, driver.Resource{ID: id, Needs: needs, Properties: p, Spec: part})
	return part, nil
}

// later adds an object that what comes behind it needs.
func (k *compiler) later(id driver.ID, u *unstructured.Unstructured, needs ...driver.ID) error {
	_, err := k.add(id, u, nil, needs...)
	k.made = append(k.made, id)
	return err
}

// object begins an object of the cluster's.
func (k *compiler) object(kind, name string) *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: map[string]any{}}
	gvr := resources[kind]
	u.SetAPIVersion(gvr.GroupVersion().String())
	u.SetKind(kind)
	u.SetName(name)
	u.SetNamespace(k.c.Kubernetes.Namespace)
	setLabels(u, map[string]string{"app.kubernetes.io/name": "navvy", "app.kubernetes.io/part-of": "navvy"})
	return u
}

// Keys of the mark.
const (
	keyConfig = "cluster.json"
	keySalt   = "salt"
)

func (k *compiler) cluster() error {
	text := compact(config.Encode(work.Absolute(k.c)))
	u := k.object("ConfigMap", markName(k.c.Name))
	u.Object["data"] = map[string]any{keyConfig: string(text), keySalt: base64.StdEncoding.EncodeToString(k.salt)}
	_, err := k.add(k.mark, u, driver.Properties{"namespace": u.GetNamespace(), "file": shortSum(text)})
	return err
}

func compact(text []byte) []byte {
	var b bytes.Buffer
	if json.Compact(&b, text) != nil {
		return text
	}
	return b.Bytes()
}

// chart adds what the chart has, in the order in which it is made.
func (k *compiler) chart() error {
	objects, err := k.render()
	if err != nil {
		return err
	}
	if k.env, err = work.NewEnvironment(k.c, k.d.o.Getenv); err != nil {
		return err
	}
	if err := k.shares(); err != nil {
		return err
	}
	if !k.c.Queue.Kind.Server() {
		if err := k.broker(); err != nil {
			return err
		}
	}
	for _, u := range objects {
		if err := k.chartObject(u); err != nil {
			return err
		}
	}
	return nil
}

func (k *compiler) chartObject(u *unstructured.Unstructured) error {
	id := driver.ID{Kind: kindOf(u), Name: u.GetName()}
	switch u.GetKind() {
	case "StatefulSet":
		if err := k.server(u); err != nil {
			return err
		}
		if err := k.later(id, u, slices.Clone(k.made)...); err != nil {
			return err
		}
		return k.ownQueue(id)
	case "Deployment":
		if err := k.workers(u); err != nil {
			return err
		}
		return k.later(id, u, slices.Clone(k.made)...)
	case "HorizontalPodAutoscaler", "ScaledObject":
		if err := k.scaling(u); err != nil {
			return err
		}
		return k.later(id, u, slices.Clone(k.made)...)
	case "RoleBinding":
		return k.later(id, u, driver.ID{Kind: "role", Name: u.GetName()})
	case "TriggerAuthentication": // it reads the Secret
		return k.later(id, u, driver.ID{Kind: "secret", Name: viewerName(k.c.Name)})
	}
	return k.later(id, u)
}

// ownQueue is the queue of the cluster's server, whose service workers are sent.
func (k *compiler) ownQueue(server driver.ID) error {
	spec, err := work.Spec(k.c, k.env, nil, navvy.Limits{})
	if err != nil {
		return err
	}
	name := k.c.Queue.Request
	u := k.object("ConfigMap", k.c.Name+"-queue-"+shortName(name))
	u.Object["data"] = map[string]any{"queue": name}
	var all, plain []string
	for _, pair := range k.env.Pairs {
		variable, _, _ := strings.Cut(pair, "=")
		if all = append(all, variable); k.env.Plain(variable) {
			plain = append(plain, variable)
		}
	}
	setAnnotations(u, map[string]string{annotationVariables: strings.Join(all, " "), annotationPlain: strings.Join(plain, " ")})
	id := driver.ID{Kind: kindQueue, Name: name}
	p, err := k.add(id, u, work.QueueProperties(spec, k.env.Plain, k.salt), server)
	if err != nil {
		return err
	}
	p.queue = spec
	k.made = append(k.made, id)
	return nil
}

// broker is a Secret with the URLs of a broker's queues, and one with what else may be secret.
func (k *compiler) broker() error {
	if k.c.Queue.URL == nil {
		return fmt.Errorf("queue.url: the provider kubernetes makes no broker: say where the one of kind %s is: %w", k.c.Queue.Kind, navvy.ErrInvalid)
	}
	base, err := work.Resolve(k.c, "queue.url", k.c.Queue.URL, k.d.o.Getenv)
	if err != nil {
		return err
	}
	variables := map[string]any{}
	for _, pair := range k.env.Pairs {
		name, value, _ := strings.Cut(pair, "=")
		variables[name] = encoded(value)
	}
	urls := map[string]any{}
	for side, name := range map[string]string{"requests": k.c.Queue.Request, "responses": k.c.Queue.Response} {
		b, err := work.NewBroker(k.c.Queue.Kind, base, name)
		if err == nil {
			err = k.d.o.CheckQueue(b.URL, b.Connection)
		}
		if err != nil {
			return fmt.Errorf("queue.url: %w", err)
		}
		urls[side] = encoded(b.URL)
		if b.Variable != "" {
			variables[b.Variable] = encoded(b.Connection)
		}
	}
	for i, name := range []string{queueSecret(k.c.Name), variablesName(k.c.Name)} {
		u := k.object("Secret", name)
		u.Object["type"], u.Object["data"] = "Opaque", []map[string]any{urls, variables}[i]
		applied, err := sanitize(u, k.salt)
		if err != nil {
			return err
		}
		k.pods.note(name + " " + applied)
		if err := k.later(driver.ID{Kind: "secret", Name: name}, u); err != nil {
			return err
		}
	}
	return nil
}

func encoded(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }

func (k *compiler) monitor() error {
	if k.c.Monitor.Kind != config.MonitorPrometheus {
		return nil
	}
	data := map[string]any{}
	for _, f := range monitor.KubernetesFiles(k.c.Name, k.c.Kubernetes.Namespace) {
		data[f.Name] = string(f.Text)
	}
	u := k.object("ConfigMap", monitorName(k.c.Name))
	u.Object["data"] = data
	_, err := k.add(driver.ID{Kind: kindMonitor, Name: "prometheus"}, u, nil)
	return err
}
