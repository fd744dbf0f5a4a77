package container_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/container"
	"github.com/navvy-run/navvy/test/kube/kubetest"
)

// crowd runs n tasks on kwok's nodes, all at once, to their settled ends. It returns when the first
// and the last of their Jobs was made, and when the last one had ended.
func crowd(t testing.TB, d *container.Driver, n int) (made, ended time.Duration) {
	t.Helper()
	var all, starts sync.WaitGroup
	var failed atomic.Int64
	begun := time.Now()
	starts.Add(n)
	for range n {
		r := newTrial(shell("exit 0"))
		all.Go(func() {
			execution, err := d.Start(t.Context(), &r.task)
			starts.Done()
			if err != nil {
				t.Error(err)
				return
			}
			end, err := execution.Wait(t.Context())
			if err != nil || end.Refusal != nil || end.Exit != (navvy.Exit{}) {
				failed.Add(1)
				t.Logf("%s ended as %+v, %v", execution.Handle(), end, err)
			}
			d.Settled(r.task.Token)
		})
	}
	starts.Wait()
	made = time.Since(begun)
	all.Wait()
	if failed.Load() > 0 {
		t.Errorf("%d of %d ended badly", failed.Load(), n)
	}
	return made, time.Since(begun)
}

// small are the rights of whoever runs containers.
var small = map[string][]string{
	"batch/jobs": {"create", "get", "list", "watch", "patch", "delete"}, "/pods": {"list", "watch", "delete"}, "/pods/log": {"get"},
}

// Many Jobs at once end once each, cost two writes each, and none is left.
func TestMany(t *testing.T) { //nolint:paralleltest // it takes the processors from all others
	const many = 2000
	cluster := kubetest.Open(t)
	namespace := cluster.Namespace(t)
	cluster.Grant(t, namespace, "navvy-many", small)
	d := open(t, namespace, container.Options{
		Kubeconfig: cluster.User(t, "navvy-many"), PodTemplate: fmt.Appendf(nil, "spec: {%s}", cluster.KwokNodes(t, 5)), Keep: time.Second,
	})
	crowd(t, d, many)
	var left []string
	defer func() {
		if len(left) > 0 {
			t.Logf("%d Jobs are left, among them %s", len(left), cluster.Object("/apis/batch/v1/namespaces/"+namespace+"/jobs/"+left[0]))
		}
	}()
	kubetest.Until(t, "no Job is left", func() bool { left = jobs(t, namespace); return len(left) == 0 })
	if calls := cluster.Calls(t, "navvy-many"); calls["create jobs"] != many || calls["patch jobs"] != many || calls["delete jobs"] != 0 {
		t.Errorf("%d Jobs cost %v", many, calls)
	}
}

// BenchmarkCreate makes Jobs through navvy and by kubectl, by turns on one control plane, and tells
// navvy's rate as a share of kubectl's: of making them, and of having them all ended.
func BenchmarkCreate(b *testing.B) {
	const many = 2000
	cluster := kubetest.Open(b)
	template := cluster.KwokNodes(b, 5)
	var ours, theirs turn
	for i := 0; b.Loop(); i++ {
		for _, by := range []bool{i%2 == 0, i%2 != 0} {
			namespace := cluster.Namespace(b)
			user := fmt.Sprintf("bench-%s", namespace)
			cluster.Grant(b, namespace, user, small)
			if by {
				d := open(b, namespace, container.Options{Kubeconfig: cluster.User(b, user), PodTemplate: fmt.Appendf(nil, "spec: {%s}", template)})
				made, ended := crowd(b, d, many)
				ours.add(made, ended)
				if err := d.Close(); err != nil {
					b.Error(err)
				}
				calls := cluster.Calls(b, user)
				ours.writes += float64(calls["create jobs"]+calls["patch jobs"]+calls["delete jobs"]+calls["delete pods"]) / many
			} else {
				theirs.add(bare(b, cluster, cluster.User(b, user), namespace, template, many))
			}
			sweepUp(b, cluster, namespace)
		}
	}
	n := float64(b.N)
	b.ReportMetric(many*n/ours.made.Seconds(), "navvy-made/s")
	b.ReportMetric(many*n/theirs.made.Seconds(), "kubectl-made/s")
	b.ReportMetric(theirs.made.Seconds()/ours.made.Seconds(), "made-ratio")
	b.ReportMetric(many*n/ours.ended.Seconds(), "navvy-ended/s")
	b.ReportMetric(many*n/theirs.ended.Seconds(), "kubectl-ended/s")
	b.ReportMetric(theirs.ended.Seconds()/ours.ended.Seconds(), "ended-ratio")
	b.ReportMetric(ours.writes/n, "writes/Job")
}

// turn adds up what turns took.
type turn struct {
	made, ended time.Duration
	writes      float64
}

func (r *turn) add(made, ended time.Duration) {
	r.made += made
	r.ended += ended
}

// bare has kubectl make Jobs of a file, and waits for their ends. The template is fields of
// their pods.
func bare(b *testing.B, cluster *kubetest.Cluster, kubeconfig, namespace, template string, n int) (made, ended time.Duration) {
	b.Helper()
	var file bytes.Buffer
	for i := range n {
		fmt.Fprintf(&file, `---
apiVersion: batch/v1
kind: Job
metadata: {name: bare-%d, labels: {app: bare}}
spec:
  backoffLimit: 0
  template: {spec: {restartPolicy: Never, automountServiceAccountToken: false, %s, containers: [{name: main, image: %s, command: [/bin/true]}]}}
`, i, template, kubetest.Image)
	}
	path := filepath.Join(b.TempDir(), "jobs.yaml")
	if err := os.WriteFile(path, file.Bytes(), 0o600); err != nil {
		b.Fatal(err)
	}
	begun := time.Now()
	kubectl := kubetest.Kubectl(b.Context(), b, "--kubeconfig", kubeconfig, "-n", namespace, "create", "--validate=false", "-f", path)
	if text, err := kubectl.CombinedOutput(); err != nil {
		b.Fatalf("%v: %.1000s", err, text)
	}
	made = time.Since(begun)
	until(b, "all have ended", func() bool { return left(b, cluster, namespace, "?limit=1&fieldSelector=status.successful%3D0") == 0 })
	return made, time.Since(begun)
}

// left is how many Jobs a list has.
func left(b *testing.B, cluster *kubetest.Cluster, namespace, query string) int {
	b.Helper()
	var list struct{ Items []struct{} }
	cluster.Admin().Must(b, http.MethodGet, "/apis/batch/v1/namespaces/"+namespace+"/jobs"+query, "", &list)
	return len(list.Items)
}

// sweepUp removes all Jobs of a namespace, so that the next turn finds the cluster at rest.
func sweepUp(b *testing.B, cluster *kubetest.Cluster, namespace string) {
	b.Helper()
	until(b, "its Jobs are deleted", func() bool { // so many may take longer than a call
		return cluster.Admin().Do(b.Context(), http.MethodDelete, "/apis/batch/v1/namespaces/"+namespace+"/jobs?propagationPolicy=Background", "", nil) == nil
	})
	until(b, "its pods are gone", func() bool {
		var list struct{ Items []struct{} }
		cluster.Admin().Must(b, http.MethodGet, "/api/v1/namespaces/"+namespace+"/pods?limit=1", "", &list)
		return len(list.Items) == 0 && left(b, cluster, namespace, "?limit=1") == 0
	})
}

// until is kubetest.Until for what takes longer than a test may wait.
func until(b *testing.B, what string, is func() bool) {
	b.Helper()
	const patience = 15 * time.Minute
	for end := time.Now().Add(patience); !is(); <-time.After(200 * time.Millisecond) {
		if time.Now().After(end) {
			b.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// BenchmarkLive tells what this process has in memory, all told, while it waits for many Jobs.
func BenchmarkLive(b *testing.B) {
	const many = 5000
	cluster := kubetest.Open(b)
	cluster.KwokNodes(b, 5)
	before := resident(b)
	for b.Loop() {
		namespace := cluster.Namespace(b)
		d := open(b, namespace, container.Options{PodTemplate: cluster.Fated(b, "waits")})
		ctx, cancel := context.WithCancel(b.Context())
		var all, starts sync.WaitGroup
		for range many {
			r := newTrial(shell("exit 0"))
			starts.Add(1)
			all.Go(func() {
				execution, err := d.Start(ctx, &r.task)
				starts.Done()
				if err != nil {
					b.Error(err)
					return
				}
				if _, err := execution.Wait(ctx); !errors.Is(err, context.Canceled) {
					b.Error(err)
				}
			})
		}
		starts.Wait()
		until(b, "all pods have nodes", func() bool {
			var list struct{ Items []struct{} }
			cluster.Admin().Must(b, http.MethodGet, "/api/v1/namespaces/"+namespace+"/pods?limit=1&fieldSelector=spec.nodeName%3D", "", &list)
			return len(list.Items) == 0 && len(d.Adrift()) == many
		})
		b.ReportMetric(resident(b), "MB")
		b.ReportMetric(before, "MB-before")
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		b.ReportMetric(float64(m.HeapInuse)/1e6, "MB-heap")
		cancel()
		all.Wait()
		sweepUp(b, cluster, namespace)
	}
}

// resident is what this process has in memory, in MB.
func resident(b *testing.B) float64 {
	b.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); f[0] == "VmRSS:" {
			kib, err := strconv.ParseFloat(f[1], 64)
			if err != nil {
				b.Fatal(err)
			}
			return kib * 1024 / 1e6
		}
	}
	b.Fatal("no VmRSS")
	return 0
}
