package container_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/container"
	"github.com/navvy-run/navvy/test/kube/kubetest"
)

// A driver tells when its cluster answers for the first time, also to who may do nothing there.
func TestReach(t *testing.T) {
	t.Parallel()
	cluster := kubetest.Open(t)
	way, err := cluster.Proxy()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(way.Close)
	way.Break()
	d := open(t, cluster.Namespace(t), container.Options{Kubeconfig: cluster.Through(t, way, "nobody-much", "").Kubeconfig})
	reached, why := d.Reach(t.Context())
	if !errors.Is(why, navvy.ErrUnavailable) || !strings.HasPrefix(why.Error(), "the cluster cannot be reached: ") {
		t.Errorf("it cannot be reached, and that says %v", why)
	}
	select {
	case <-reached:
		t.Error("it counts as reached")
	default:
	}
	way.Heal()
	ctx, cancel := context.WithTimeout(t.Context(), kubetest.Patience)
	defer cancel()
	select {
	case <-reached:
	case <-ctx.Done():
		t.Fatal("it is never reached")
	}
	way.Break()
	if _, why := d.Reach(t.Context()); why != nil {
		t.Errorf("it was reached, and that says %v", why)
	}
}
