package cgroup_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/process/cgroup"
)

// envWork makes the test binary, started again, do some work instead of testing.
const envWork = "NAVVY_TEST_WORK"

// envAbilities lists what this host is known to enforce, with commas between:
// tests for it then fail where they would skip.
const envAbilities = "NAVVY_TEST_ABILITIES"

func TestMain(m *testing.M) {
	if line := os.Getenv(envWork); line != "" {
		name, argument, _ := strings.Cut(line, " ")
		if err := work(os.Stdout, name, argument); err != nil {
			_, _ = fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

func command(work string) *exec.Cmd {
	c := exec.Command("/proc/self/exe")
	c.Env = []string{envWork + "=" + work}
	return c
}

// patience bounds each wait of these tests, on slow machines too.
const patience = 60 * time.Second

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// open opens a tree that has the abilities, and skips the test where there is none.
func open(t *testing.T, needs ...navvy.Ability) *cgroup.Tree {
	t.Helper()
	name := "navvy-test-" + strconv.Itoa(os.Getpid()) + "-" + strings.ReplaceAll(strings.ToLower(t.Name()), "/", "-")
	tree := cgroup.Open(&cgroup.Options{Name: name})
	t.Cleanup(func() {
		if err := tree.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, a := range needs {
		if slices.Contains(tree.Enforces(), a) {
			continue
		}
		if slices.Contains(strings.Split(os.Getenv(envAbilities), ","), string(a)) {
			t.Fatalf("this host is said to enforce %s: %s", a, tree.Lacks())
		}
		t.Skipf("this host does not enforce %s: %s", a, tree.Lacks())
	}
	if tree.Version() == "none" {
		if os.Getenv(envAbilities) != "" {
			t.Fatal(tree.Lacks())
		}
		t.Skip(tree.Lacks())
	}
	return tree
}

// running is a process in a group.
type running struct {
	group *cgroup.Group
	cmd   *exec.Cmd
	out   *bytes.Buffer
}

// start runs this binary in a group with the limits.
func start(t *testing.T, tree *cgroup.Tree, l navvy.Limits, dir, work string) *running {
	t.Helper()
	g, err := tree.New("group-"+strconv.Itoa(int(time.Now().UnixNano()%1e9)), &l, dir)
	if err != nil {
		t.Fatal(err)
	}
	r := &running{group: g, cmd: command(work), out: &bytes.Buffer{}}
	r.cmd.Stdout = r.out
	r.cmd.SysProcAttr = &syscall.SysProcAttr{}
	if err := g.Fork(r.cmd.SysProcAttr, r.cmd.Start); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.End(context.Background()); err != nil {
			t.Error(err)
		}
		_ = r.cmd.Wait()
	})
	return r
}

// wait waits for the end of the process and returns what it printed.
func (r *running) wait(t *testing.T) string {
	t.Helper()
	if err := r.cmd.Wait(); err != nil {
		t.Fatalf("%v: %s", err, r.out)
	}
	return strings.TrimSpace(r.out.String())
}

// startHost runs the work host in the group, and returns what it reads from and its answers.
func startHost(t *testing.T, g *cgroup.Group) (*exec.Cmd, io.WriteCloser, *bufio.Scanner) {
	t.Helper()
	c := command("host")
	c.SysProcAttr = &syscall.SysProcAttr{}
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Fork(c.SysProcAttr, c.Start); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.End(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return c, in, bufio.NewScanner(out)
}
