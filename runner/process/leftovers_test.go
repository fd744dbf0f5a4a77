package process_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/process"
	"github.com/navvy-run/navvy/runner/process/cgroup"
	"github.com/navvy-run/navvy/runner/process/isolate"
)

// TestGroupLeftovers runs ten thousand processes, of which nothing is left: no
// process, no open file, no mount, no directory, no control group.
func TestGroupLeftovers(t *testing.T) {
	t.Parallel()
	tree(t)
	runAlone(t, "leftovers")
}

// leftovers is the process of TestGroupLeftovers.
func leftovers() error {
	n := 10_000
	if os.Getenv("NAVVY_TEST_VM") != "" {
		n = 500 // a thousandth of a second each, but for an emulated machine
	}
	l, err := newLitter()
	if err != nil {
		return err
	}
	for i := range int64(2) { // what is opened once and for all
		if err := l.runOne(i); err != nil {
			return err
		}
	}
	files, mounts := openFiles(), mountCount()
	var next atomic.Int64
	var all sync.WaitGroup
	failed := make(chan error, 8)
	for range cap(failed) {
		all.Go(func() {
			for i := next.Add(1); i <= int64(n); i = next.Add(1) {
				if err := l.runOne(i); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	all.Wait()
	close(failed)
	err = errors.Join(<-failed, l.left())
	// The poller may have woken meanwhile, and each who waits has a file to wait with, which is kept.
	if now := openFiles(); now > files+1+cap(failed) {
		err = errors.Join(err, fmt.Errorf("%d files are open, %d were before", now, files))
	}
	if now := mountCount(); now != mounts {
		err = errors.Join(err, fmt.Errorf("%d mounts, %d were before", now, mounts))
	}
	if pid, wait := unix.Wait4(-1, nil, unix.WNOHANG, nil); wait != unix.ECHILD {
		err = errors.Join(err, fmt.Errorf("a child is left, %d: %w", pid, wait))
	}
	return err
}

// litter is where processes run that could leave something.
type litter struct {
	groups *cgroup.Tree
	plan   *isolate.Plan // nil where nothing can be isolated
	work   string
	dirs   *isolate.WorkDirs
	uid    int
}

func newLitter() (*litter, error) {
	l := &litter{groups: cgroup.Open(&cgroup.Options{Name: "navvy-test-leftovers-" + strconv.Itoa(os.Getpid())})}
	host := isolate.Open()
	if !slices.Contains(host.Abilities(), navvy.AbilityIsolate) {
		return l, nil
	}
	if host.Users() {
		l.uid = isolate.FirstUID + 100
	}
	var err error
	if l.plan, err = host.Plan(isolate.Box{Isolate: true, UID: l.uid, Private: true}); err != nil {
		return nil, err
	}
	if l.work, err = os.MkdirTemp("", "navvy-test-"); err == nil {
		l.dirs, err = isolate.OpenWorkDirs(l.work)
	}
	return l, err
}

// runOne runs a process to its end: every second one isolated, in a directory of
// its own, and every fifth is killed when it may have left its process group.
func (l *litter) runOne(i int64) error {
	c := script("exit 3")
	if i%5 == 0 {
		c = script("setsid sleep 1000 & exit 3")
	}
	c.Groups, c.Name, c.Limits = l.groups, "g"+strconv.FormatInt(i, 10), anyLimit(l.groups)
	if isolated := i%2 == 0 && l.plan != nil; isolated {
		dir, err := l.dirs.Make(c.Name, l.uid)
		if err != nil {
			return err
		}
		c.Dir, c.Plan = dir, l.plan
		c.Args[2] = "echo x > file; " + c.Args[2]
	}
	p, err := process.Start(c)
	if err != nil {
		return err
	}
	if i%5 == 0 {
		if err := p.Stop(true); err != nil {
			return err
		}
	}
	end, err := p.Wait(context.Background())
	// Who is being killed may see before that it cannot fork any more.
	if err == nil && end.Exit.Code != 3 && i%5 != 0 {
		err = fmt.Errorf("process %d ended with %+v", i, end.Exit)
	}
	if c.Plan != nil {
		err = errors.Join(err, l.dirs.Remove(c.Name))
	}
	return err
}

// left tells of groups and directories that are left.
func (l *litter) left() error {
	err := l.groups.Close()
	if l.work != "" {
		err = errors.Join(err, os.Remove(l.work)) // which it can't if there is anything in it
	}
	return err
}

func mountCount() int {
	raw, _ := os.ReadFile("/proc/self/mountinfo")
	return bytes.Count(raw, []byte("\n"))
}
