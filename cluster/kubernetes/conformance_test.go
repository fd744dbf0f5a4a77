package kubernetes

import (
	"context"
	"net/http"
	"testing"

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
		Left:   func(t testing.TB, name string) []string { return left(t, w.c, w.namespace, name) },
		Secret: suiteSecret, Patience: kubetest.Patience,
	})
}
