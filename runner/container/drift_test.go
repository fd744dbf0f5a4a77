package container_test

import (
	"bytes"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/container"
	"github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/test/kube/kubetest"
)

// A Job whose task is stopped while the navvy that made it is dead is ended by the one that
// stops it. One that may go on is left alone.
func TestStopAfterDeath(t *testing.T) {
	t.Parallel()
	cluster := kubetest.Open(t)
	namespace := cluster.Namespace(t)
	dir := t.TempDir()
	navvy := func(args ...string) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), cluster.Navvy(t), args...)
		cmd.Env = append(os.Environ(), "NAVVY_DATA="+filepath.Join(dir, "data"), "KUBECONFIG="+cluster.Admin().Kubeconfig,
			"NAVVY_KUBE_NAMESPACE="+namespace, "HOME="+dir)
		var said bytes.Buffer
		cmd.Stdout, cmd.Stderr = &said, &said
		t.Cleanup(func() { t.Logf("navvy %v: %s", args, said.String()) })
		return cmd
	}
	first := navvy("run", "--image", kubetest.Image, "-S", "sleep 1000000")
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	var list struct {
		Items []struct {
			Metadata struct {
				Labels            map[string]string
				DeletionTimestamp string
			}
			Status struct{ Active int }
		}
	}
	look := func() {
		list.Items = nil
		cluster.Admin().Must(t, http.MethodGet, "/apis/batch/v1/namespaces/"+namespace+"/jobs", "", &list)
	}
	kubetest.Until(t, "it runs", func() bool { look(); return len(list.Items) == 1 && list.Items[0].Status.Active == 1 })
	if err := first.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = first.Wait() // it was killed
	id := list.Items[0].Metadata.Labels["navvy.run/job"]
	if err := navvy("run", "--", "true").Run(); err != nil {
		t.Error(err)
	}
	if look(); len(list.Items) != 1 || list.Items[0].Metadata.DeletionTimestamp != "" {
		t.Errorf("while its task is open there is %+v", list.Items)
	}
	if err := navvy("stop", id).Run(); err != nil {
		t.Error(err)
	}
	kubetest.Until(t, "it is gone", func() bool { look(); return len(list.Items) == 0 })
}

// Whoever shares an instance sees what others have left, and ends what is told to be wanted no
// more; not what another attempt has meanwhile.
func TestSweep(t *testing.T) {
	t.Parallel()
	namespace := kubetest.Open(t).Namespace(t)
	dead, alive := open(t, namespace, container.Options{}), open(t, namespace, container.Options{})
	if list := alive.Adrift(); len(list) != 0 {
		t.Errorf("before anything began %v is adrift", list)
	}
	left, taken := newTrial(shell(hang)).start(t, dead), newTrial(shell(hang)).start(t, dead)
	mine := newTrial(shell(hang)).start(t, alive)
	next := taken.again().start(t, alive)
	for _, r := range []*trial{left, mine, next} {
		want := r.task
		kubetest.Until(t, "it is seen", func() bool {
			for _, a := range alive.Adrift() {
				if a.Token == want.Token {
					return a.Task == want.ID
				}
			}
			return false
		})
	}
	for _, token := range []string{left.task.Token, taken.task.Token, "nobody's"} {
		if err := alive.Sweep(t.Context(), token); err != nil {
			t.Error(err)
		}
	}
	kubetest.Until(t, "what was left is gone", func() bool { return len(jobs(t, namespace)) == 2 })
	for _, r := range []*trial{mine, next} {
		w := r.wait(t)
		r.await(t, "begun")
		r.stop(t)
		<-w.done
		wantRefusal(t, w.end, w.err, navvy.ReasonStopped, "stopped")
	}
	done, _, err := run(t, dead, shell("exit 0"))
	if err != nil {
		t.Fatal(err)
	}
	seen := false
	kubetest.Until(t, "an end of which nobody was told is seen, and told", func() bool {
		is := slices.ContainsFunc(alive.Adrift(), func(a driver.Adrift) bool { return a.Token == done.task.Token })
		if is {
			seen = true
			if err := alive.Sweep(t.Context(), done.task.Token); err != nil {
				t.Fatal(err)
			}
		}
		return seen && !is
	})
}
