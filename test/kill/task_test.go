package kill

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy/test/lifetest"
)

// taskDir is the variable that makes this binary a task: where tasks leave traces.
const taskDir = "NAVVY_KILL_TASK"

// traces of tasks in their directory.
const (
	overlaps = "overlaps" // a line for each task that ran beside another attempt of its own
	runsOf   = ".runs"    // a byte for each attempt of a task
	lockOf   = ".lock"    // held while an attempt runs
)

// task is one attempt. It holds a lock, as does what it starts: two attempts of
// a task at the same time leave a trace.
func task(dir, arg string) int {
	n, err := strconv.Atoi(arg)
	if err != nil {
		return 98
	}
	openToAll()
	file := filepath.Join(dir, arg)
	lock, err := os.OpenFile(file+lockOf, os.O_CREATE|os.O_RDWR, 0o666)
	if err != nil {
		return 97
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lifetest.Leave(filepath.Join(dir, overlaps), fmt.Sprintf("attempt %d of task %d\n", lifetest.Leave(file+runsOf, "x"), n))
		return 96
	}
	runs := lifetest.Leave(file+runsOf, "x")
	noteGroup(dir)
	noteDir(dir)
	if n%5 == 0 {
		child := exec.Command("sleep", "60")
		child.ExtraFiles = []*os.File{lock}
		if err := child.Start(); err != nil {
			return 95
		}
		defer func() {
			_ = child.Process.Kill()
			_ = child.Wait() // it was killed
		}()
	}
	a := lifetest.AnswerTo(n)
	lifetest.Write(os.Stderr, a.Stderr, maxPause)
	lifetest.Write(os.Stdout, a.Stdout, maxPause)
	if n%29 == 3 && runs == 1 && os.Getenv(flaky) != "" {
		return 1
	}
	return a.Code
}

// flaky is the variable that lets some tasks fail at their first attempt.
const flaky = "NAVVY_KILL_FLAKY"

// maxPause is the longest between two pieces of output.
const maxPause = 4 * time.Millisecond
