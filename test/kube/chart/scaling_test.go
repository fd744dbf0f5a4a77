package chart_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"sigs.k8s.io/yaml"

	"github.com/navvy-run/navvy/gateway/keda"
	scaler "github.com/navvy-run/navvy/gateway/keda/externalscaler"
	"github.com/navvy-run/navvy/test/kube/kubetest"
)

// operator is what KEDA is to a release: it reads the ScaledObject, and what it refers to.
type operator struct {
	*release
	client scaler.ExternalScalerClient
	ref    *scaler.ScaledObjectRef
}

// get reads an object of the cluster.
func (r *release) get(v any, args ...string) {
	r.t.Helper()
	if err := json.Unmarshal([]byte(run(r.t, r.kubectl(append([]string{"get", "-o", "json"}, args...)...))), v); err != nil {
		r.t.Fatal(err)
	}
}

// keda connects as the ScaledObject says, to the server's pod in place of the Service.
func (r *release) keda(ip string) *operator {
	r.t.Helper()
	var object struct {
		Spec struct {
			ScaleTargetRef struct{ Kind, Name string }
			Triggers       []struct {
				Type              string
				Metadata          map[string]string
				AuthenticationRef struct{ Name string }
			}
		}
	}
	r.get(&object, "scaledobject", "navvy-worker")
	trigger := object.Spec.Triggers[0]
	if trigger.Type != "external-push" || object.Spec.ScaleTargetRef.Name != "navvy-worker" {
		r.t.Fatalf("the ScaledObject is %+v", object)
	}
	var authentication struct {
		Spec struct {
			SecretTargetRef []struct{ Parameter, Name, Key string }
		}
	}
	r.get(&authentication, "triggerauthentication", trigger.AuthenticationRef.Name)
	text := map[string][]byte{}
	kubetest.Until(r.t, "the certificate is published", func() bool {
		for _, p := range authentication.Spec.SecretTargetRef {
			var secret struct{ Data map[string][]byte }
			r.get(&secret, "secret", p.Name)
			text[p.Parameter] = secret.Data[p.Key]
		}
		return len(text["caCert"]) > 0
	})
	pair, err := tls.X509KeyPair(text["tlsClientCert"], text["tlsClientKey"])
	if err != nil {
		r.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(text["caCert"])
	host, port, err := net.SplitHostPort(trigger.Metadata["scalerAddress"])
	if err != nil {
		r.t.Fatal(err)
	}
	conn, err := grpc.NewClient("passthrough:///"+net.JoinHostPort(host, port),
		grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: pool, MinVersion: tls.VersionTLS12})),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return r.cluster.Dial(ctx, "tcp", net.JoinHostPort(ip, port))
		}))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = conn.Close() })
	return &operator{r, scaler.NewExternalScalerClient(conn), &scaler.ScaledObjectRef{
		Name: "navvy-worker", Namespace: r.namespace, ScalerMetadata: trigger.Metadata,
	}}
}

// scale makes as many workers as the figures ask for.
func (k *operator) scale() int64 {
	k.t.Helper()
	spec, err := k.client.GetMetricSpec(k.t.Context(), k.ref)
	if err != nil {
		k.t.Fatal(err)
	}
	got, err := k.client.GetMetrics(k.t.Context(), &scaler.GetMetricsRequest{ScaledObjectRef: k.ref, MetricName: spec.GetMetricSpecs()[0].GetMetricName()})
	if err != nil {
		k.t.Fatal(err)
	}
	size := spec.GetMetricSpecs()[0].GetTargetSize()
	n := (got.GetMetricValues()[0].GetMetricValue() + size - 1) / size
	run(k.t, k.kubectl("scale", "deployment/navvy-worker", fmt.Sprintf("--replicas=%d", n)))
	return n
}

// Workers are scaled from none to as many as there is work for, and to none when it is done.
func TestScaling(t *testing.T) {
	t.Parallel()
	c := open(t)
	c.KEDAKinds(t)
	r := install(t, c, `scaling.by="keda"`, "scaling.tasksPerWorker=2", "worker.drainSeconds=1")
	run(t, r.kubectl("scale", "deployment/navvy-worker", "--replicas=0"))
	ip := r.serverIP()
	r.helm("upgrade", `scaling.by="keda"`, "scaling.tasksPerWorker=2", "worker.drainSeconds=1",
		fmt.Sprintf(`worker.hostAliases=[{"ip":%q,"hostnames":["navvy.%s.svc"]}]`, ip, r.namespace))
	if out := run(t, r.kubectl("get", "deployment", "navvy-worker", "-o", "jsonpath={.spec.replicas}")); out != "0" {
		t.Errorf("an upgrade has made %s workers", out)
	}
	k := r.keda(ip)
	stream, err := k.client.StreamIsActive(t.Context(), k.ref)
	if err != nil {
		t.Fatal(err)
	}
	active := func(want bool) {
		t.Helper()
		if got, err := stream.Recv(); err != nil || got.GetResult() != want {
			t.Fatalf("it is active: %v, %v; want %t", got, err, want)
		}
	}
	active(false)
	id := strings.TrimSpace(run(t, r.navvy("map", "-d", "-j", "3", "--image", kubetest.Image, "--", "echo", "{}", ":::", "a", "b", "c")))
	active(true)
	if n := k.scale(); n != 2 {
		t.Errorf("there are %d workers for 3 tasks, want 2", n)
	}
	run(t, r.navvy("wait", id))
	active(false)
	if n := k.scale(); n != 0 {
		t.Errorf("with nothing to do there are %d workers", n)
	}
	kubetest.Until(t, "the workers are gone", func() bool {
		return run(t, r.kubectl("get", "pods", "-l", "app.kubernetes.io/component=worker", "-o", "name")) == ""
	})
	if out := run(t, r.navvy("results", id)); out != "a\nb\nc\n" {
		t.Errorf("the answers are %q", out)
	}
	r.viewerStays()
}

// viewerStays checks that KEDA's certificate is the same after the server's pod was replaced:
// KEDA does not look whether there is another, and its streams would fail from then on.
func (r *release) viewerStays() {
	t := r.t
	t.Helper()
	var before, after struct{ Data map[string]string }
	r.get(&before, "secret", "navvy-viewer")
	run(t, r.kubectl("delete", "pod", "navvy-server-0"))
	r.serverIP()
	kubetest.Until(t, "the certificate is published again", func() bool {
		out, err := output(r.kubectl("logs", "navvy-server-0", "--container=secrets"))
		return err == nil && strings.Contains(out, "certificate published")
	})
	r.get(&after, "secret", "navvy-viewer")
	if !maps.Equal(before.Data, after.Data) {
		t.Error("another pod of the server has published another certificate")
	}
}

// The ScaledObject says nothing that KEDA does not know.
func TestScaledObject(t *testing.T) {
	t.Parallel()
	list := render(t, "--set", "scaling.by=keda,scaling.queue=fast,scaling.minReplicas=1,scaling.maxReplicas=7,worker.slots=9")
	var object struct{ Spec map[string]any }
	if err := yaml.Unmarshal([]byte(find(t, list, "ScaledObject", "navvy-worker").text), &object); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]any{"minReplicaCount": 1.0, "maxReplicaCount": 7.0, "cooldownPeriod": 300.0, "pollingInterval": 15.0} {
		if object.Spec[key] != want {
			t.Errorf("%s is %v, want %v", key, object.Spec[key], want)
		}
	}
	text := find(t, list, "ScaledObject", "navvy-worker").text
	for _, want := range []string{"stabilizationWindowSeconds: 300", "scalerAddress: navvy.space.svc:7434", `enableTLS: "true"`, "kind: container", `queue: "fast"`, `tasksPerWorker: "9"`} {
		if !strings.Contains(text, want) {
			t.Errorf("there is no %s in\n%s", want, text)
		}
	}
	if deployment := find(t, list, "Deployment", "navvy-worker").text; strings.Contains(deployment, "replicas:") {
		t.Errorf("the chart would undo what KEDA does:\n%s", deployment)
	}
}

// asked is what the gateway's source is asked for.
type asked struct{ keda.Selection }

func (a *asked) Wanted(_ context.Context, s *keda.Selection) (waiting, running int64, err error) {
	a.Selection = *s
	return 0, 0, nil
}

func (a *asked) WantedChanged() <-chan struct{} { return nil }

// The trigger counts the tasks that ask for what the workers have.
func TestScaledObjectLabels(t *testing.T) {
	t.Parallel()
	for values, want := range map[string]map[string]string{
		"worker.slots=9": {},
		"worker.labels.gpu=a100,worker.labels.zone=b=c": {"gpu": "a100", "zone": "b=c"},
	} {
		var object struct {
			Spec struct {
				Triggers []struct{ Metadata map[string]string }
			}
		}
		text := find(t, render(t, "--set", "scaling.by=keda,"+values), "ScaledObject", "navvy-worker").text
		if err := yaml.Unmarshal([]byte(text), &object); err != nil {
			t.Fatal(err)
		}
		ref := &scaler.ScaledObjectRef{ScalerMetadata: object.Spec.Triggers[0].Metadata}
		var got asked
		if _, err := keda.New(&got).GetMetrics(t.Context(), &scaler.GetMetricsRequest{ScaledObjectRef: ref}); err != nil || !maps.Equal(got.Labels, want) {
			t.Errorf("with %s tasks are counted that ask for %v, %v; want %v", values, got.Labels, err, want)
		}
	}
	if out, err := tryHelm(t, "template", "navvy", chart, "--kube-version", kubeVersion, "--set", `scaling.by=keda,worker.labels.gpu=a\,b`); err == nil || !strings.Contains(err.Error(), "no comma") {
		t.Errorf("the chart takes a comma: %v\n%s", err, out)
	}
}
