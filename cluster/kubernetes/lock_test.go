package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/cluster/config"
	"github.com/navvy-run/navvy/cluster/driver"
	"github.com/navvy-run/navvy/test/kube/kubetest"
)

// The lock of somebody dead is taken, not that of somebody who lives; who loses it is told.
func TestLock(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "runs")
	d := w.open(t)
	d.lease = 4 * time.Second
	at := "/apis/coordination.k8s.io/v1/namespaces/" + w.namespace + "/leases"
	w.c.Admin().Must(t, http.MethodPost, at, `
metadata: {name: dead-lock, labels: {navvy.run/lock: dead}, annotations: {navvy.run/holder: '{"who":"the dead"}'}}
spec: {holderIdentity: the dead, leaseDurationSeconds: 2, renewTime: "2020-01-01T00:00:00.000000Z"}`, nil)
	l, err := d.Lock(t.Context(), "dead", driver.Holder{Who: "next", What: "apply", Since: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * d.lease) //nolint:forbidigo // it is the lease of a real server that passes
	_, err = w.open(t).Lock(t.Context(), "dead", driver.Holder{Who: "third", What: "apply"})
	if held, is := errors.AsType[*driver.HeldError](err); !is || held.Who != "next" {
		t.Errorf("the third one is told %v", err)
	}
	w.c.Admin().Must(t, http.MethodDelete, at+"/dead-lock", "", nil)
	select {
	case <-l.Lost():
	case <-time.After(kubetest.Patience):
		t.Error("that it was lost is not told")
	}
	if err := l.Release(t.Context()); err != nil {
		t.Error(err)
	}
	w.c.Admin().Must(t, http.MethodPost, at, `metadata: {name: foreign-lock}`, nil)
	_, err = d.Lock(t.Context(), "foreign", driver.Holder{Who: "next", What: "apply"})
	wantError(t, "somebody else's lease", err, navvy.ErrExists, "foreign-lock")
	w.c.Admin().Must(t, http.MethodDelete, at+"/foreign-lock", "", nil)
}

// Whose clock is behind has the lock as long as it trusts it: it is not taken, and who waits is
// told. A renewal that fails is tried again.
func TestLockOfTheLiving(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "runs")
	at := "/apis/coordination.k8s.io/v1/namespaces/" + w.namespace + "/leases"
	var failing atomic.Bool
	d := w.open(t, func(next http.RoundTripper) http.RoundTripper {
		return roundTrip(func(r *http.Request) (*http.Response, error) {
			if failing.Load() && r.Method == http.MethodPut && failing.CompareAndSwap(true, false) {
				return nil, errOnPurpose
			}
			return next.RoundTrip(r)
		})
	})
	d.lease = 8 * time.Second
	l, err := d.Lock(t.Context(), "slow", driver.Holder{Who: "slow", What: "apply", Since: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	failing.Store(true)
	w.c.Admin().Must(t, http.MethodPatch, at+"/slow-lock", `{spec: {renewTime: "2020-01-01T00:00:00.000000Z"}}`, nil)
	begun := time.Now()
	_, err = w.open(t).Lock(t.Context(), "slow", driver.Holder{Who: "next", What: "apply"})
	if held, is := errors.AsType[*driver.HeldError](err); !is || held.Who != "slow" || time.Since(begun) < d.lease {
		t.Errorf("after %s the next one is told %v", time.Since(begun), err)
	}
	if failing.Load() {
		t.Error("no renewal has failed")
	}
	select {
	case <-l.Lost():
		t.Error("it is lost")
	default:
	}
	if err := l.Release(t.Context()); err != nil {
		t.Error(err)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// A namespace that was made for a cluster stays if somebody has put something into it.
func TestNamespace(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "runs")
	w.namespace += "-made"
	d := w.open(t)
	c := w.answering(t, "guest")
	if _, err := controller(d).Apply(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	admin, at := w.c.Admin(), "/api/v1/namespaces/"+w.namespace
	admin.Must(t, http.MethodPost, at+"/configmaps", `{metadata: {name: diary}, data: {dear: diary}}`, nil)
	t.Cleanup(func() {
		if err := admin.Do(context.Background(), http.MethodDelete, at, "", nil); err != nil {
			t.Error(err)
		}
	})
	if names, err := w.open(t).Clusters(t.Context()); err != nil || len(names) != 1 || names[0] != "guest" {
		t.Errorf("there are %q, %v", names, err)
	}
	anywhere := w.open(t)
	anywhere.o.Namespace = "" // as without a file
	if _, err := controller(anywhere).Destroy(t.Context(), "guest"); err != nil {
		t.Fatal(err)
	}
	if l := left(t, w.c, w.namespace, "guest"); len(l) > 0 {
		t.Errorf("there is left %q", l)
	}
	admin.Must(t, http.MethodGet, at+"/configmaps/diary", "", nil)
	var space struct {
		Metadata struct{ Labels map[string]string }
	}
	if admin.Must(t, http.MethodGet, at, "", &space); space.Metadata.Labels[labelCluster] != "" {
		t.Errorf("the namespace bears %v", space.Metadata.Labels)
	}
}

// What is left of a cluster whose mark was removed is found, also without a file, and removed.
func TestWithoutMark(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "runs")
	d := w.open(t)
	d.o.Namespace = "" // as without a file
	for _, what := range []string{"deployment", "lease"} {
		name, admin := "markless-"+what, w.c.Admin()
		if what == "lease" {
			admin.Must(t, http.MethodPost, "/apis/coordination.k8s.io/v1/namespaces/"+w.namespace+"/leases", fmt.Sprintf(`
metadata: {name: %[1]s-lock, labels: {navvy.run/lock: %[1]s}}
spec: {holderIdentity: the dead, leaseDurationSeconds: 1, renewTime: "2020-01-01T00:00:00.000000Z"}`, name), nil)
		} else {
			if _, err := controller(w.open(t)).Apply(t.Context(), w.answering(t, name)); err != nil {
				t.Fatal(err)
			}
			admin.Must(t, http.MethodDelete, "/api/v1/namespaces/"+w.namespace+"/configmaps/"+markName(name), "", nil)
		}
		if _, err := controller(d).Destroy(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		if l := left(t, w.c, w.namespace, name); len(l) > 0 {
			t.Errorf("there is left %q", l)
		}
	}
}

// A namespace stays if nobody can tell what is in it, or it cannot be removed: that is told, and the
// lock is given back all the same.
func TestNamespaceStays(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "runs")
	for name, test := range map[string]struct {
		method, path string
		fails        bool
	}{
		"unknown": {http.MethodGet, "/apis/batch/v1", false},
		"denied":  {http.MethodDelete, "/api/v1/namespaces/" + w.namespace + "-denied", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := &world{t: t, c: w.c, namespace: w.namespace + "-" + name, fate: w.fate}
			d := w.open(t, func(next http.RoundTripper) http.RoundTripper {
				return roundTrip(func(r *http.Request) (*http.Response, error) {
					if r.Method == test.method && r.URL.Path == test.path {
						return &http.Response{StatusCode: http.StatusServiceUnavailable, Body: http.NoBody, Header: http.Header{}, Request: r}, nil
					}
					return next.RoundTrip(r)
				})
			})
			if _, err := controller(d).Apply(t.Context(), w.answering(t, name)); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := w.c.Admin().Do(context.Background(), http.MethodDelete, "/api/v1/namespaces/"+w.namespace, "", nil); err != nil {
					t.Error(err)
				}
			})
			_, err := controller(d).Destroy(t.Context(), name)
			if test.fails {
				wantError(t, name, err, navvy.ErrUnavailable, "cluster "+name, "namespace "+w.namespace)
			} else if err != nil {
				t.Error(err)
			}
			if l := left(t, w.c, w.namespace, name); len(l) > 0 {
				t.Errorf("there is left %q", l)
			}
		})
	}
}

// What an autoscaler decides is no drift, and a HorizontalPodAutoscaler is as it was applied.
func TestAutoscaler(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "runs")
	w.serve()
	d := w.open(t)
	c := w.described(t, "bounded", 0)
	c.Workers.Autoscale, c.Workers.Concurrency, c.Kubernetes.Scaler = &config.Autoscale{Min: 1, Max: 5}, 1000, config.ScalerHPA
	c = parsed(t, c)
	if _, err := controller(d).Apply(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	w.c.Admin().Must(t, http.MethodPatch, "/apis/apps/v1/namespaces/"+w.namespace+"/deployments/bounded-worker", `{spec: {replicas: 3}}`, nil)
	if p, err := controller(d).Plan(t.Context(), c); err != nil || !p.Empty() {
		t.Errorf("there is to do %+v, %v", p, err)
	}
	if _, err := controller(d).Destroy(t.Context(), "bounded"); err != nil {
		t.Error(err)
	}
	if l := left(t, w.c, w.namespace, "bounded"); len(l) > 0 {
		t.Errorf("there is left %q", l)
	}
}
