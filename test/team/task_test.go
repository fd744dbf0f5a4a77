package team

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy/test/lifetest"
)

// Variables of tasks.
const (
	taskDir  = "NAVVY_TEAM_TASK" // makes this binary a task: where tasks leave traces
	tokenVar = "NAVVY_TOKEN"     // names the attempt: JOB-INDEX-NUMBER.EPOCH
	slowVar  = "NAVVY_TEAM_SLOW" // how long a task may pause, each time
)

// Traces of tasks in their directory.
const (
	begun    = "begun"    // a line for each attempt: its token, the working directory, the process
	overlaps = "overlaps" // a line for each attempt that began while another ran: both tokens
	lockOf   = ".lock"    // of a task: held while an attempt runs, whose token it holds
)

// task is one attempt. It holds a lock, as does what it starts, so that two attempts
// at the same time leave a trace.
func task(dir, arg string) int {
	n, err := strconv.Atoi(arg)
	if err != nil {
		return 98
	}
	wd, err := os.Getwd()
	if err != nil {
		return 97
	}
	pause, err := time.ParseDuration(os.Getenv(slowVar))
	if err != nil {
		return 96
	}
	token := os.Getenv(tokenVar)
	lifetest.Leave(filepath.Join(dir, begun), fmt.Sprintf("%s %s %d\n", token, wd, os.Getpid()))
	lock, ok := takeLock(dir, token)
	if !ok {
		return 95
	}
	defer func() { _ = lock.Close() }()
	if n%5 == 0 {
		child := exec.Command("sleep", "600")
		child.ExtraFiles = []*os.File{lock}
		if err := child.Start(); err != nil {
			return 90
		}
		defer func() {
			_ = child.Process.Kill()
			_ = child.Wait() // it was killed
		}()
	}
	a := lifetest.AnswerTo(n)
	lifetest.Write(os.Stderr, a.Stderr, pause)
	lifetest.Write(os.Stdout, a.Stdout, pause)
	return a.Code
}

// takeLock takes the lock of the task, or tells who has it.
func takeLock(dir, token string) (*os.File, bool) {
	name := token[:strings.LastIndexByte(token, '-')]
	lock, err := os.OpenFile(filepath.Join(dir, name+lockOf), os.O_CREATE|os.O_RDWR, 0o666)
	if err != nil {
		return nil, false
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		var other [100]byte
		n, _ := lock.ReadAt(other[:], 0) // as much as there is
		lifetest.Leave(filepath.Join(dir, overlaps), fmt.Sprintf("%s %s\n", token, strings.TrimSpace(string(other[:n]))))
		return lock, true
	}
	err = lock.Truncate(0)
	if err == nil {
		_, err = lock.WriteAt([]byte(token+"\n"), 0)
	}
	return lock, err == nil
}
