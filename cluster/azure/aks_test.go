package azure

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/cluster"
	"github.com/navvy-run/navvy/cluster/config"
	"github.com/navvy-run/navvy/cluster/driver"
	"github.com/navvy-run/navvy/cluster/driver/drivertest"
	"github.com/navvy-run/navvy/test/kube/kubetest"
)

// aksWorld is a cloud whose AKS clusters are all one real API server: each sees there the
// namespaces of its own cluster. Pods are there and run nothing.
type aksWorld struct {
	*cloud
	kube      *kubetest.Cluster
	strangers atomic.Pointer[string] // a namespace of somebody else's that AKS clusters see
	fault     func(n int64) error    // asked before each call of an API server
	calls     atomic.Int64
}

func newAKSWorld(t *testing.T) *aksWorld {
	t.Helper()
	w := &aksWorld{cloud: newCloud(), kube: kubetest.Open(t)}
	w.kube.KwokNodes(t, 1)
	file, err := clientcmd.LoadFromFile(w.kube.Admin().Kubeconfig)
	if err == nil {
		err = clientcmdapi.FlattenConfig(file)
	}
	if err != nil {
		t.Fatal(err)
	}
	if w.kubeconfig, err = clientcmd.Write(*file); err != nil {
		t.Fatal(err)
	}
	w.ended = func(name string) { // as the namespaces go with their cluster
		for id, thing := range w.resources {
			if thing.kind == typeAKS && thing.name == name && strings.Contains(id, "/") {
				w.drop(t, namespaceOf(tagOf(thing.tags, tagCluster)))
			}
		}
	}
	return w
}

func (w *aksWorld) drop(t testing.TB, namespace string) {
	ctx, cancel := context.WithTimeout(context.Background(), kubetest.Patience)
	defer cancel()
	if err := w.kube.Admin().Do(ctx, http.MethodDelete, "/api/v1/namespaces/"+namespace, "", nil); err != nil && !strings.Contains(err.Error(), "404") {
		t.Errorf("namespace %s: %v", namespace, err)
	}
}

func (w *aksWorld) open(t testing.TB) *Driver {
	t.Helper()
	d := w.driver(t)
	d.wrap = func(next http.RoundTripper) http.RoundTripper { return &aksTransport{next, w} }
	return d
}

// aksTransport is the way to an API server: it has pods run on a node of kwok's, and hides what
// is another AKS cluster's.
type aksTransport struct {
	next http.RoundTripper
	w    *aksWorld
}

func (a *aksTransport) CloseIdleConnections() {
	if c, ok := a.next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

func (a *aksTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if n := a.w.calls.Add(1); a.w.fault != nil {
		if err := a.w.fault(n); err != nil {
			return nil, err
		}
	}
	switch {
	case r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/deployments"),
		r.Header.Get("Content-Type") == "application/apply-patch+yaml" && strings.Contains(r.URL.Path, "/deployments/"):
		if err := change(&r.Body, &r.ContentLength, func(o map[string]any) {
			template, _ := at(o, "spec", "template").(map[string]any)
			if template == nil {
				return
			}
			template["metadata"].(map[string]any)["labels"].(map[string]any)[kubetest.Fate] = "runs"
			template["spec"].(map[string]any)["nodeName"] = "kwok-0"
		}); err != nil {
			return nil, err
		}
	case r.Method == http.MethodGet && r.URL.Path == "/api/v1/namespaces":
		resp, err := a.next.RoundTrip(r)
		if err != nil {
			return nil, err
		}
		return resp, change(&resp.Body, &resp.ContentLength, func(o map[string]any) {
			items, _ := o["items"].([]any)
			o["items"] = slices.DeleteFunc(items, func(v any) bool {
				name, stranger := text(at(v, "metadata", "name")), a.w.strangers.Load()
				return name != "default" && !strings.HasPrefix(name, "kube-") && (stranger == nil || name != *stranger)
			})
		})
	}
	return a.next.RoundTrip(r)
}

// change changes an object on its way.
func change(body *io.ReadCloser, length *int64, do func(map[string]any)) error {
	text, err := io.ReadAll(*body)
	if err != nil {
		return err
	}
	_ = (*body).Close()
	var o map[string]any
	if err := json.Unmarshal(text, &o); err != nil {
		return err
	}
	do(o)
	text, err = json.Marshal(o)
	*body, *length = io.NopCloser(bytes.NewReader(text)), int64(len(text))
	return err
}

// aksCluster is example on an AKS cluster.
func aksCluster(t testing.TB, name string) *config.Cluster {
	t.Helper()
	c := example(t)
	c.Name, c.Workers.Labels, c.Azure.Compute = name, nil, config.ComputeAKS
	c.Share = append(c.Share, config.Share{At: "/theirs", Files: &config.AzureFiles{Account: "lake", Share: "models", Key: &config.Value{Env: "SECRET"}}})
	return c
}

// The suite of all providers, with the workers on a real API server.
func TestConformanceAKS(t *testing.T) {
	t.Parallel()
	w := newAKSWorld(t)
	// Deployments take a while, as Azure's do: whoever makes the resource group at the same time
	// has done so before the mark is on it.
	w.slow = 10
	h := harnessOf(w.cloud, config.QueueServiceBus)
	h.Open = func(t testing.TB) driver.Driver {
		d := w.open(t)
		d.o.Poll = 5 * time.Millisecond
		d.o.Getenv = suiteEnv
		return d
	}
	h.Cluster = func(t testing.TB, name string, workers int, variant string) *config.Cluster {
		c := suiteCluster(t, config.QueueServiceBus, name, workers, variant)
		c.Azure.Compute = config.ComputeAKS
		return config.Defaults(c)
	}
	h.Break = func(t testing.TB, name string) driver.ID {
		w.kube.Admin().Must(t, http.MethodDelete, deploymentPath(name), "", nil)
		return driver.ID{Kind: kindDeployment, Name: deploymentName(name)}
	}
	h.Patience = kubetest.Patience
	drivertest.Run(t, h)
}

func deploymentPath(cluster string) string {
	return "/apis/apps/v1/namespaces/" + namespaceOf(cluster) + "/deployments/" + deploymentName(cluster)
}

// What the workers have on the API server, looked at without the driver.
func TestAKSWorkers(t *testing.T) {
	t.Parallel()
	w := newAKSWorld(t)
	d, c := w.open(t), aksCluster(t, "aks-workers")
	for range 2 {
		if err := apply(t.Context(), d, c); err != nil {
			t.Fatal(err)
		}
		if diff := difference(t, d, c); diff != "" {
			t.Fatal(diff)
		}
	}
	w.checkPods(t, c)
	own := d.names(c.Name, groupName(c))
	for name, want := range map[string]map[string]string{
		"keys":        {varBus: busConnection, varInsights: "InstrumentationKey=" + testKey},
		"queue":       {"requests": "azservicebus:///requests", "responses": "azservicebus:///responses"},
		"environment": {"MODE": "fast", "NONE": "", "TOKEN": "geheim", varEndpoint: endpoint, varProtocol: "http/protobuf", varName: c.Name},
		"share-0":     {keyAccount: own.support(), keyKey: testKey},
		"share-1":     {keyAccount: "lake", keyKey: "geheim"},
	} {
		if got := w.secret(t, c.Name, name); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("the secret %s has %v, want %v", name, got, want)
		}
	}
	if err := destroy(t.Context(), d, c.Name); err != nil {
		t.Fatal(err)
	}
	if left := w.left(groupName(c)); len(left) > 0 || len(w.groups) > 0 {
		t.Errorf("left: %v, %v", left, w.groups)
	}
}

// checkPods looks at what the pods of workers are to be.
func (w *aksWorld) checkPods(t *testing.T, c *config.Cluster) {
	t.Helper()
	var deployment any
	w.kube.Admin().Must(t, http.MethodGet, deploymentPath(c.Name), "", &deployment)
	pod := at(deployment, "spec", "template", "spec")
	if n := at(deployment, "spec", "replicas"); n != 2.0 {
		t.Errorf("replicas %v", n)
	}
	args := fmt.Sprint(at(pod, "containers", 0, "args"))
	for _, want := range []string{"--service=lines:/data/score --fast", "--jobs=4", "--lease=1m30s", "--attempts=7", "--timeout=1m", "--must-exist"} {
		if !strings.Contains(args, want) {
			t.Errorf("a worker has %s, want %s", args, want)
		}
	}
	beside := at(pod, "containers", 1)
	if text(at(beside, "image")) != DefaultCollector || at(beside, "env", 2, "valueFrom", "secretKeyRef", "name") != c.Name+"-keys" ||
		at(beside, "securityContext", "readOnlyRootFilesystem") != true {
		t.Errorf("beside the worker is %v", beside)
	}
	mounts := map[string]any{}
	for _, v := range elements(at(pod, "containers", 0, "volumeMounts")) {
		mounts[text(at(v, "mountPath"))] = at(v, "name")
	}
	for i, path := range []string{"/data", "/theirs"} {
		name, secret := fmt.Sprintf("share-%d", i), c.Name+fmt.Sprintf("-share-%d", i)
		if mounts[path] != name {
			t.Errorf("at %s there is %v", path, mounts[path])
		}
		for _, v := range elements(at(pod, "volumes")) {
			if at(v, "name") == name && (at(v, "csi", "driver") != "file.csi.azure.com" || at(v, "csi", "readOnly") != true || at(v, "csi", "volumeAttributes", "secretName") != secret) {
				t.Errorf("%s: %v", name, v)
			}
		}
	}
}

func (w *aksWorld) secret(t testing.TB, cluster, name string) map[string]string {
	t.Helper()
	var secret struct{ Data map[string][]byte }
	w.kube.Admin().Must(t, http.MethodGet, "/api/v1/namespaces/"+namespaceOf(cluster)+"/secrets/"+cluster+"-"+name, "", &secret)
	data := map[string]string{}
	for key, value := range secret.Data {
		data[key] = string(value)
	}
	return data
}

// Whose namespace was removed gets other keys, and workers that have them.
func TestAKSKeys(t *testing.T) {
	t.Parallel()
	w := newAKSWorld(t)
	d, c := w.open(t), aksCluster(t, "aks-keys")
	c.Workers.Count = 1
	if err := apply(t.Context(), d, c); err != nil {
		t.Fatal(err)
	}
	template := func() string {
		var deployment any
		w.kube.Admin().Must(t, http.MethodGet, deploymentPath(c.Name), "", &deployment)
		return text(at(deployment, "spec", "template", "metadata", "annotations", "navvy.run/keys"))
	}
	before := template()
	unwell := func() (all []string) {
		world, err := d.Observe(t.Context(), c.Name)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range world.Resources {
			if r.Health != driver.HealthOK {
				all = append(all, r.String())
			}
		}
		return all
	}
	namespace := w.find(t, "/namespaces/"+d.names(c.Name, groupName(c)).namespace())
	w.mu.Lock()
	w.vanish(strings.ToLower(namespace.id))
	w.mu.Unlock()
	if got := unwell(); !slices.Equal(got, []string{"secret aks-keys-keys", "deployment aks-keys-worker"}) {
		t.Errorf("without the namespace %v are not well", got)
	}
	if err := apply(t.Context(), d, c); err != nil {
		t.Fatal(err)
	}
	if diff := difference(t, d, c); diff != "" || len(unwell()) > 0 {
		t.Errorf("%s, %v", diff, unwell())
	}
	// Somebody changes a key by hand: it is seen, and put right.
	path := "/api/v1/namespaces/" + namespaceOf(c.Name) + "/secrets/" + c.Name + "-keys"
	w.kube.Admin().Must(t, http.MethodPatch, path, `{data: {`+varBus+`: bm9uZQ==}}`, nil)
	if diff := difference(t, d, c); !strings.Contains(diff, "changed: data") {
		t.Errorf("got %s", diff)
	}
	if err := apply(t.Context(), d, c); err != nil {
		t.Fatal(err)
	}
	if got := w.secret(t, c.Name, "keys")[varBus]; got != busConnection {
		t.Errorf("got %s", got)
	}
	if before == "" || template() != before {
		t.Errorf("pods have %q, before %q: the keys are the same", template(), before)
	}
	if err := destroy(t.Context(), d, c.Name); err != nil {
		t.Fatal(err)
	}
}

// An AKS cluster that others use stays; one that does not answer is unknown, and can be removed.
func TestAKSOthers(t *testing.T) {
	t.Parallel()
	w := newAKSWorld(t)
	d, c := w.open(t), aksCluster(t, "aks-others")
	c.Workers.Count = 0
	if err := apply(t.Context(), d, c); err != nil {
		t.Fatal(err)
	}
	stranger := w.kube.Namespace(t)
	w.strangers.Store(&stranger)
	if err := destroy(t.Context(), d, c.Name); !errors.Is(err, navvy.ErrConflict) || !strings.Contains(err.Error(), "namespace "+stranger) {
		t.Errorf("got %v", err)
	}
	w.strangers.Store(nil)
	config := w.kubeconfig
	w.kubeconfig = nil
	world, err := d.Observe(t.Context(), c.Name)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range world.Resources {
		if r.Kind == kindDeployment && r.Health != driver.HealthUnknown || r.Kind == kindAKS && r.Holds == "" {
			t.Errorf("%+v", r)
		}
	}
	if err := apply(t.Context(), d, c); err == nil {
		t.Error("workers are put where nobody answers")
	}
	w.kubeconfig = config
	if err := apply(t.Context(), d, c); err != nil {
		t.Fatal(err)
	}
	w.kubeconfig = nil
	if err := destroy(t.Context(), d, c.Name); err != nil {
		t.Error(err)
	}
	if len(w.groups)+len(w.resources) > 0 {
		t.Errorf("left: %v", w.resources)
	}
}

// Calls of Azure's and of the API server's fail in turn, every second one; once more, and all is as
// it should be.
func TestAKSFaults(t *testing.T) {
	t.Parallel()
	broken := &net.OpError{Op: "read", Err: errors.New("reset")}
	for i, name := range []string{"azure apply", "azure destroy", "kubernetes apply", "kubernetes destroy"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newAKSWorld(t)
			where, do, _ := strings.Cut(name, " ")
			n := int64(1 + i%2)
			for w.faultAt(t, where, do, broken, n) {
				n += 2
			}
			t.Logf("%d calls", n)
		})
	}
}

func (w *aksWorld) faultAt(t *testing.T, where, do string, broken error, i int64) (reached bool) {
	t.Helper()
	// A namespace takes its time to go, and each name has one of its own.
	d, c := w.open(t), aksCluster(t, fmt.Sprintf("aks-%s-%s-%d", where[:2], do[:2], i))
	c.Workers.Count, c.Monitor = 0, config.Monitor{}
	run := func() error { return apply(t.Context(), d, c) }
	if do == "destroy" {
		if err := run(); err != nil {
			t.Fatal(err)
		}
		run = func() error { return destroy(t.Context(), d, c.Name) }
	}
	w.cloud.calls = nil
	w.calls.Store(0)
	if where == "azure" {
		w.cloud.fault = func(_ string, n int) *fault {
			if n == int(i) {
				reached = true
				return &fault{status: 403, code: "AuthorizationFailed"}
			}
			return nil
		}
	} else {
		w.fault = func(n int64) error {
			if n == i {
				reached = true
				return broken
			}
			return nil
		}
	}
	err := run()
	w.cloud.fault, w.fault = nil, nil
	if err != nil && strings.Contains(err.Error(), testKey) {
		t.Errorf("%s: call %d: the error has a key in it: %v", do, i, err)
	}
	w.expire()
	if err := run(); err != nil {
		t.Errorf("%s: %s: call %d: once more: %v", where, do, i, err)
	}
	if do == "apply" {
		if diff := difference(t, d, c); diff != "" {
			t.Errorf("%s: call %d: once more leaves a difference: %s", where, i, diff)
		}
		if err := destroy(t.Context(), d, c.Name); err != nil {
			t.Error(err)
		}
	}
	if len(w.groups)+len(w.resources) != 0 {
		t.Errorf("%s: %s: call %d: left: %v", where, do, i, w.resources)
	}
	return reached
}

// Who changes azure.compute has the new workers made and the old ones removed, and nothing else.
func TestAKSInPlaceOfACI(t *testing.T) {
	t.Parallel()
	w := newAKSWorld(t)
	d, c := w.open(t), aksCluster(t, "aks-instead")
	c.Workers.Count = 1
	for _, compute := range []string{config.ComputeACI, config.ComputeAKS, config.ComputeACI} {
		c.Azure.Compute = compute
		if _, err := cluster.New(d, nil).Apply(t.Context(), c); err != nil {
			t.Fatalf("%s: %v", compute, err)
		}
		kinds := map[string]int{}
		w.mu.Lock()
		for _, thing := range w.resources {
			kinds[thing.kind]++
		}
		w.mu.Unlock()
		want := map[string]int{config.ComputeACI: kinds[typeGroup], config.ComputeAKS: kinds[typeAKS]}
		if want[compute] != 1 || kinds[typeGroup]+kinds[typeAKS] != 1 || kinds[typeCollection] != kinds[typeAKS] || kinds[typeNamespace] != 1 {
			t.Errorf("with %s there are %v", compute, kinds)
		}
	}
	if err := destroy(t.Context(), d, c.Name); err != nil {
		t.Fatal(err)
	}
}
