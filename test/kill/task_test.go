package kill

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// taskDir is the variable that makes this binary a task: where tasks leave traces.
const taskDir = "NAVVY_KILL_TASK"

// traces of tasks in their directory.
const (
	overlaps = "overlaps" // a line for each task that ran beside another attempt of its own
	runsOf   = ".runs"    // a byte for each attempt of a task
	lockOf   = ".lock"    // held while an attempt runs
)

// answer is what a task has to say.
type answer struct {
	stdout, stderr []byte
	code           int
}

// answerTo gives the answer to an input: the same at each attempt.
func answerTo(n int) (a answer) {
	if n%19 != 11 { // some say nothing
		a.stdout = fmt.Appendf(nil, "task %d begins\n", n)
		lines := n % 5
		if n%23 == 7 {
			lines = 9000 // more than fits into a result
		}
		for i := range lines {
			a.stdout = fmt.Appendf(a.stdout, "%d says %d and %d\n", n, i, n*i)
		}
		a.stdout = fmt.Appendf(a.stdout, "task %d ends\n", n)
	}
	if n%3 == 0 {
		a.stderr = fmt.Appendf(nil, "%d mutters\n", n)
	}
	if n%17 == 5 {
		a.code = 3
	}
	return a
}

// task is one attempt. It holds a lock, as does what it starts: two attempts of
// a task at the same time leave a trace.
func task(dir, arg string) int {
	n, err := strconv.Atoi(arg)
	if err != nil {
		return 98
	}
	file := filepath.Join(dir, arg)
	lock, err := os.OpenFile(file+lockOf, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return 97
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		leave(filepath.Join(dir, overlaps), fmt.Sprintf("attempt %d of task %d\n", leave(file+runsOf, "x"), n))
		return 96
	}
	runs := leave(file+runsOf, "x")
	noteGroup(dir)
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
	a := answerTo(n)
	write(os.Stderr, a.stderr)
	write(os.Stdout, a.stdout)
	if n%29 == 3 && runs == 1 && os.Getenv(flaky) != "" {
		return 1
	}
	return a.code
}

// flaky is the variable that lets some tasks fail at their first attempt.
const flaky = "NAVVY_KILL_FLAKY"

// write writes in pieces, with pauses.
func write(to *os.File, p []byte) {
	for len(p) > 0 {
		n := min(len(p), 1+rand.IntN(40<<10))
		if _, err := to.Write(p[:n]); err != nil {
			os.Exit(94)
		}
		p = p[n:]
		time.Sleep(time.Duration(rand.Int64N(int64(4 * time.Millisecond)))) //nolint:forbidigo // it works
	}
}

// leave adds to a trace and gives its length.
func leave(name, what string) int {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		os.Exit(93)
	}
	defer func() { _ = f.Close() }()
	if _, err := f.WriteString(what); err != nil {
		os.Exit(92)
	}
	info, err := f.Stat()
	if err != nil {
		os.Exit(91)
	}
	return int(info.Size())
}

// equal tells whether this is what a task has said.
func (a answer) equal(stdout, stderr string, code int) bool {
	return bytes.Equal(a.stdout, []byte(stdout)) && bytes.Equal(a.stderr, []byte(stderr)) && a.code == code
}
