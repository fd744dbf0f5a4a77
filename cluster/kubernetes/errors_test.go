package kubernetes

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/cluster"
	"github.com/navvy-run/navvy/cluster/config"
	"github.com/navvy-run/navvy/cluster/driver"
	"github.com/navvy-run/navvy/test/kube/kubetest"
)

// wantError checks that an error is of a kind, and says what is needed to do something about it.
func wantError(t *testing.T, what string, err, kind error, words ...string) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Errorf("%s: %v, want %v", what, err, kind)
		return
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%s: there is no %q in %v", what, word, err)
		}
	}
}

func controller(d *Driver) *cluster.Controller {
	return cluster.New(d, &cluster.Options{Who: "errors", Lose: true, Wait: kubetest.Patience})
}

// Where there is no cluster, no context of that name, or nobody answers, that is said.
func TestNoKubernetes(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("KUBECONFIG", filepath.Join(dir, "none"))
	t.Setenv("HOME", dir)
	_, err := New(nil)
	wantError(t, "no kubeconfig", err, navvy.ErrInvalid, "KUBECONFIG")
	file := filepath.Join(dir, "kubeconfig")
	text := `{apiVersion: v1, kind: Config, current-context: here, clusters: [{name: c, cluster: {server: "http://127.0.0.1:9"}}], contexts: [{name: here, context: {cluster: c, user: ""}}]}`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = New(&Options{Kubeconfig: file, Context: "there"})
	wantError(t, "no such context", err, navvy.ErrInvalid, "kubernetes.context", "there", "here")
	d, err := New(&Options{Kubeconfig: file})
	if err != nil {
		t.Fatal(err)
	}
	_, err = d.Clusters(t.Context())
	wantError(t, "nobody answers", err, navvy.ErrUnavailable, "http://127.0.0.1:9", "context")
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

// What the provider cannot do is refused before anything is made, by the key of the file.
func TestRefused(t *testing.T) {
	t.Parallel()
	d := &Driver{o: Options{CheckService: func(string) error { return nil }, CheckQueue: func(string, string) error { return nil }, Getenv: func(string) string { return "nats://h" }}}
	for key, change := range map[string]func(*config.Cluster){
		"service.up_timeout": func(c *config.Cluster) { c.Service.UpTimeout = config.Duration(time.Minute) },
		"service.package":    func(c *config.Cluster) { c.Service.Package = "./programs" },
		"workers.autoscale": func(c *config.Cluster) {
			c.Queue, c.Monitor = config.Queue{Kind: config.QueueNATS, Request: "a", Response: "b", URL: &config.Value{Env: "X"}}, config.Monitor{}
			c.Workers.Autoscale = &config.Autoscale{Max: 3}
		},
		"workers.autoscale.min": func(c *config.Cluster) {
			c.Workers.Autoscale, c.Kubernetes.Scaler = &config.Autoscale{Max: 3}, config.ScalerHPA
		},
		"monitor.kind": func(c *config.Cluster) {
			c.Queue = config.Queue{Kind: config.QueueNATS, Request: "a", Response: "b", URL: &config.Value{Env: "X"}}
		},
		"share[0]: at":   func(c *config.Cluster) { c.Share = []config.Share{{From: "testdata/share", At: "/tmp/data"}} },
		"share[0]: from": func(c *config.Cluster) { c.Share = []config.Share{{From: "/dev/zero", At: "/data"}} },
	} {
		c := (&world{namespace: "space"}).described(t, "refused", 1)
		change(c)
		_, err := d.Compile(t.Context(), c, []byte("0123456789abcdef"))
		wantError(t, key, err, navvy.ErrUnsupported, key)
	}
}

// What a cluster refuses is told in its words: rights, quotas, images, a scaler that is not there.
func TestCluster(t *testing.T) {
	t.Parallel()
	t.Run("rights", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "runs")
		d, err := New(&Options{Kubeconfig: w.c.User(t, "nobody-"+w.namespace), Namespace: w.namespace})
		if err != nil {
			t.Fatal(err)
		}
		_, err = controller(d).Apply(t.Context(), w.described(t, "denied", 1))
		wantError(t, "no rights", err, navvy.ErrDenied, "cannot create resource", "leases", w.namespace)
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Run("quota", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "runs")
		w.c.Admin().Must(t, http.MethodPost, "/api/v1/namespaces/"+w.namespace+"/resourcequotas", `{metadata: {name: few}, spec: {hard: {pods: "0"}}}`, nil)
		kubetest.Until(t, "the quota counts", func() bool {
			var q struct {
				Status struct{ Hard map[string]string }
			}
			return w.c.Admin().Do(t.Context(), http.MethodGet, "/api/v1/namespaces/"+w.namespace+"/resourcequotas/few", "", &q) == nil && q.Status.Hard["pods"] == "0"
		})
		w.fails(t, w.answering(t, "full"), navvy.ErrExhausted, "exceeded quota", "deployment full-worker")
	})
	t.Run("image", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "image")
		w.fails(t, w.described(t, "imageless", 1), navvy.ErrUnavailable, "ImagePullBackOff", "the registry says no", "statefulset imageless-server")
	})
	t.Run("keda", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "runs")
		w.serve()
		c := w.described(t, "scaled", 0)
		c.Workers.Autoscale = &config.Autoscale{Max: 3}
		w.fails(t, parsed(t, c), navvy.ErrUnsupported, "KEDA", "kubernetes.scaler: hpa", "triggerauthentication scaled-viewer")
	})
}

// fails applies a cluster that cannot be made, checks what is said, also by its status, and
// removes it.
func (w *world) fails(t *testing.T, c *config.Cluster, kind error, words ...string) {
	t.Helper()
	d := w.open(t)
	_, err := controller(d).Apply(t.Context(), c)
	wantError(t, c.Name, err, kind, words...)
	if s, err := controller(d).Status(t.Context(), c.Name); err != nil || s.Health() == driver.HealthOK && kind != navvy.ErrUnsupported { //nolint:errorlint // it is the very one
		t.Errorf("its status is %+v, %v", s, err)
	}
	if _, err := controller(d).Destroy(t.Context(), c.Name); err != nil {
		t.Error(err)
	}
	if l := left(t, w.c, w.namespace, c.Name); len(l) > 0 {
		t.Errorf("there is left %q", l)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}
