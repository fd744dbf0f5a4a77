package chart_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/navvy-run/navvy/test/kube/kubetest"
)

// binary is the navvy that the image was made of, for this machine.
func binary(t *testing.T) string {
	t.Helper()
	arch := strings.TrimSpace(run(t, exec.Command("go", "env", "GOARCH")))
	path, err := filepath.Abs(filepath.Join(root, "bin", "navvy-linux-"+arch))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// forward forwards a port of this machine to the release's Service, for as long as the test
// runs, and gives its address.
func (r *release) forward() string {
	r.t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.t.Context()))
	whole := r.kubectl("port-forward", "service/navvy", ":7433")
	cmd := exec.CommandContext(ctx, whole.Args[0], whole.Args[1:]...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		r.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		cancel()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	port := regexp.MustCompile(`127\.0\.0\.1:(\d+) ->`).FindStringSubmatch(line)
	if err != nil || port == nil {
		r.t.Fatalf("port-forward says %q, %v", line, err)
	}
	return "localhost:" + port[1]
}

// user is somebody with a certificate of their own, on this machine.
func (r *release) user(name string) func(args ...string) *exec.Cmd {
	r.t.Helper()
	dir := r.t.TempDir()
	archive := run(r.t, r.navvy("cert", "issue", "--name", name, "--out", "-"))
	tar := exec.Command("tar", "-x", "-C", dir)
	tar.Stdin = strings.NewReader(archive)
	run(r.t, tar)
	server, program := r.forward(), binary(r.t)
	return func(args ...string) *exec.Cmd {
		cmd := exec.CommandContext(context.WithoutCancel(r.t.Context()), program, args...)
		at := func(file string) string { return filepath.Join(dir, file) }
		cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_CONFIG_HOME="+dir, "NAVVY_SERVER="+server,
			"NAVVY_CERT="+at(name+".crt"), "NAVVY_KEY="+at(name+".key"), "NAVVY_CA="+at("ca.crt"))
		return cmd
	}
}

// jobs are the Jobs of the release: names by their UIDs.
func (r *release) jobs() map[string]string {
	r.t.Helper()
	var list struct {
		Items []struct{ Metadata struct{ Name, UID string } }
	}
	if err := json.Unmarshal([]byte(run(r.t, r.kubectl("get", "jobs", "-o", "json"))), &list); err != nil {
		r.t.Fatal(err)
	}
	jobs := map[string]string{}
	for _, j := range list.Items {
		jobs[j.Metadata.UID] = j.Metadata.Name
	}
	return jobs
}

// A user's container runs on while all workers are replaced, and while the server is: one
// Job, one answer, its output whole. When the release goes the volume stays.
func TestLife(t *testing.T) {
	t.Parallel()
	c := open(t)
	r := install(t, c, "worker.replicas=0", "worker.drainSeconds=1")
	r.upgrade(1, "worker.drainSeconds=1")
	r.workers(1)
	ann := r.user("ann")
	const script = `echo begun; until test -e /tmp/go; do sleep 0.2; done; echo ended`
	id := strings.TrimSpace(run(t, ann("run", "-d", "--image", kubetest.Image, "-S", script)))
	began := func() {
		t.Helper()
		kubetest.Until(t, "it has begun", func() bool {
			out, err := output(ann("logs", id+"/0"))
			return err == nil && strings.Contains(out, "begun")
		})
	}
	began()
	before := r.jobs()
	if len(before) != 1 {
		t.Fatalf("there are the Jobs %v", before)
	}
	old := run(t, r.kubectl("get", "pods", "-l", "app.kubernetes.io/component=worker", "-o", "name"))
	start := time.Now()
	run(t, r.kubectl(append([]string{"delete"}, strings.Fields(old)...)...))
	t.Logf("the worker was gone after %s", time.Since(start))
	r.workers(1)
	kubetest.Until(t, "another worker has it", func() bool {
		out, err := output(ann("why", id+"/0"))
		return err == nil && strings.Contains(out, "interrupted, its worker has left") && strings.Contains(out, "runs on navvy-worker")
	})
	began()
	run(t, r.kubectl("delete", "pod", "navvy-server-0"))
	alias := r.serverIP() // workers know it by an address here, which is another one now
	r.helm("upgrade", fmt.Sprintf(`worker.hostAliases=[{"ip":%q,"hostnames":["navvy.%s.svc"]}]`, alias, r.namespace), "worker.replicas=1", "worker.drainSeconds=1")
	run(t, r.kubectl("rollout", "status", "deployment/navvy-worker", "--timeout=170s"))
	ann = r.again(ann)
	began()
	for uid, name := range r.jobs() {
		if before[uid] != name {
			t.Errorf("there is another Job, %s", name)
		}
		run(t, r.kubectl("exec", "job/"+name, "--", "touch", "/tmp/go"))
	}
	if out := run(t, ann("wait", id)); out != "" {
		t.Logf("wait says %s", out)
	}
	if out := run(t, ann("logs", id+"/0")); out != "begun\nended\n" {
		t.Errorf("its output is %q", out)
	}
	helm(t, "uninstall", "navvy", "--kubeconfig", c.Admin().Kubeconfig, "--namespace", r.namespace, "--wait")
	if out := run(t, r.kubectl("get", "pvc", "-o", "name")); out != "persistentvolumeclaim/data-navvy-server-0\n" {
		t.Errorf("what stays is %q", out)
	}
}

// again is the same user over a new way to the server, whose pod is another.
func (r *release) again(user func(...string) *exec.Cmd) func(args ...string) *exec.Cmd {
	r.t.Helper()
	server := r.forward()
	return func(args ...string) *exec.Cmd {
		cmd := user(args...)
		cmd.Env = append(cmd.Env, "NAVVY_SERVER="+server)
		return cmd
	}
}
