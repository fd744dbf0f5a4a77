package process_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/process"
	"github.com/navvy-run/navvy/runner/process/cgroup"
)

// envAlone makes the test binary, started again, run one of alone.
const envAlone = "NAVVY_TEST_ALONE"

// alone are tests that need a process of their own, whose files and children
// they can count. An error is a failure.
var alone = map[string]func() error{"halfway": halfway, "leftovers": leftovers}

// runAlone runs one of alone.
func runAlone(t *testing.T, name string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), self)
	c.Env = append(os.Environ(), envAlone+"="+name)
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Logf("%s", out)
}

// TestGroupHalfway lets a start fail at each step that opens something, in a process
// of its own that may open one file more at each try: no failure leaves anything.
func TestGroupHalfway(t *testing.T) {
	t.Parallel()
	tree(t)
	runAlone(t, "halfway")
}

// halfway is the process of TestGroupHalfway.
func halfway() error {
	groups := cgroup.Open(&cgroup.Options{Name: "navvy-test-halfway-" + strconv.Itoa(os.Getpid())})
	var none unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &none); err != nil {
		return err
	}
	try := func(most uint64) error {
		limit := none
		if most > 0 {
			limit.Cur = most
		}
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			return err
		}
		c := script("exit 0")
		c.Input, c.Groups, c.Name, c.Limits = []byte("in"), groups, "g", anyLimit(groups)
		c.Stdout, c.Stderr = &strings.Builder{}, &strings.Builder{}
		p, err := process.Start(c)
		return errors.Join(unix.Setrlimit(unix.RLIMIT_NOFILE, &none), err, ended(p))
	}
	if err := try(0); err != nil { // what is opened once and for all
		return err
	}
	before := openFiles()
	for failures, most := 0, uint64(1); ; most++ {
		err := try(most)
		if n := openFiles(); n != before {
			return fmt.Errorf("%d files are open, %d were before: %w", n, before, err)
		}
		if _, found := groups.Find("g"); !errors.Is(found, navvy.ErrNotFound) {
			return fmt.Errorf("after %w: the group is left: %w", err, found)
		}
		if _, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); err != unix.ECHILD {
			return fmt.Errorf("a process is left: %w", err)
		}
		if err == nil {
			if failures < 4 {
				return fmt.Errorf("only %d starts failed", failures)
			}
			return groups.Close()
		}
		failures++
		_, _ = fmt.Fprintln(os.Stdout, err)
	}
}

func ended(p *process.Process) error {
	if p == nil {
		return nil
	}
	_, err := p.Wait(context.Background())
	return err
}

// anyLimit is a limit that the tree enforces.
func anyLimit(groups *cgroup.Tree) navvy.Limits {
	if slices.Contains(groups.Enforces(), navvy.AbilityPIDs) {
		return navvy.Limits{PIDs: 100}
	}
	return navvy.Limits{}
}

func openFiles() int {
	entries, _ := os.ReadDir("/proc/self/fd")
	return len(entries)
}
