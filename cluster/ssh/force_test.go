package ssh_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh/agent"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/cluster"
	"github.com/navvy-run/navvy/cluster/driver"
	"github.com/navvy-run/navvy/cluster/ssh/sshdtest"
)

// A host that does not answer is called once by whoever changes a cluster, and not for each
// worker on it. Forced, the cluster goes without it: what stays there is told, with the command
// that removes it.
func TestForce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	c := w.cluster("forced", 6)
	no := false
	c.SSH.Server, c.SSH.Tunnel = "127.0.0.1", &no // a tunnel would call, too
	if err := w.apply(c); err != nil {
		t.Fatal(err)
	}
	w.well(c)
	lost := w.net.Hosts[1]
	lost.Stop(t)
	h := openHole(t, lost.Address())
	told, err := w.force(c.Name, h, false)
	if !errors.Is(err, navvy.ErrUnavailable) || !strings.Contains(err.Error(), "--force") || len(told) > 0 {
		t.Errorf("it is removed: %v", err)
	}
	told, err = w.force(c.Name, h, true)
	if err != nil || len(told) != 1 || !strings.Contains(told[0].Left, lost.Name()) {
		t.Fatalf("it is not removed: %v, and there is told %v", err, told)
	}
	h.close()
	lost.Start(t)
	if len(commands(hostDir(lost, c.Name)+"/")) == 0 {
		t.Error("nothing runs there any more")
	}
	w.byHand(told[0].ByHand)
	if left := w.left(c.Name); len(left) > 0 && (len(left) > 1 || left[0] != filepath.Dir(hostDir(lost, c.Name))) {
		t.Errorf("there is left %q", left)
	}
}

// Who has no key where the command runs, as from cron, loses no host by it, even forced: nobody
// was called, so that nothing is known of any.
func TestForceWithoutKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	good := sshdtest.ServeAgent(t, w.heldKey()) // it ends behind the cluster
	w.agent = good
	c := w.cluster("keyless", 1)
	c.SSH.Identity = ""
	w.up(c)
	w.well(c)
	for _, bad := range []string{sshdtest.ServeAgent(t, agent.NewKeyring()), good + "-not"} {
		w.agent = bad
		d := w.open()
		k := cluster.New(d, &cluster.Options{Who: "test", Lose: true, Force: true, Wait: patience, Tell: func(e cluster.Event) {
			if e.Phase == cluster.Forgotten {
				t.Errorf("%s is forgotten: %v", e.Change.ID, e.Err)
			}
		}})
		_, err := k.Destroy(w.ctx(), c.Name)
		if err := errors.Join(err, d.Close()); !errors.Is(err, navvy.ErrDenied) || !strings.Contains(err.Error(), "not even by --force") {
			t.Errorf("it is removed: %v", err)
		}
	}
	w.agent = good
	if len(commands(hostDir(w.net.Hosts[0], c.Name)+"/")) == 0 {
		t.Error("nothing runs there any more")
	}
}

// force destroys a cluster with a host that says nothing, and is called once; it gives what is
// told of what stays.
func (w *world) force(name string, h *hole, force bool) (told []*driver.AwayError, err error) {
	w.t.Helper()
	before := h.calls.Load()
	d := w.open()
	k := cluster.New(d, &cluster.Options{Who: "test", Lose: true, Force: force, Wait: patience, Tell: func(e cluster.Event) {
		if away, is := errors.AsType[*driver.AwayError](e.Err); is && e.Phase == cluster.Forgotten && away.Left != "" {
			told = append(told, away)
		}
	}})
	_, err = k.Destroy(w.ctx(), name)
	if n := h.calls.Load() - before; n != 1 {
		w.t.Errorf("forced %t: it is called %d times", force, n)
	}
	return told, errors.Join(err, d.Close())
}

// byHand runs a command that people are told, with the keys of the test.
func (w *world) byHand(command string) {
	w.t.Helper()
	const ssh = "ssh "
	rest, is := strings.CutPrefix(command, ssh)
	if _, err := exec.LookPath("ssh"); err != nil || !is {
		w.t.Fatalf("%q is run: %v", command, err)
	}
	out, err := exec.Command("sh", "-c", "exec ssh -i "+w.net.Identity+" -o IdentitiesOnly=yes -o UserKnownHostsFile="+w.net.KnownHosts+" "+rest).CombinedOutput()
	if err != nil {
		w.t.Errorf("%s: %v: %s", command, err, out)
	}
}

// The command forgets such hosts, too, and says what stays.
func TestForceCommand(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	home := w.home()
	c := w.cluster("told", 2)
	if err := w.apply(c); err != nil {
		t.Fatal(err)
	}
	lost := w.net.Hosts[0]
	lost.Stop(t)
	destroy := func(more ...string) (string, error) {
		cmd := w.command(home, append([]string{"cluster", "destroy", c.Name, "--yes", "--provider", "ssh"}, more...)...)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		err := cmd.Run()
		return out.String(), err
	}
	if said, err := destroy(); err == nil || !strings.Contains(said, "--force") {
		t.Errorf("without --force: %v: %s", err, said)
	}
	said, err := destroy("--force")
	_, rest, found := strings.Cut(said, "left on host "+lost.Name())
	_, command, _ := strings.Cut(rest, "\n  ")
	if command, _, _ = strings.Cut(command, "\n"); err != nil || !found {
		t.Fatalf("%v: %s", err, said)
	}
	if _, err := os.Stat(w.clusterDir(c.Name)); err == nil {
		t.Error("it is still there")
	}
	lost.Start(t)
	w.byHand(command)
	if left := commands(hostDir(lost, c.Name)); len(left) > 0 {
		t.Errorf("there is left %q", left)
	}
	w.up(c) // the place is free
}

// Of providers that have nothing which nobody reaches nothing is forgotten.
func TestForceElsewhere(t *testing.T) {
	t.Parallel()
	w := &world{t: t, state: t.TempDir(), net: &sshdtest.Net{}}
	out, err := w.command(t.TempDir(), "cluster", "destroy", "some", "--yes", "--force").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "provider ssh") {
		t.Errorf("%v: %s", err, out)
	}
}

// Whoever has lost what this machine knows of a cluster removes it as docs/cluster.md says, and
// has it again.
func TestStateLost(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	c, h := w.cluster("lost", 2), w.net.Hosts[0]
	if err := w.apply(c); err != nil {
		t.Fatal(err)
	}
	w.well(c)
	t.Cleanup(func() { clearHost(t, h, c.Name) })
	if err := os.RemoveAll(w.clusterDir(c.Name)); err != nil {
		t.Fatal(err)
	}
	docs, err := os.ReadFile("../../docs/cluster.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, _ := strings.Cut(string(docs), "**If this machine's directory of the cluster is lost**")
	_, block, _ = strings.Cut(block, "```sh\n")
	block, _, _ = strings.Cut(block, "```")
	here, there, found := strings.Cut(block, "\n")
	if !found {
		t.Fatalf("the commands are %q", block)
	}
	here = strings.ReplaceAll(here, "[n]avvy-ssh/NAME", "[/]"+w.clusterDir(c.Name)[1:]) // this test's alone
	if out, err := exec.Command("sh", "-c", here).CombinedOutput(); err != nil {
		t.Errorf("%s: %v: %s", here, err, out)
	}
	w.until(func() bool { return len(commands(w.clusterDir(c.Name)+"/")) == 0 })
	if err := w.apply(c); !errors.Is(err, navvy.ErrExists) {
		t.Errorf("what is on the host is taken: %v", err)
	}
	there = strings.ReplaceAll(strings.ReplaceAll(there, "/NAME/HOST", "/"+c.Name+"/"+filepath.Base(hostDir(h, c.Name))), "ssh HOST", "ssh -p "+strconv.Itoa(h.Port)+" "+w.net.User+"@127.0.0.1")
	w.byHand(strings.TrimSpace(there))
	if left := commands(hostDir(h, c.Name) + "/"); len(left) > 0 {
		t.Errorf("there runs %q", left)
	}
	w.up(c)
	w.well(c)
}
