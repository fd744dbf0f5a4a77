package cgroup_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/process/cgroup"
)

// ofGroups are the abilities that control groups may give.
var ofGroups = []navvy.Ability{
	navvy.AbilityCPUs, navvy.AbilityCPUShares, navvy.AbilityMemory, navvy.AbilityPIDs,
	navvy.AbilityReadBPS, navvy.AbilityWriteBPS, navvy.AbilityReadIOPS, navvy.AbilityWriteIOPS,
}

// TestAbilities holds what is found against what this host is known to have.
func TestAbilities(t *testing.T) {
	tree := open(t)
	t.Logf("%s: enforces %q, lacks %q", tree.Version(), tree.Enforces(), tree.Lacks())
	for want := range strings.SplitSeq(os.Getenv(envAbilities), ",") {
		if slices.Contains(ofGroups, navvy.Ability(want)) && !slices.Contains(tree.Enforces(), navvy.Ability(want)) {
			t.Errorf("%s is not enforced: %s", want, tree.Lacks())
		}
	}
}

// TestBornInside starts processes that say in which groups they begin.
func TestBornInside(t *testing.T) {
	tree := open(t)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 25 {
				bornInside(t, tree)
			}
		})
	}
	all.Wait()
}

var serial struct {
	sync.Mutex
	n int
}

func uniqueName() string {
	serial.Lock()
	defer serial.Unlock()
	serial.n++
	return "g" + strconv.Itoa(serial.n)
}

func bornInside(t *testing.T, tree *cgroup.Tree) {
	g, err := tree.New(uniqueName(), &navvy.Limits{}, "/")
	if err != nil {
		t.Error(err)
		return
	}
	c := exec.Command("cat", "/proc/self/cgroup")
	c.SysProcAttr = &syscall.SysProcAttr{}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Error(err)
		return
	}
	if err := g.Fork(c.SysProcAttr, c.Start); err != nil {
		t.Error(err)
		return
	}
	raw := make([]byte, 4096)
	n, _ := out.Read(raw)
	if err := c.Wait(); err != nil {
		t.Error(err)
	}
	if got := strings.Count(string(raw[:n]), "/"+g.Name()+"\n"); got != g.Parts() {
		t.Errorf("it began outside of %s:\n%s", g.Name(), raw[:n])
	}
	if err := g.Remove(); err != nil {
		t.Error(err)
	}
}

// TestCores lets a process that wants two cores have a tenth of one, which even
// a busy machine would give it.
func TestCores(t *testing.T) {
	tree := open(t, navvy.AbilityCPUs)
	const wall = 3 * time.Second
	r := start(t, tree, navvy.Limits{CPUs: 100}, "/", "spin "+wall.String())
	r.wait(t)
	u := r.group.Usage()
	t.Logf("used %s of %s, throttled for %s", u.CPU(), wall, u.Throttled)
	if u.CPU() > wall/5 || u.CPU() < wall/40 {
		t.Errorf("a tenth of a core for %s was %s", wall, u.CPU())
	}
	if u.Throttled <= 0 {
		t.Error("it was not throttled")
	}
}

func TestMemory(t *testing.T) {
	tree := open(t, navvy.AbilityMemory)
	const limit = 64 << 20
	fits := start(t, tree, navvy.Limits{Memory: limit}, "/", "eat "+strconv.Itoa(limit/2))
	fits.wait(t)
	if u := fits.group.Usage(); u.OOMKills != 0 || u.MaxMemory < limit/2 || u.MaxMemory > limit {
		t.Errorf("half of the memory: %+v", u)
	}
	fails := start(t, tree, navvy.Limits{Memory: limit}, "/", "eat "+strconv.Itoa(limit*2))
	if err := fails.cmd.Wait(); err == nil {
		t.Error("twice the memory was had")
	}
	// Version 1 counts what was asked for before it refuses.
	if u := fails.group.Usage(); u.OOMKills == 0 || u.MaxMemory > limit+1<<20 {
		t.Errorf("twice the memory: %+v", u)
	}
}

// TestMemoryOfAll has a child run out of memory: nothing of the group is left.
func TestMemoryOfAll(t *testing.T) {
	tree := open(t, navvy.AbilityMemory)
	const limit = 64 << 20
	r := start(t, tree, navvy.Limits{Memory: limit}, "/", "child eat "+strconv.Itoa(limit*2))
	if _, err := r.group.WatchOOM(within(t)); err != nil {
		t.Fatal(err)
	}
	if err := r.group.AwaitEmpty(within(t)); err != nil {
		t.Fatal(err)
	}
	if err := r.cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("the parent of the process that was killed: %v, %s", err, r.out)
	}
}

// TestBomb bounds what a fork bomb can start, and ends all of it.
func TestBomb(t *testing.T) {
	tree := open(t, navvy.AbilityPIDs)
	const limit = 40
	r := start(t, tree, navvy.Limits{PIDs: limit}, "/", "bomb 200")
	deadline := time.Now().Add(patience)
	for r.group.Usage().MaxPIDs < limit && time.Now().Before(deadline) {
		pause(10 * time.Millisecond)
	}
	if n := r.group.Usage().MaxPIDs; n != limit {
		t.Errorf("%d processes and threads at once, want %d", n, limit)
	}
	if err := r.group.Kill(); err != nil {
		t.Error(err)
	}
	if err := r.group.AwaitEmpty(within(t)); err != nil {
		t.Error(err)
	}
	if err := r.cmd.Wait(); err == nil {
		t.Error("the bomb ended well")
	}
}

// TestDisk reads and writes with each limit of disks, and without: what would take
// two seconds at the limit takes them, less what the kernel lets through at first.
func TestDisk(t *testing.T) {
	for _, tc := range []struct {
		ability navvy.Ability
		limits  navvy.Limits
		work    string
		counted func(navvy.Usage) int64 // bytes that must be 8 MiB at least; nil: too few to matter
	}{
		{navvy.AbilityWriteBPS, navvy.Limits{WriteBPS: 4 << 20}, "write 8 1048576", func(u navvy.Usage) int64 { return u.Written }},
		{navvy.AbilityReadBPS, navvy.Limits{ReadBPS: 4 << 20}, "read 8 1048576", func(u navvy.Usage) int64 { return u.Read }},
		{navvy.AbilityWriteIOPS, navvy.Limits{WriteIOPS: 20}, "write 40 4096", nil},
		{navvy.AbilityReadIOPS, navvy.Limits{ReadIOPS: 20}, "read 40 4096", nil},
	} {
		t.Run(string(tc.ability), func(t *testing.T) {
			tree := open(t, tc.ability)
			free, _ := diskWork(t, tree, navvy.Limits{}, tc.work)
			bound, used := diskWork(t, tree, tc.limits, tc.work)
			t.Logf("%s: %s without a limit, %s with", tc.work, free, bound)
			if bound < 1500*time.Millisecond || bound < free {
				t.Errorf("%s took %s, and %s without a limit", tc.work, bound, free)
			}
			if tc.counted != nil && tc.counted(used) < 8<<20 {
				t.Errorf("%+v counted, want 8 MiB", used)
			}
		})
	}
}

// diskWork runs the work on a file of its own, since version 2 counts what is written
// to the group that began the file, and tells how long it took.
func diskWork(t *testing.T, tree *cgroup.Tree, l navvy.Limits, work string) (time.Duration, navvy.Usage) {
	t.Helper()
	dir := diskDir(t)
	file := filepath.Join(dir, uniqueName())
	t.Cleanup(func() { _ = os.Remove(file) })
	if strings.HasPrefix(work, "read") {
		if err := os.WriteFile(file, make([]byte, 8<<20), 0o600); err != nil {
			t.Fatal(err)
		}
		unix.Sync()
	}
	r := start(t, tree, l, dir, work+" "+file)
	ms, err := strconv.Atoi(r.wait(t))
	if err != nil {
		t.Fatal(err)
	}
	return time.Duration(ms) * time.Millisecond, r.group.Usage()
}

// TestShares has two groups compete for one processor, one with 16 times the
// share of the other, and looks at what each gets while both are at it.
func TestShares(t *testing.T) {
	tree := open(t, navvy.AbilityCPUShares)
	many := start(t, tree, navvy.Limits{CPUShares: 2048}, "/", "compete")
	few := start(t, tree, navvy.Limits{CPUShares: 128}, "/", "compete")
	const begun, enough = 100 * time.Millisecond, time.Second // the first is more than the start of a process takes
	awaitUse(t, begun, func() time.Duration { return min(many.group.Usage().CPU(), few.group.Usage().CPU()) })
	a, b := many.group.Usage().CPU(), few.group.Usage().CPU()
	awaitUse(t, a+b+enough, func() time.Duration { return many.group.Usage().CPU() + few.group.Usage().CPU() })
	a, b = many.group.Usage().CPU()-a, few.group.Usage().CPU()-b
	t.Logf("used %s and %s", a, b)
	if a < 2*b {
		t.Errorf("16 times the share got %s, and the other one %s", a, b)
	}
}

// awaitUse waits until so much time of processors has been used.
func awaitUse(t *testing.T, want time.Duration, used func() time.Duration) {
	t.Helper()
	for deadline := time.Now().Add(patience); used() < want; pause(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s of the processor's time was used within %s, not %s", used(), patience, want)
		}
	}
}

// TestThrottledEnd kills a writer that would need minutes for what it has begun to sync.
func TestThrottledEnd(t *testing.T) {
	tree := open(t, navvy.AbilityWriteBPS, navvy.AbilityCPUs)
	dir := diskDir(t)
	file := filepath.Join(dir, uniqueName())
	t.Cleanup(func() { _ = os.Remove(file) })
	r := start(t, tree, navvy.Limits{WriteBPS: 32 << 10, CPUs: 500}, dir, "write 8 1048576 "+file)
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		if info, err := os.Stat(file); err == nil && info.Size() > 0 {
			break
		}
		pause(10 * time.Millisecond)
	}
	pause(time.Second) // it waits for the disk, for 30 s a megabyte
	begun := time.Now()
	if err := r.group.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := r.group.AwaitEmpty(within(t)); err != nil {
		t.Fatal(err)
	}
	t.Logf("ended after %s", time.Since(begun))
	if took := time.Since(begun); took > 20*time.Second {
		t.Errorf("its end took %s, as long as the disk did", took)
	}
	if err := r.cmd.Wait(); err == nil {
		t.Error("the writer came to its end")
	}
}

// diskDir is a directory on a disk; NAVVY_TEST_DISK names one.
func diskDir(t *testing.T) string {
	t.Helper()
	if dir := os.Getenv("NAVVY_TEST_DISK"); dir != "" {
		return dir
	}
	return t.TempDir()
}

func TestNames(t *testing.T) {
	tree := open(t)
	for _, name := range []string{"", ".", "..", "a/b", "../x", "a\nb"} {
		if _, err := tree.New(name, &navvy.Limits{}, "/"); !errors.Is(err, navvy.ErrInvalid) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestNoDisk(t *testing.T) {
	tree := open(t, navvy.AbilityWriteBPS)
	_, err := tree.New("g", &navvy.Limits{WriteBPS: 1 << 20}, "/proc")
	if !errors.Is(err, navvy.ErrUnsupported) || !strings.Contains(err.Error(), "/proc is on proc") {
		t.Errorf("a limit of I/O in /proc: %v", err)
	}
	if _, err := tree.Find("g"); !errors.Is(err, navvy.ErrNotFound) {
		t.Errorf("the group that could not be had: %v", err)
	}
}

// TestLeft has a tree find what an earlier one of its name has left, running.
func TestLeft(t *testing.T) {
	tree := open(t)
	r := start(t, tree, navvy.Limits{}, "/", "sleep 1m")
	cgroup.Open(&cgroup.Options{Name: "navvy-test-" + strconv.Itoa(os.Getpid()) + "-" + strings.ToLower(t.Name())})
	if err := r.cmd.Wait(); err == nil {
		t.Error("the process was not killed")
	}
	if _, err := tree.Find(r.group.Name()); !errors.Is(err, navvy.ErrNotFound) {
		t.Errorf("its group: %v", err)
	}
}

// TestSwept has a tree go on whose place was taken for a dead one's.
func TestSwept(t *testing.T) {
	tree := open(t)
	if err := tree.Close(); err != nil { // as the other one does it
		t.Fatal(err)
	}
	if got := start(t, tree, navvy.Limits{}, "/", "nothing").wait(t); got != "" {
		t.Errorf("it printed %q", got)
	}
}

// TestSweptWhileInUse makes groups in a tree, several at once, while others
// of its family come and sweep: each group has what it needs all the same.
func TestSweptWhileInUse(t *testing.T) {
	tree := open(t, navvy.AbilityPIDs)
	stop := make(chan bool)
	var sweepers, makers sync.WaitGroup
	sweepers.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				tree.Sweep()
			}
		}
	})
	for range 4 {
		makers.Go(func() {
			for range 100 {
				g, err := tree.New(uniqueName(), &navvy.Limits{PIDs: 10}, "/")
				if err != nil {
					t.Error(err)
					return
				}
				if err := g.Remove(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	makers.Wait()
	close(stop)
	sweepers.Wait()
}

func TestAwaitEmpty(t *testing.T) {
	tree := open(t)
	r := start(t, tree, navvy.Limits{}, "/", "sleep 100ms")
	done := make(chan error)
	go func() { done <- r.group.AwaitEmpty(within(t)) }()
	r.wait(t)
	if err := <-done; err != nil {
		t.Error(err)
	}
}
