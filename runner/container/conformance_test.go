package container_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/container"
	"github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/runner/driver/drivertest"
	"github.com/navvy-run/navvy/test/kube/kubetest"
)

func TestMain(m *testing.M) { kubetest.Main(m) }

// open returns a driver on the cluster of tests, as its administrator unless the options
// say otherwise.
func open(tb testing.TB, namespace string, o container.Options) *container.Driver {
	tb.Helper()
	if o.Kubeconfig == "" {
		o.Kubeconfig = kubetest.Open(tb).Admin().Kubeconfig
	}
	o.Namespace = namespace
	o.Render = func(t *driver.Task) ([]string, error) { return t.Spec.Container.Command.Args, nil }
	d, err := container.New(&o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = d.Close() })
	return d
}

// shell is a spec that runs a shell script in a container.
func shell(script string) *navvy.Spec {
	return &navvy.Spec{
		Grace:     30 * time.Second,
		Container: &navvy.Container{Image: kubetest.Image, Command: navvy.Command{Args: []string{script}, Shell: true}},
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	cluster := kubetest.Open(t)
	drivertest.Run(t, func(t testing.TB) drivertest.Harness {
		namespace := cluster.Namespace(t)
		return drivertest.Harness{
			Open: func(tb testing.TB) driver.Driver {
				return open(tb, namespace, container.Options{ImagePatience: time.Second})
			},
			Spec: specOf, OneStream: true, Many: 20, Patience: kubetest.Patience,
		}
	})
}

// specOf makes a shell script that does the work.
func specOf(w drivertest.Work) (*navvy.Spec, bool) {
	switch w.Refuse {
	case "":
	case navvy.ReasonNotFound:
		s := shell("")
		s.Container.Entrypoint, s.Container.Command = []string{"/no/such/program"}, navvy.Command{}
		return s, true
	case navvy.ReasonPermission:
		s := shell("")
		s.Container.Entrypoint, s.Container.Command = []string{"/etc/passwd"}, navvy.Command{}
		return s, true
	default:
		return nil, false
	}
	var script strings.Builder
	switch {
	case w.Stubborn:
		script.WriteString("trap '' TERM\n")
	case w.Hang:
		fmt.Fprintf(&script, "trap 'exit %d' TERM\n", w.OnStop)
	}
	for i, text := range []string{w.Stdout, w.Stderr} {
		if text == "" {
			continue
		}
		script.WriteString("printf '")
		for _, b := range []byte(text) {
			fmt.Fprintf(&script, `\%03o`, b)
		}
		fmt.Fprintf(&script, "' >&%d\n", i+1)
	}
	if w.Pattern > 0 {
		// The runtime may lose what is in a pipe when its container ends: containerd 1.6 does.
		fmt.Fprintf(&script, "yes 0123456789 | head -c %d\nsleep 0.5\n", w.Pattern)
	}
	switch {
	case w.Hang:
		script.WriteString("sleep 1000000 &\nwait\n")
	case w.Signal != 0: // what is the first in its container ignores what it sends to itself
		fmt.Fprintf(&script, "sh -c 'kill -%d $$'\nexit $?\n", w.Signal)
	}
	fmt.Fprintf(&script, "exit %d\n", w.Exit)
	return shell(script.String()), true
}
