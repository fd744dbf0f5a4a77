package kubernetes

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/navvy-run/navvy/cluster/config"
	"github.com/navvy-run/navvy/internal/holder"
	"github.com/navvy-run/navvy/runner/service"
	"github.com/navvy-run/navvy/test/kube/kubetest"
)

func TestMain(m *testing.M) { kubetest.Main(m) }

// world is a namespace of a real API server, whose pods are there and run nothing, unless fate
// says otherwise. What would be the server in one of them is a real one on this machine.
type world struct {
	t         testing.TB
	c         *kubetest.Cluster
	namespace string
	data      string // of the server
	fate      string // of pods
}

func newWorld(t *testing.T, fate string) *world {
	t.Helper()
	c := kubetest.Open(t)
	w := &world{t: t, c: c, namespace: c.Namespace(t), data: filepath.Join(t.TempDir(), "server")}
	c.KwokNodes(t, 1)
	w.fate = fate
	return w
}

// dress has pods run on a node of kwok's, without the scheduler, which would wait for a volume:
// there is nobody who makes one.
func (w *world) dress(_ string, template map[string]any) {
	put(template, map[string]any{
		"metadata": map[string]any{"labels": map[string]any{kubetest.Fate: w.fate}}, "spec": map[string]any{"nodeName": "kwok-0"},
	})
}

// serve starts a navvy server that all clusters of the world take for their own.
func (w *world) serve() {
	w.t.Helper()
	cmd := exec.Command(w.c.Navvy(w.t), "server", "--data", w.data, "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--health", "127.0.0.1:0")
	var said bytes.Buffer
	cmd.Stderr = &said
	cmd.Env = append(os.Environ(), "HOME="+filepath.Dir(w.data), "XDG_CONFIG_HOME="+filepath.Dir(w.data))
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if w.t.Failed() {
			w.t.Log(said.String())
		}
	})
	kubetest.Until(w.t, "the server serves", func() bool {
		ctx, cancel := context.WithTimeout(w.t.Context(), time.Second)
		defer cancel()
		conn, err := w.dial(ctx, "", "")
		return err == nil && conn.Close() == nil
	})
}

func (w *world) dial(ctx context.Context, _, _ string) (*grpc.ClientConn, error) {
	dir, err := holder.OpenDir(w.data)
	if err != nil {
		return nil, err
	}
	return dir.Dial(ctx)
}

// open opens a driver, through whatever else goes around its calls.
func (w *world) open(t testing.TB, around ...func(http.RoundTripper) http.RoundTripper) *Driver {
	t.Helper()
	return w.openAs(t, w.c.Admin().Kubeconfig, around...)
}

// blind opens a driver as somebody who has all rights that it takes, but none on KEDA's kinds.
func (w *world) blind(t testing.TB) *Driver {
	t.Helper()
	user, all := "blind-"+w.namespace, []string{"get", "list", "create", "update", "patch", "delete", "bind", "escalate"}
	rights := map[string][]string{"/pods": all, "/events": all, "batch/jobs": all, "coordination.k8s.io/leases": all}
	for _, gvr := range resources {
		if gvr.Group != kedaGroup {
			rights[gvr.Group+"/"+gvr.Resource] = all
		}
	}
	w.c.Grant(t, w.namespace, user, rights)
	return w.openAs(t, w.c.User(t, user))
}

func (w *world) openAs(t testing.TB, kubeconfig string, around ...func(http.RoundTripper) http.RoundTripper) *Driver {
	t.Helper()
	d, err := New(&Options{
		Kubeconfig: kubeconfig, Namespace: w.namespace, CheckService: service.Check,
		Getenv: func(name string) string {
			return map[string]string{"SECRET": suiteSecret, "ANOTHER": "another-one", "BROKER": "nats://user:pass-of-the-broker@nats.queues:4222"}[name]
		},
		Wrap: func(t http.RoundTripper) http.RoundTripper {
			for _, a := range around {
				t = a(t)
			}
			return &dressing{next: t, dress: w.dress}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	d.dial, d.margin = w.dial, time.Second
	return d
}

// dressing puts more into the pod templates that are applied: nodes to run on, names of hosts.
type dressing struct {
	next  http.RoundTripper
	dress func(name string, template map[string]any)
}

func (d *dressing) CloseIdleConnections() {
	if c, ok := d.next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

func (d *dressing) RoundTrip(r *http.Request) (*http.Response, error) {
	made := r.Method == http.MethodPost
	if !made && r.Header.Get("Content-Type") != string(types.ApplyPatchType) || !strings.Contains(r.URL.Path, "/apis/apps/v1/") {
		return d.next.RoundTrip(r)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	var object map[string]any
	if err := json.Unmarshal(body, &object); err != nil {
		return nil, err
	}
	if template, is := object["spec"].(map[string]any)["template"].(map[string]any); is {
		d.dress(object["metadata"].(map[string]any)["name"].(string), template)
	}
	if body, err = json.Marshal(object); err != nil {
		return nil, err
	}
	r = r.Clone(r.Context())
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	return d.next.RoundTrip(r)
}

// put merges into an object what it has not.
func put(object, more map[string]any) {
	for key, v := range more {
		there, is := object[key].(map[string]any)
		if values, ok := v.(map[string]any); ok && is {
			put(there, values)
		} else {
			object[key] = v
		}
	}
}

// left lists what bears the mark of a cluster, or is called by its name, found without the driver.
func left(t testing.TB, c *kubetest.Cluster, namespace, name string) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), kubetest.Patience)
	defer cancel()
	var list []string
	for kind, gvr := range resources {
		if gvr.Group == kedaGroup {
			continue
		}
		list = append(list, bearing(ctx, t, c, namespace, kind, gvr, name)...)
	}
	for kind, gvr := range map[string]schema.GroupVersionResource{"Lease": leases, "Pod": podsOf} {
		list = append(list, bearing(ctx, t, c, namespace, kind, gvr, name)...)
	}
	return list
}

func bearing(ctx context.Context, t testing.TB, c *kubetest.Cluster, namespace, kind string, gvr schema.GroupVersionResource, name string) (list []string) {
	t.Helper()
	var found struct {
		Items []struct {
			Metadata struct {
				Name   string
				Labels map[string]string
			}
		}
	}
	at := "/apis/" + gvr.GroupVersion().String()
	if gvr.Group == "" {
		at = "/api/v1"
	}
	if err := c.Admin().Do(ctx, http.MethodGet, at+"/namespaces/"+namespace+"/"+gvr.Resource, "", &found); err != nil {
		t.Error(err)
	}
	for _, o := range found.Items {
		l := o.Metadata.Labels
		if slices.Contains([]string{l[labelCluster], l[labelLock], l[labelInstance]}, name) {
			list = append(list, kind+" "+o.Metadata.Name)
		}
	}
	return list
}

// described is a cluster with a server, as config.Parse returns it.
func (w *world) described(t testing.TB, name string, workers int) *config.Cluster {
	t.Helper()
	return parsed(t, &config.Cluster{
		Version: config.Version, Name: name, Provider: config.ProviderKubernetes,
		Queue:      config.Queue{Kind: config.QueueNavvy, Request: name}, // one server has the queues of all
		Service:    config.Service{Kind: config.ServiceEcho},
		Monitor:    config.Monitor{Kind: config.MonitorPrometheus},
		Workers:    config.Workers{Count: workers, Image: "local.test/navvy:1", Environment: map[string]config.Value{"KEY": {Env: "SECRET"}, "MODE": {Text: "fast"}}},
		Kubernetes: &config.Kubernetes{Namespace: w.namespace},
	})
}

// answering is a cluster without a server, whose workers answer what a broker has.
func (w *world) answering(t testing.TB, name string) *config.Cluster {
	t.Helper()
	return parsed(t, &config.Cluster{
		Version: config.Version, Name: name, Provider: config.ProviderKubernetes, Dir: "testdata",
		Queue:      config.Queue{Kind: config.QueueNATS, URL: &config.Value{Env: "BROKER"}},
		Share:      []config.Share{{From: "share", At: "/data"}},
		Service:    config.Service{Kind: config.ServiceCGI, Command: "/data/answer"},
		Workers:    config.Workers{Count: 1, Image: "local.test/navvy:1", CPUs: "0.5", Memory: "64M", Environment: map[string]config.Value{"KEY": {Env: "SECRET"}}},
		Kubernetes: &config.Kubernetes{Namespace: w.namespace},
	})
}

func parsed(t testing.TB, c *config.Cluster) *config.Cluster {
	t.Helper()
	c = config.Defaults(c)
	if err := config.Validate(c); err != nil {
		t.Fatal(err)
	}
	return c
}
