package process_test

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/runner/driver/drivertest"
	"github.com/navvy-run/navvy/runner/process"
	"github.com/navvy-run/navvy/runner/process/cgroup"
)

var trees, names atomic.Int64

// tree opens a place for control groups, and skips the test where it enforces too little.
func tree(t testing.TB, needs ...navvy.Ability) *cgroup.Tree {
	t.Helper()
	groups := cgroup.Open(&cgroup.Options{
		Name: "navvy-test-process-" + strconv.Itoa(os.Getpid()) + "-" + strconv.FormatInt(trees.Add(1), 10),
	})
	t.Cleanup(func() {
		err := groups.Close()
		for begun := time.Now(); err != nil && time.Since(begun) < drivertest.Patience; err = groups.Close() {
			time.Sleep(time.Millisecond) //nolint:forbidigo // nothing tells when what nobody waits for is collected
		}
		if err != nil {
			t.Errorf("a group is left: %v", err)
		}
	})
	for _, a := range needs {
		if !slices.Contains(groups.Enforces(), a) {
			mustNot(t, string(a), groups.Lacks())
			t.Skipf("this host does not enforce %s: %s", a, groups.Lacks())
		}
	}
	if groups.Version() == "none" {
		mustNot(t, "", groups.Lacks())
		t.Skip(groups.Lacks())
	}
	return groups
}

// mustNot fails a test that would skip where NAVVY_TEST_ABILITIES says that the
// host has the ability; an empty one is any.
func mustNot(t testing.TB, ability, lacks string) {
	t.Helper()
	if list := os.Getenv("NAVVY_TEST_ABILITIES"); list != "" && strings.Contains(list, ability) {
		t.Fatalf("this host is said to enforce %s: %s", list, lacks)
	}
}

// limited is the configuration of a shell script with limits.
func limited(groups *cgroup.Tree, l navvy.Limits, line string) *process.Config {
	c := script(line)
	c.Limits, c.Groups, c.Name = l, groups, "g"+strconv.FormatInt(names.Add(1), 10)
	return c
}

// TestGroupEscapes stops processes that do all they can not to be found.
func TestGroupEscapes(t *testing.T) {
	t.Parallel()
	groups := tree(t)
	for name, line := range map[string]string{
		"setsid":         "setsid sleep 1000 & sleep 1000",
		"double fork":    "(setsid sh -c 'sleep 1000 & sleep 1000 &' &) ; sleep 1000",
		"ignores":        "trap '' TERM INT HUP; setsid sh -c \"trap '' TERM; sleep 1000; sleep 1000\" & sleep 1000; sleep 1000",
		"stopped":        "setsid sh -c 'kill -STOP $$' & sleep 1000",
		"no environment": "env -i setsid sleep 1000 & sleep 1000",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := process.Start(limited(groups, navvy.Limits{}, line))
			if err != nil {
				t.Fatal(err)
			}
			time.AfterFunc(100*time.Millisecond, func() { _ = p.Stop(true) })
			wait(t, p)
		})
	}
}

// TestGroupDescendants keeps a process over until what it started with setsid is.
func TestGroupDescendants(t *testing.T) {
	t.Parallel()
	groups := tree(t)
	start := time.Now()
	run(t, limited(groups, navvy.Limits{}, "setsid sleep 0.3 & exit 0"))
	if took := time.Since(start); took < 300*time.Millisecond {
		t.Errorf("over after %s, when a descendant still ran", took)
	}
}

func TestGroupMemory(t *testing.T) {
	t.Parallel()
	groups := tree(t, navvy.AbilityMemory)
	const limit = 64 << 20
	c := limited(groups, navvy.Limits{Memory: limit}, "/proc/self/exe; sleep 1000")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c.Args = []string{"/bin/sh", "-c", self + "; sleep 1000"} // who waits for the one that is killed
	c.Env = append(c.Env, envEat+"="+strconv.Itoa(2*limit))
	end := run(t, c)
	if end.Usage.OOMKills == 0 || end.Exit.Signal != 9 || end.Usage.MaxMemory > limit+1<<20 {
		t.Errorf("ended with %+v", end)
	}
}

func TestGroupUsage(t *testing.T) {
	t.Parallel()
	groups := tree(t, navvy.AbilityPIDs)
	end := run(t, limited(groups, navvy.Limits{PIDs: 100}, "for i in 1 2 3; do sleep 0.1 & done; wait"))
	if end.Usage.MaxPIDs < 4 || end.Usage.CPU() <= 0 {
		t.Errorf("used %+v", end.Usage)
	}
}

// TestRefusedLimits has limits refused, not ignored.
func TestRefusedLimits(t *testing.T) {
	t.Parallel()
	c := script("exit 0")
	c.Limits = navvy.Limits{Memory: 1 << 30}
	_, err := process.Start(c)
	var refusal *driver.Refusal
	if !errors.As(err, &refusal) || !strings.Contains(refusal.Message, "limit memory") {
		t.Errorf("a limit without control groups: %v", err)
	}
}

// TestGroupRecover ends what hides from the token and from the process group.
func TestGroupRecover(t *testing.T) {
	t.Parallel()
	groups := tree(t)
	c := limited(groups, navvy.Limits{}, "env -i setsid sleep 1000 & echo; exec sleep 1000")
	r, w := io.Pipe()
	c.Stdout = w
	p, err := process.Start(c)
	if err != nil {
		t.Fatal(err)
	}
	d := process.NewDriver(&process.Options{Groups: groups})
	recovered := make(chan error, 1)
	go func() {
		// A shell that is still to fork may be told that it can't, and end by itself.
		_, err := r.Read(make([]byte, 1))
		if err == nil {
			_, err = d.Recover(t.Context(), nil, &driver.Task{Token: c.Name})
		}
		recovered <- err
	}()
	if end := wait(t, p); end.Exit.Signal != 9 {
		t.Errorf("the main process ended with %+v", end.Exit)
	}
	_ = w.Close() // nobody waits for what it has not written
	if err := <-recovered; !errors.Is(err, navvy.ErrNotFound) {
		t.Error(err)
	}
	if _, err := groups.Find(c.Name); !errors.Is(err, navvy.ErrNotFound) {
		t.Errorf("its group: %v", err)
	}
}

// TestGroupManyStarts starts a thousand at once and stops half of them at once.
func TestGroupManyStarts(t *testing.T) {
	t.Parallel()
	groups := tree(t)
	const n = 1000
	ends := make(chan error, n)
	for i := range n {
		go func() {
			p, err := process.Start(limited(groups, navvy.Limits{}, "sleep 0.0"+strconv.Itoa(i%10)))
			if err != nil {
				ends <- err
				return
			}
			if i%2 == 0 {
				_ = p.Stop(i%4 == 0)
				_ = p.Stop(true)
			}
			ctx, cancel := context.WithTimeout(context.Background(), 3*drivertest.Patience)
			defer cancel()
			_, err = p.Wait(ctx)
			ends <- err
		}()
	}
	for range n {
		if err := <-ends; err != nil {
			t.Error(err)
		}
	}
}
