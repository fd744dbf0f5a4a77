package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/cluster"
	"github.com/navvy-run/navvy/cluster/config"
	"github.com/navvy-run/navvy/cluster/driver"
	"github.com/navvy-run/navvy/runner/service"
	"github.com/navvy-run/navvy/test/kube/kubetest"
)

// image makes navvy's own image and gives it to the node.
func image(t *testing.T, c *kubetest.Cluster) string {
	t.Helper()
	const ref = "local.test/navvy-cluster:test"
	path := filepath.Join(t.TempDir(), "image.tar")
	cmd := exec.Command("../../scripts/image.sh", path)
	cmd.Env = append(os.Environ(), "IMAGE="+ref, "IMAGE_ARCH="+runtime.GOARCH, "VERSION=test")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	c.Import(t, path)
	return ref
}

// life is a cluster on the real node. No Service has an address there: pods find the API server,
// and workers their server, by what their pods are told.
type life struct {
	t    *testing.T
	c    *kubetest.Cluster
	name string
	*Driver
}

func (l *life) dress(name string, template map[string]any) {
	spec := template["spec"].(map[string]any)
	for _, v := range spec["containers"].([]any) {
		container := v.(map[string]any)
		env, _ := container["env"].([]any)
		container["env"] = append(env, map[string]any{"name": "KUBERNETES_SERVICE_HOST", "value": kubetest.NodeIP}, map[string]any{"name": "KUBERNETES_SERVICE_PORT", "value": "6443"})
	}
	if name == l.name+"-worker" {
		var pod struct{ Status struct{ PodIP string } }
		l.c.Admin().Must(l.t, http.MethodGet, "/api/v1/namespaces/"+l.name+"/pods/"+podName(l.name), "", &pod)
		spec["hostAliases"] = []any{map[string]any{"ip": pod.Status.PodIP, "hostnames": []any{l.name + "." + l.name + ".svc"}}}
	}
}

// volume makes a volume for the server's claim: there is nobody here who does.
func (l *life) volume() {
	dir := l.t.TempDir()
	for _, path := range []string{dir, filepath.Dir(dir)} { // the pod is not root
		if err := os.Chmod(path, 0o777); err != nil {
			l.t.Fatal(err)
		}
	}
	l.c.Admin().Must(l.t, http.MethodPost, "/api/v1/persistentvolumes", fmt.Sprintf(`
metadata: {name: volume-%[1]s}
spec:
  capacity: {storage: 10Gi}
  accessModes: [ReadWriteOnce]
  persistentVolumeReclaimPolicy: Retain
  claimRef: {apiVersion: v1, kind: PersistentVolumeClaim, namespace: %[1]s, name: %[2]s}
  hostPath: {path: %[3]s, type: Directory}
`, l.name, claimName(l.name), dir), nil)
	l.t.Cleanup(func() {
		if err := l.c.Admin().Do(context.Background(), http.MethodDelete, "/api/v1/persistentvolumes/volume-"+l.name, "", nil); err != nil {
			l.t.Error(err)
		}
	})
}

// ready waits until so many workers have joined, and no others are there.
func (l *life) ready(n int) {
	l.t.Helper()
	kubetest.Until(l.t, fmt.Sprintf("%d workers are ready", n), func() bool {
		g, err := l.Gauge(l.t.Context(), l.name)
		if err != nil {
			return false
		}
		live := 0
		for _, w := range g.Workers {
			if w.State == "ready" {
				live++
			}
		}
		return live == n
	})
}

// send sends requests.
func (l *life) send(requests ...string) {
	l.t.Helper()
	var list []client.OutMessage
	for _, text := range requests {
		list = append(list, client.OutMessage{Body: []byte(text)})
	}
	err := l.withServer(l.t.Context(), l.name, l.name, func(c *client.Client) error {
		_, err := c.Messages("requests").Send(l.t.Context(), list, client.SendOptions{})
		return err
	})
	if err != nil {
		l.t.Fatal(err)
	}
}

// answers are so many that come back.
func (l *life) answers(n int) (got []string) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), kubetest.Patience)
	defer cancel()
	err := l.withServer(ctx, l.name, l.name, func(c *client.Client) error {
		q := c.Messages("requests")
		for len(got) < n {
			more, err := q.Receive(ctx, client.ReceiveOptions{Max: n, Wait: 5 * time.Second})
			if err != nil {
				return err
			}
			for i := range more {
				got = append(got, string(more[i].Body))
				if err := q.Ack(ctx, more[i].Receipt); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		l.t.Fatalf("%d of %d: %v", len(got), n, err)
	}
	slices.Sort(got)
	return got
}

// filledIn is the file that navvy cluster init prints, with the image filled in, for a small node.
func filledIn(t *testing.T, name, image string) *config.Cluster {
	t.Helper()
	text, err := config.Template(config.ProviderKubernetes)
	if err != nil {
		t.Fatal(err)
	}
	file := strings.NewReplacer("name: navvy\n", "name: "+name+"\n", "registry.example/navvy:1.0", image, "cpus: 1\n", "cpus: 0.1\n").Replace(string(text))
	c, err := config.Read("cluster.yaml", []byte(file), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return config.Defaults(c)
}

// newLife opens a driver for a cluster of that name, and makes its volume.
func newLife(t *testing.T, name string) *life {
	t.Helper()
	l := &life{t: t, c: kubetest.Open(t), name: name}
	l.volume()
	var err error
	l.Driver, err = New(&Options{
		Kubeconfig: l.c.Admin().Kubeconfig, Namespace: l.name, CheckService: service.Check,
		Wrap: func(next http.RoundTripper) http.RoundTripper { return &dressing{next: next, dress: l.dress} },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(words(t, l.c, l.name))
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// control is a controller that tells the test what it does.
func (l *life) control() *cluster.Controller {
	return cluster.New(l.Driver, &cluster.Options{Who: "life", Wait: kubetest.Patience, Tell: func(e cluster.Event) {
		if e.Phase != cluster.Begun {
			l.t.Logf("%s %s: %s after %s %v", e.Change.Action, e.Change.ID, e.Phase, e.Took, e.Err)
		}
	}})
}

// A whole cluster on a real node, in a namespace that is made for it: it answers, is scaled, is
// mended, holds what nobody has taken, and leaves nothing.
func TestLife(t *testing.T) {
	t.Parallel()
	l := newLife(t, "life")
	want, control, ctx := filledIn(t, l.name, image(t, l.c)), l.control(), t.Context()
	if _, err := control.Apply(ctx, want); err != nil {
		t.Fatal(err)
	}
	l.ready(2)
	var requests []string
	for i := range 20 {
		requests = append(requests, fmt.Sprintf("request %02d", i))
	}
	l.send(requests...)
	if got := l.answers(len(requests)); !slices.Equal(got, requests) {
		t.Errorf("the answers are %q", got)
	}
	s, err := control.Status(ctx, l.name)
	if err != nil || s.Health() != driver.HealthOK || s.GaugesErr != nil {
		t.Errorf("its status is %+v, %v", s, err)
	} else if q := s.Gauges.Queues; len(q) != 1 || q[0].Rate <= 0 {
		t.Errorf("after %d answers the gauges are %+v", len(requests), q)
	}
	if _, err := control.Scale(ctx, l.name, 1); err != nil {
		t.Fatal(err)
	}
	l.ready(1)
	want.Workers.Count = 1
	l.drifts(control, want)
	l.ends(control)
}

// drifts changes what there is behind the driver's back, and has it mended.
func (l *life) drifts(control *cluster.Controller, want *config.Cluster) {
	l.t.Helper()
	workers, admin := "/apis/apps/v1/namespaces/life/deployments/life-worker", l.c.Admin()
	admin.Must(l.t, http.MethodPatch, workers, `{spec: {replicas: 0}}`, nil)
	admin.Must(l.t, http.MethodDelete, "/api/v1/namespaces/life/services/life", "", nil)
	p, err := control.Plan(l.t.Context(), want)
	var seen []string
	if err == nil {
		for i := range p.Changes {
			seen = append(seen, fmt.Sprintf("%s %s %+v", p.Changes[i].Action, p.Changes[i].ID, p.Changes[i].Differences))
		}
	}
	if text := strings.Join(seen, "\n"); err != nil || len(seen) != 2 || !strings.Contains(text, "{Key:replicas Is:0 Want:1}") || !strings.Contains(text, "changed: spec.replicas") {
		l.t.Errorf("what was changed by hand is seen as %s, %v", text, err)
	}
	if _, err := control.Apply(l.t.Context(), want); err != nil {
		l.t.Fatal(err)
	}
	if p, err := control.Plan(l.t.Context(), want); err != nil || !p.Empty() {
		l.t.Errorf("there is still to do: %+v, %v", p, err)
	}
	l.ready(1)
}

// ends removes the cluster, though not with what nobody has taken.
func (l *life) ends(control *cluster.Controller) {
	l.t.Helper()
	ctx := l.t.Context()
	l.send("nobody takes it")
	_, err := control.Destroy(ctx, l.name)
	if lose, is := errors.AsType[*cluster.LoseError](err); !is || len(lose.Lost) != 2 {
		l.t.Errorf("with an answer in it: %v", err)
	}
	losing := cluster.New(l.Driver, &cluster.Options{Who: "life", Lose: true})
	begun := time.Now()
	if _, err := losing.Destroy(ctx, l.name); err != nil {
		l.t.Fatal(err)
	}
	l.t.Logf("it was gone after %s", time.Since(begun))
	if err := l.c.Admin().Do(ctx, http.MethodGet, "/api/v1/namespaces/life", "", nil); err == nil || !strings.Contains(err.Error(), "404") {
		l.t.Errorf("the namespace is still there: %v", err)
	}
	if left := left(l.t, l.c, l.name, l.name); len(left) > 0 {
		l.t.Errorf("there is left %q", left)
	}
}

// words are what the pods of a namespace have said.
func words(t testing.TB, c *kubetest.Cluster, namespace string) string {
	var b strings.Builder
	for _, args := range [][]string{
		{"get", "pods,pvc,pv,deployments,statefulsets", "-o", "wide"}, {"get", "events"},
		{"logs", podName(namespace), "--all-containers", "--tail=20"}, {"logs", "-l", labelComponent + "=worker", "--tail=20"},
	} {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		out, err := kubetest.Kubectl(ctx, t, append([]string{"--kubeconfig", c.Admin().Kubeconfig, "--namespace", namespace}, args...)...).CombinedOutput()
		cancel()
		fmt.Fprintf(&b, "-- kubectl %s: %v\n%s\n", strings.Join(args, " "), err, out)
	}
	return b.String()
}
