package ssh_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/cluster/ssh/sshdtest"
)

// A host that is gone for good, and is forgotten while the rest of its cluster goes on, leaves
// nothing with that: its workers are let in no more, whether they were moved or are no longer
// wanted, and no tunnel leads there.
func TestForgottenAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	c := w.cluster("alone", 4)
	w.up(c)
	w.well(c)
	before := w.workers(c.Name)
	lost := w.net.Hosts[1]
	lost.Stop(t)
	t.Cleanup(func() { clearHost(t, lost, c.Name) })
	c.SSH.Hosts, c.Workers.Count = c.SSH.Hosts[:1], 2 // the second is moved, the fourth is not wanted
	if err := w.apply(c); !errors.Is(err, navvy.ErrUnavailable) {
		t.Fatalf("a host that does not answer is left: %v", err)
	}
	for name, good := range w.workers(c.Name) {
		if _, was := before[name]; good && was && strings.Contains(name, "worker-002") {
			t.Errorf("%s was moved, and is let in still", name)
		}
	}
	if err := os.Remove(filepath.Join(w.clusterDir(c.Name), "made", "host-"+lost.Name()+".json")); err != nil {
		t.Fatal(err)
	}
	if err := w.apply(c); err != nil {
		t.Fatal(err)
	}
	w.well(c)
	good := 0
	for name, is := range w.workers(c.Name) {
		if is {
			good++
			if strings.Contains(name, "worker-004") || strings.Contains(name, "worker-003") {
				t.Errorf("%s is let in still", name)
			}
		}
	}
	if good != 2 {
		t.Errorf("%d are let in", good)
	}
	dir := filepath.Join(w.clusterDir(c.Name), "elsewhere", "tunnels")
	if text, err := os.ReadFile(filepath.Join(dir, "table.json")); err != nil || strings.Contains(string(text), lost.Name()) {
		t.Errorf("a tunnel leads to it: %s %v", text, err)
	}
	w.until(func() bool {
		left, _ := filepath.Glob(filepath.Join(dir, strings.ReplaceAll(lost.Name(), ":", "_")+"*"))
		return len(left) == 0
	})
}

// workers are those that the server of a cluster has ever let in, and whether it would still.
func (w *world) workers(cluster string) map[string]bool {
	w.t.Helper()
	c := client.New(w.conn(cluster))
	all := map[string]bool{}
	for cert, err := range c.Certificates(w.ctx(), "") {
		if err != nil {
			w.t.Fatal(err)
		}
		if cert.Role == "worker" {
			all[cert.Name] = all[cert.Name] || cert.Revoked.IsZero()
		}
	}
	fleet, err := c.Fleet(w.ctx())
	if err != nil {
		w.t.Fatal(err)
	}
	for i := range fleet {
		if name := fleet[i].Name; !all[name] && strings.HasPrefix(name, cluster+"-") {
			w.t.Errorf("%s is listed, and not let in", name)
		}
	}
	return all
}

// clearHost removes by hand what is on a host of a cluster that nobody knows any more.
func clearHost(t *testing.T, h *sshdtest.Host, cluster string) {
	t.Helper()
	for _, pid := range pids(hostDir(h, cluster) + "/") {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	if err := os.RemoveAll(filepath.Dir(hostDir(h, cluster))); err != nil {
		t.Error(err)
	}
}
