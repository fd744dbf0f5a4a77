package process_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy/runner/process"
	"github.com/navvy-run/navvy/runner/process/cgroup"
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
	groups := cgroup.Open(&cgroup.Options{Name: "navvy-test-leftovers-" + strconv.Itoa(os.Getpid())})
	if err := runOne(groups, 0); err != nil { // what is opened once and for all
		return err
	}
	files, mounts := openFiles(), mountCount()
	var next atomic.Int64
	var all sync.WaitGroup
	failed := make(chan error, 8)
	for range cap(failed) {
		all.Go(func() {
			for i := next.Add(1); i <= int64(n); i = next.Add(1) {
				if err := runOne(groups, i); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	all.Wait()
	close(failed)
	err := errors.Join(<-failed, groups.Close()) // which fails if a group is left
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

// runOne runs a process to its end. Every tenth leaves the process group, and is killed.
func runOne(groups *cgroup.Tree, i int64) error {
	c := script("exit 3")
	if i%10 == 0 {
		c = script("setsid sleep 1000 & exit 3")
	}
	c.Groups, c.Name, c.Limits = groups, "g"+strconv.FormatInt(i, 10), anyLimit(groups)
	p, err := process.Start(c)
	if err != nil {
		return err
	}
	if i%10 == 0 {
		if err := p.Stop(true); err != nil {
			return err
		}
	}
	end, err := p.Wait(context.Background())
	// Who is being killed may see before that it cannot fork any more.
	if err == nil && end.Exit.Code != 3 && i%10 != 0 {
		err = fmt.Errorf("process %d ended with %+v", i, end.Exit)
	}
	return err
}

func mountCount() int {
	raw, _ := os.ReadFile("/proc/self/mountinfo")
	return bytes.Count(raw, []byte("\n"))
}
