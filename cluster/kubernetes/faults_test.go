package kubernetes

import (
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/navvy-run/navvy/cluster"
	"github.com/navvy-run/navvy/cluster/config"
	"github.com/navvy-run/navvy/test/kube/kubetest"
)

var errOnPurpose = errors.New("fails on purpose")

// faulty fails one call: before or after it was carried out.
type faulty struct {
	next  http.RoundTripper
	left  *atomic.Int64
	after bool
}

func (f *faulty) RoundTrip(r *http.Request) (*http.Response, error) {
	if f.left.Add(-1) != -1 {
		return f.next.RoundTrip(r)
	}
	if f.after {
		answer, err := f.next.RoundTrip(r)
		if err != nil {
			return nil, err
		}
		_ = answer.Body.Close()
	}
	return nil, errOnPurpose
}

// failing opens a driver of which one call fails; failed tells whether it has.
func (w *world) failing(t testing.TB, at int, after bool) (d *Driver, failed func() bool) {
	left := &atomic.Int64{}
	left.Store(int64(at))
	d = w.open(t, func(next http.RoundTripper) http.RoundTripper { return &faulty{next: next, left: left, after: after} })
	return d, func() bool { return left.Load() < 0 }
}

// Whichever call fails, before or after it was carried out, while a cluster is made or removed:
// once more, it goes on from there, and at the end there is nothing. Of a cluster with a server
// each of the suite's changes fails, too; here it is one call of seven.
func TestFaults(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "runs")
	w.serve()
	const serverStep, atOnce = 7, 3
	for begin := range atOnce {
		t.Run(fmt.Sprintf("broker/%d", begin), func(t *testing.T) {
			t.Parallel()
			for at := begin; w.fault(t, at, w.answering(t, fmt.Sprintf("answers-%d", at))); at += atOnce {
			}
		})
	}
	t.Run("server", func(t *testing.T) {
		t.Parallel()
		for at := 0; w.fault(t, at, w.described(t, fmt.Sprintf("serves-%d", at), 1)); at += serverStep {
		}
	})
}

// fault has one call fail, and tells whether there was one.
func (w *world) fault(t *testing.T, at int, want *config.Cluster) bool {
	t.Helper()
	const phases = 2
	after, name := at%phases == 1, want.Name
	control := func(d *Driver) *cluster.Controller {
		return cluster.New(d, &cluster.Options{Who: "faults", Lose: true, Wait: kubetest.Patience, AtOnce: 1})
	}
	whole, sound := w.open(t), func(d *Driver) {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
	defer sound(whole)
	d, failed := w.failing(t, at, after)
	defer sound(d)
	_, err := control(d).Apply(t.Context(), want)
	if err != nil && !failed() {
		t.Errorf("%d: it was not that call: %v", at, err)
	}
	some := failed()
	if _, err := control(whole).Apply(t.Context(), want); err != nil {
		t.Errorf("%d, %t: once more: %v\n%s", at, after, err, words(t, w.c, w.namespace))
	}
	if p, err := control(whole).Plan(t.Context(), want); err != nil || !p.Empty() {
		t.Errorf("%d, %t: there is still to do, %v", at, after, err)
		for i := range p.Changes {
			t.Errorf("%s %s: %s %+v", p.Changes[i].Action, p.Changes[i].ID, p.Changes[i].Why, p.Changes[i].Differences)
		}
	}
	d, failed = w.failing(t, at, after)
	defer sound(d)
	if _, err := control(d).Destroy(t.Context(), name); err != nil && !failed() {
		t.Errorf("%d: it was not that call: %v", at, err)
	}
	some = some || failed()
	if _, err := control(whole).Destroy(t.Context(), name); err != nil {
		t.Errorf("%d, %t: to remove it once more: %v", at, after, err)
	}
	if l := left(t, w.c, w.namespace, name); len(l) > 0 {
		t.Errorf("%d, %t: there is left %q", at, after, l)
	}
	return some && !t.Failed()
}
