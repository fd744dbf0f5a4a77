package kubernetes

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/navvy-run/navvy/cluster/config"
)

// replicas is how many workers a cluster is to have, by its Deployment.
func (w *world) replicas(t testing.TB, name string) int {
	t.Helper()
	var is struct{ Spec struct{ Replicas int } }
	w.c.Admin().Must(t, http.MethodGet, w.deployment(name), "", &is)
	return is.Spec.Replicas
}

func (w *world) deployment(name string) string {
	return "/apis/apps/v1/namespaces/" + w.namespace + "/deployments/" + workersName(name)
}

// scale does what a scaler does.
func (w *world) scale(t testing.TB, name string, n int) {
	t.Helper()
	w.c.Admin().Must(t, http.MethodPatch, w.deployment(name)+"/scale", fmt.Sprintf("{spec: {replicas: %d}}", n), nil)
}

// restless is a scaler that is there for as long as its HorizontalPodAutoscaler, and scales the
// workers whenever they are changed. It keeps how many they were to be after each change.
type restless struct {
	w     *world
	t     *testing.T
	name  string
	wants int

	mu   sync.Mutex
	seen []int
}

func (s *restless) around(next http.RoundTripper) http.RoundTripper {
	return roundTrip(func(r *http.Request) (*http.Response, error) {
		answer, err := next.RoundTrip(r)
		if err != nil || r.Method != http.MethodPatch || !strings.HasSuffix(r.URL.Path, s.w.deployment(s.name)) {
			return answer, err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.seen = append(s.seen, s.w.replicas(s.t, s.name))
		scaler := "/apis/autoscaling/v2/namespaces/" + s.w.namespace + "/horizontalpodautoscalers/" + workersName(s.name)
		if s.wants > 0 && s.w.c.Admin().Do(s.t.Context(), http.MethodGet, scaler, "", nil) == nil {
			s.w.scale(s.t, s.name, s.wants)
		}
		return answer, err
	})
}

// From a fixed number of workers to a scaler none are taken away, and what the scaler says is left
// alone; on the way back it has not the last word.
func TestScaler(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "runs")
	w.serve()
	s := &restless{w: w, t: t, name: "scales"}
	d := w.open(t, s.around)
	fixed := func(n int) *config.Cluster { return w.described(t, s.name, n) }
	scaled := fixed(0)
	scaled.Workers.Autoscale, scaled.Kubernetes.Scaler = &config.Autoscale{Min: 1, Max: 5}, config.ScalerHPA
	scaled = parsed(t, scaled)

	w.same(t, d, fixed(3))
	w.same(t, d, scaled)
	if s.mu.Lock(); len(s.seen) == 0 || slices.ContainsFunc(s.seen, func(n int) bool { return n != 3 }) {
		t.Errorf("of 3 workers, with a scaler there were %d", s.seen)
	}
	s.mu.Unlock()
	w.scale(t, s.name, 4)
	scaled.Workers.Concurrency = 2 // the Deployment is applied
	w.same(t, d, scaled)
	if n := w.replicas(t, s.name); n != 4 {
		t.Errorf("the scaler wants 4, and there are %d", n)
	}
	s.mu.Lock()
	s.wants = 5
	s.mu.Unlock()
	w.same(t, d, fixed(2))
	if n := w.replicas(t, s.name); n != 2 {
		t.Errorf("of 2 there are %d", n)
	}
	w.same(t, d, scaled) // and once more
	if n := w.replicas(t, s.name); n != 2 && n != 5 {
		t.Errorf("of 2, with a scaler that wants 5, there are %d", n)
	}
	if _, err := controller(d).Destroy(t.Context(), s.name); err != nil {
		t.Error(err)
	}
}

// What an object was created with goes when a file has it no more, like what was applied.
func TestCreatedFieldsGo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "runs")
	d := w.open(t)
	c := w.answering(t, "fields")
	w.same(t, d, c)
	c.Share = nil
	c.Service.Command = "/bin/true"
	w.same(t, d, c)
	var is struct {
		Metadata struct {
			ManagedFields []struct{ Manager, Operation string }
		}
		Spec struct {
			Template struct {
				Spec struct {
					Volumes    []struct{ Name string }
					Containers []struct{ VolumeMounts []struct{ Name string } }
				}
			}
		}
	}
	w.c.Admin().Must(t, http.MethodGet, w.deployment("fields"), "", &is)
	if text, _ := json.Marshal(is.Spec); strings.Contains(string(text), "share-0") {
		t.Errorf("what is shared no more is in %s", text)
	}
	for _, m := range is.Metadata.ManagedFields {
		if m.Manager == manager && m.Operation != "Apply" {
			t.Errorf("its fields are owned as %+v", m)
		}
	}
	if _, err := controller(d).Destroy(t.Context(), "fields"); err != nil {
		t.Error(err)
	}
}
