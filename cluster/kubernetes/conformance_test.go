package kubernetes

import (
	"context"
	"fmt"
	"net/http"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/cluster"
	"github.com/navvy-run/navvy/cluster/config"
	"github.com/navvy-run/navvy/cluster/driver"
	"github.com/navvy-run/navvy/cluster/driver/drivertest"
	"github.com/navvy-run/navvy/test/kube/kubetest"
)

const suiteSecret = "hunter2-of-the-suite"

// The suite of all providers, on a real API server with its controllers. Pods run nothing.
func TestConformance(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "runs")
	w.serve()
	api := func(format string) string { return "/api/v1/namespaces/" + w.namespace + format }
	drivertest.Run(t, &drivertest.Harness{
		Open: func(t testing.TB) driver.Driver { return w.open(t) },
		Cluster: func(t testing.TB, name string, workers int, variant string) *config.Cluster {
			c := w.described(t, name, workers)
			switch variant {
			case "b":
				c.Workers.Concurrency = 3
			case "secret":
				c.Workers.Environment["KEY"] = config.Value{Env: "ANOTHER"}
			}
			return c
		},
		Break: func(t testing.TB, name string) driver.ID {
			w.c.Admin().Must(t, http.MethodDelete, api("/services/"+name), "", nil)
			return driver.ID{Kind: "service", Name: name}
		},
		Foreign: func(t testing.TB, name string) (driver.ID, func() bool) {
			at := api("/services/" + name)
			w.c.Admin().Must(t, http.MethodPost, api("/services"), "metadata: {name: "+name+", labels: {owner: me}}\nspec: {ports: [{port: 80}]}", nil)
			var was, is struct {
				Metadata struct{ UID, ResourceVersion string }
			}
			w.c.Admin().Must(t, http.MethodGet, at, "", &was)
			t.Cleanup(func() {
				if err := w.c.Admin().Do(context.Background(), http.MethodDelete, at, "", nil); err != nil {
					t.Error(err)
				}
			})
			return driver.ID{Kind: "service", Name: name}, func() bool {
				w.c.Admin().Must(t, http.MethodGet, at, "", &is)
				return is == was
			}
		},
		Hold: w.hold,
		Another: func(_ testing.TB, c *config.Cluster) {
			c.Queue = config.Queue{Kind: config.QueueNATS, Request: "in", Response: "out", URL: &config.Value{Env: "BROKER"}}
			c.Monitor = config.Monitor{}
		},
		Left:   func(t testing.TB, name string) []string { return left(t, w.c, w.namespace, name) },
		Secret: suiteSecret, Patience: kubetest.Patience,
	})
}

// bind makes a volume for the server's claim.
func (w *world) bind(t testing.TB, name, class string) {
	t.Helper()
	admin, volume := w.c.Admin(), "/api/v1/persistentvolumes/"+w.namespace+"-"+name
	admin.Must(t, http.MethodPost, path.Dir(volume), fmt.Sprintf(`
metadata: {name: %s}
spec:
  capacity: {storage: 10Gi}
  accessModes: [ReadWriteOnce]
  storageClassName: %q
  persistentVolumeReclaimPolicy: Retain
  claimRef: {apiVersion: v1, kind: PersistentVolumeClaim, namespace: %s, name: %s}
  hostPath: {path: /nowhere, type: Directory}
`, path.Base(volume), class, w.namespace, claimName(name)), nil)
	t.Cleanup(func() {
		if err := admin.Do(context.Background(), http.MethodDelete, volume, "", nil); err != nil && !strings.Contains(err.Error(), "404") {
			t.Error(err)
		}
	})
	w.until(t, "/api/v1/namespaces/"+w.namespace+"/persistentvolumeclaims/"+claimName(name), "Bound")
}

// until waits until an object has come to a phase.
func (w *world) until(t testing.TB, path, phase string) {
	t.Helper()
	kubetest.Until(t, path+" is "+phase, func() bool {
		var is struct{ Status struct{ Phase string } }
		w.c.Admin().Must(t, http.MethodGet, path, "", &is)
		return is.Status.Phase == phase
	})
}

// hold sends a request that nobody answers, and binds the server's claim, of which it is then said,
// too, that it is lost.
func (w *world) hold(t testing.TB, name string) driver.ID {
	t.Helper()
	w.bind(t, name, "")
	conn, err := w.dial(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := client.New(conn).Messages(name).Send(t.Context(), []client.OutMessage{{Body: []byte("x")}}, client.SendOptions{}); err != nil {
		t.Fatal(err)
	}
	d := w.open(t)
	defer func() { _ = d.Close() }()
	p, err := controller(d).PlanDestroy(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	if lost := p.Lost(); !slices.ContainsFunc(lost, func(c cluster.Change) bool { return c.Kind == "persistentvolumeclaim" }) {
		t.Errorf("with a request in it, lost are only %+v", lost)
	}
	return driver.ID{Kind: kindQueue, Name: name}
}
