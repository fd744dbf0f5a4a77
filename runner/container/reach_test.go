package container_test

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/navvy-run/navvy/runner/container"
	"github.com/navvy-run/navvy/test/kube/kubetest"
)

// While the cluster cannot be reached, whoever asks is told, and the log says it once; it says as
// well when that is over, and what waited runs.
func TestUnreached(t *testing.T) {
	t.Parallel()
	cluster := kubetest.Open(t)
	namespace := cluster.Namespace(t)
	proxy, err := cluster.Proxy()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	var log output
	d := open(t, namespace, container.Options{
		Kubeconfig: cluster.Through(t, proxy, "unreached", "system:masters").Kubeconfig, Logger: slog.New(slog.NewTextHandler(&log, nil)),
	})
	proxy.Break()
	const away, back = "the cluster cannot be reached", "the cluster is reached again"
	r := newTrial(shell(hang))
	started := make(chan error, 1)
	go func() {
		var err error
		r.execution, err = d.Start(t.Context(), &r.task)
		started <- err
	}()
	kubetest.Until(t, "it says that the cluster is away", func() bool { return strings.Contains(d.Why(t.Context(), r.task.Token), away) })
	kubetest.Until(t, "the log says it", func() bool { return strings.Contains(log.text(), away) })
	proxy.Heal()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	w := r.wait(t)
	r.await(t, "begun")
	kubetest.Until(t, "the log says that it is back", func() bool { return strings.Contains(log.text(), back) })
	if why := d.Why(t.Context(), r.task.Token); why != "" {
		t.Errorf("it runs, and waits for %q", why)
	}
	proxy.Break()
	kubetest.Until(t, "it says again that the cluster is away", func() bool { return strings.Contains(d.Why(t.Context(), r.task.Token), away) })
	proxy.Heal()
	kubetest.Until(t, "and that it is back", func() bool { return d.Why(t.Context(), r.task.Token) == "" })
	r.stop(t)
	<-w.done
	if n := strings.Count(log.text(), back); n > strings.Count(log.text(), away) || n > 2 {
		t.Errorf("the log is\n%s", log.text())
	}
}
