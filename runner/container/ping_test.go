package container_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/container"
	"github.com/navvy-run/navvy/test/kube/kubetest"
)

// A driver tells whether its cluster is there, also to who may do nothing in it.
func TestPing(t *testing.T) {
	t.Parallel()
	cluster := kubetest.Open(t)
	way, err := cluster.Proxy()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(way.Close)
	d := open(t, cluster.Namespace(t), container.Options{Kubeconfig: cluster.Through(t, way, "nobody-much", "").Kubeconfig})
	for range 2 {
		way.Break()
		if err := d.Ping(t.Context()); !errors.Is(err, navvy.ErrUnavailable) || !strings.HasPrefix(err.Error(), "the cluster cannot be reached: ") {
			t.Errorf("it cannot be reached, and that says %v", err)
		}
		way.Heal()
		kubetest.Until(t, "it is there", func() bool { return d.Ping(t.Context()) == nil })
	}
}
