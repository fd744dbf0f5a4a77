package holder

import (
	"crypto/tls"
	"errors"
	"io"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	scaler "github.com/navvy-run/navvy/gateway/keda/externalscaler"
	"github.com/navvy-run/navvy/manager"
	"github.com/navvy-run/navvy/server/auth"
)

// scalerClient is KEDA.
func scalerClient(t *testing.T, h *Holder, config *tls.Config) scaler.ExternalScalerClient {
	t.Helper()
	creds := insecure.NewCredentials()
	if config != nil {
		creds = credentials.NewTLS(config)
	}
	conn, err := grpc.NewClient(h.Scaler().String(), grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return scaler.NewExternalScalerClient(conn)
}

// ref is what a ScaledObject says.
func ref(pairs ...string) *scaler.ScaledObjectRef {
	m := map[string]string{"scalerAddress": "here:7434", "enableTLS": "true"} // which KEDA sends, too
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	return &scaler.ScaledObjectRef{Name: "workers", Namespace: "here", ScalerMetadata: m}
}

// wantMetric is navvy_tasks_wanted of containers in a queue; -1 if nothing is said of it.
func wantMetric(t *testing.T, h *Holder, queue string) float64 {
	t.Helper()
	metrics, err := h.newMetrics()
	if err != nil {
		t.Fatal(err)
	}
	families, err := metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			is := map[string]string{}
			for _, label := range m.GetLabel() {
				is[label.GetName()] = label.GetValue()
			}
			if family.GetName() == "navvy_tasks_wanted" && is["queue"] == queue && is["kind"] == navvy.KindContainer {
				return m.GetGauge().GetValue()
			}
		}
	}
	return -1
}

// scaling makes a server whose workers are elsewhere, of which there are none.
func scaling(t *testing.T, address string) (*Holder, *auth.Authority) {
	t.Helper()
	ca, _, err := auth.OpenAuthority(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	cfg := testConfig(t)
	cfg.Runners, cfg.Dispatch, cfg.Parallelism = nil, manager.Pull, 1000
	own := issue(t, ca, auth.Subject{Name: "server", Server: true, Hosts: []string{"127.0.0.1"}})
	cfg.Serving = &Serving{Listen: "127.0.0.1:0", Authority: ca, Certificate: auth.Fixed(own), Pool: ca.Pool(), Scaler: address}
	h, _ := start(t, cfg)
	return h, ca
}

// enqueue submits a detached job of a kind with so many tasks.
func enqueue(t *testing.T, h *Holder, spec navvy.Spec, n int, change func(*navvy.Job)) navvy.JobID {
	t.Helper()
	job := navvy.Job{Spec: spec, Detached: true}
	if change != nil {
		change(&job)
	}
	return submit(t, client.New(h.Conn()), job, make([]string, n)...)
}

func image() navvy.Spec {
	return navvy.Spec{Container: &navvy.Container{Image: "busybox", Command: navvy.Command{Args: []string{"true"}, Literal: true}}}
}

// wantCount waits until as many tasks are told.
func wantCount(t *testing.T, c scaler.ExternalScalerClient, r *scaler.ScaledObjectRef, want int64) {
	t.Helper()
	got, err := c.GetMetrics(t.Context(), &scaler.GetMetricsRequest{ScaledObjectRef: r, MetricName: "navvy-tasks-wanted"})
	if err != nil {
		t.Fatal(err)
	}
	v := got.GetMetricValues()
	if len(v) != 1 || v[0].GetMetricValue() != want || v[0].GetMetricValueFloat() != float64(want) {
		t.Errorf("of %v there are %v, want %d", r.GetScalerMetadata(), v, want)
	}
}

// What KEDA is told is what waits, of the kind that it asks for, and no more than may run at
// once; a stream says so at once, and says when it is over.
func TestScaler(t *testing.T) {
	t.Parallel()
	h, _ := scaling(t, "127.0.0.1:0")
	c := scalerClient(t, h, nil)
	containers := ref("kind", "container", "tasksPerWorker", "7")
	spec, err := c.GetMetricSpec(t.Context(), containers)
	if err != nil || len(spec.GetMetricSpecs()) != 1 || spec.GetMetricSpecs()[0].GetTargetSize() != 7 || spec.GetMetricSpecs()[0].GetTargetSizeFloat() != 7 {
		t.Errorf("the measure is %v, %v", spec, err)
	}
	stream, err := c.StreamIsActive(t.Context(), containers)
	if err != nil {
		t.Fatal(err)
	}
	wantActive := func(want bool) {
		t.Helper()
		if got, err := stream.Recv(); err != nil || got.GetResult() != want {
			t.Fatalf("the stream says %v, %v; want %t", got, err, want)
		}
		if got, err := c.IsActive(t.Context(), containers); err != nil || got.GetResult() != want {
			t.Errorf("it is active: %v, %v; want %t", got, err, want)
		}
	}
	wantActive(false)
	enqueue(t, h, command("true"), 5, nil)
	wantCount(t, c, containers, 0)
	wantCount(t, c, ref(), 5)
	id := enqueue(t, h, image(), 20, nil)
	wantActive(true)
	wantCount(t, c, containers, 20)
	capped := enqueue(t, h, image(), 20, func(j *navvy.Job) { j.Parallelism, j.Queue = 3, "slow" })
	wantCount(t, c, containers, 23)
	wantCount(t, c, ref("kind", "container", "queue", "slow"), 3)
	labelled := enqueue(t, h, image(), 2, func(j *navvy.Job) { j.Spec.Labels = map[string]string{"gpu": "a100"} })
	wantCount(t, c, containers, 23)
	wantCount(t, c, ref("kind", "container", "labels", "gpu=a100, zone=b"), 25)
	h.mgr.SetQueue("slow", navvy.QueueSettings{Concurrency: 1})
	wantCount(t, c, containers, 21)
	h.mgr.SetQueue("slow", navvy.QueueSettings{Paused: true})
	wantCount(t, c, containers, 20)
	for _, job := range []navvy.JobID{capped, labelled, id} {
		if _, err := client.New(h.Conn()).Stop(t.Context(), job, "test"); err != nil {
			t.Fatal(err)
		}
	}
	wantActive(false)
	for _, bad := range []*scaler.ScaledObjectRef{
		ref("kind", "potato"), ref("tasksPerWorker", "0"), ref("tasksPerWorker", "many"), ref("labels", "gpu"), ref("queue", "a://b"),
	} {
		if got, err := c.IsActive(t.Context(), bad); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%v: %v, %v", bad.GetScalerMetadata(), got, err)
		}
	}
}

// The metric tells of a queue that is registered also when there is nothing in it: an
// autoscaler that is told nothing would leave the workers as they are.
func TestScalerMetric(t *testing.T) {
	t.Parallel()
	h, _ := scaling(t, "127.0.0.1:0")
	if _, err := client.New(h.Conn()).SetQueue(t.Context(), "fast", client.QueueChange{Create: true}); err != nil {
		t.Fatal(err)
	}
	id := enqueue(t, h, image(), 3, func(j *navvy.Job) { j.Queue = "fast" })
	enqueue(t, h, image(), 2, func(j *navvy.Job) { j.Queue = "slow" })
	for queue, want := range map[string]float64{navvy.DefaultQueue: 0, "fast": 3, "slow": 2, "none": -1} {
		if got := wantMetric(t, h, queue); got != want {
			t.Errorf("queue %s wants workers for %v tasks, want %v", queue, got, want)
		}
	}
	if _, err := client.New(h.Conn()).Stop(t.Context(), id, "test"); err != nil {
		t.Fatal(err)
	}
	if got := wantMetric(t, h, "fast"); got != 0 {
		t.Errorf("with nothing in it the queue wants workers for %v tasks", got)
	}
}

// A stream of a server that leaves ends well.
func TestScalerLeaves(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	cfg.Serving = &Serving{Scaler: "127.0.0.1:0"}
	h, stop := start(t, cfg)
	stream, err := scalerClient(t, h, nil).StreamIsActive(t.Context(), ref())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := stream.Recv(); err != nil || got.GetResult() {
		t.Fatalf("it is active: %v, %v", got, err)
	}
	if _, err := stop(); err != nil {
		t.Fatal(err)
	}
	if got, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("the stream ended with %v, %v", got, err)
	}
}

// Jobs behind the window are counted, too.
func TestScalerBacklog(t *testing.T) {
	t.Parallel()
	h, _ := scaling(t, "127.0.0.1:0")
	const jobs = 150
	for range jobs {
		enqueue(t, h, image(), 1, nil)
	}
	enqueue(t, h, command("true"), 1, nil)
	c := scalerClient(t, h, nil)
	wantCount(t, c, ref("kind", "container"), jobs)
	wantCount(t, c, ref("kind", "command"), 1)
}

// Over a network only viewers and administrators are told.
func TestScalerCertificates(t *testing.T) {
	t.Parallel()
	h, ca := scaling(t, "https://127.0.0.1:0")
	for role, want := range map[auth.Role]codes.Code{
		auth.RoleViewer: codes.OK, auth.RoleAdmin: codes.OK, auth.RoleUser: codes.PermissionDenied, auth.RoleWorker: codes.PermissionDenied,
	} {
		cert := issue(t, ca, auth.Subject{Name: "scaler", Role: role})
		c := scalerClient(t, h, auth.ClientTLS(auth.Fixed(cert), ca.Pool()))
		if got, err := c.IsActive(t.Context(), ref()); status.Code(err) != want {
			t.Errorf("role %s: %v, %v", role, got, err)
		}
	}
	for _, config := range []*tls.Config{nil, {RootCAs: ca.Pool(), MinVersion: tls.VersionTLS13}} {
		if _, err := scalerClient(t, h, config).IsActive(t.Context(), ref()); status.Code(err) != codes.Unavailable {
			t.Errorf("without a certificate: %v", err)
		}
	}
}
