package runner_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner"
	"github.com/navvy-run/navvy/runner/process"
)

// envVictim makes the test binary, started again, run attempts in the directory
// that it names, until it is killed.
const envVictim = "NAVVY_TEST_VICTIM"

// victims are what is running when navvy is killed. Each tells by a line in the fifo
// which processes it has, once they are all there.
var victims = []string{
	`echo $$ >fifo; exec sleep 1000`,                                              // one process
	`trap '' TERM; echo $$ >fifo; sleep 1000`,                                     // one that hears no SIGTERM
	`sleep 1000 & a=$!; sleep 1000 & echo $$ $a $! >fifo; wait`,                   // with background children
	`sleep 1000 & echo $! >fifo`,                                                  // whose leader has ended
	`setsid sh -c 'echo $$ >fifo; exec sleep 1000' & wait`,                        // with one that changed its session
	`(setsid sh -c 'sleep 1000 & echo $! >fifo' &)`,                               // of which only such a one is left
	`env -i sleep 1000 & echo $$ $! >fifo; wait`,                                  // with one that lost its environment
	`trap "" HUP; sleep 1000 & a=$!; kill -STOP $a; echo $a $$ >fifo; sleep 1000`, // with one that is stopped
}

// victim runs the victims until it is killed; every second one as if it had been
// killed before the handle was journaled.
func victim(dir string) int {
	journal, err := runner.OpenJournal(filepath.Join(dir, "journal"))
	if err != nil {
		return 1
	}
	d := process.NewDriver(nil)
	for i, script := range append(victims, victims...) {
		if i < len(victims) && strings.HasPrefix(script, "(setsid") {
			continue // this attempt ends by itself: nothing is left in its group
		}
		spec := &navvy.Spec{Command: &navvy.Command{Args: []string{script}, Shell: true, Env: []string{"PATH=" + os.Getenv("PATH")}, Dir: dir}}
		task := newTask(spec, nil)
		if i < len(victims) {
			go runner.New(d, &runner.Options{Journal: journal}).Run(context.Background(), task)
			continue
		}
		if _, err := journal.Reserve(&runner.Entry{Kind: navvy.KindCommand, Task: task.ID, Attempt: task.Attempt, Token: task.Token}); err != nil {
			return 1
		}
		if strings.Contains(script, "env -i") {
			continue // without handle and token nobody could find it
		}
		if _, err := d.Start(context.Background(), &task.Task); err != nil {
			return 1
		}
	}
	select {}
}

// TestCrash kills a navvy while its attempts run, and sees that nothing of them
// is left once the next one has recovered.
func TestCrash(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pids := startVictims(t, dir)
	bystander := exec.CommandContext(t.Context(), "sleep", "1000")
	bystander.Env = []string{process.EnvToken + "=somebody-else"}
	if err := bystander.Start(); err != nil {
		t.Fatal(err)
	}
	for _, pid := range pids {
		if gone(t, pid) {
			t.Errorf("process %d died with its navvy", pid)
		}
	}
	journal := openJournal(t, filepath.Join(dir, "journal"))
	if got, want := len(journal.Left()), 2*len(victims)-1; got != want {
		t.Errorf("the journal holds %d attempts, want %d", got, want)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if adoptable, err := runner.RecoverAll(ctx, journal, process.NewDriver(nil)); err != nil || len(adoptable) > 0 {
		t.Errorf("recover: %v, %d to be adopted", err, len(adoptable))
	}
	for _, pid := range pids {
		if !gone(t, pid) {
			t.Errorf("process %d is still there", pid)
		}
	}
	left(t, filepath.Join(dir, "journal"))
	if gone(t, bystander.Process.Pid) {
		t.Error("a bystander was killed")
	}
	_ = bystander.Process.Kill()
	_ = bystander.Wait()
}

// startVictims starts a navvy, kills it when all its attempts run, and returns their processes.
func startVictims(t *testing.T, dir string) (pids []int) {
	t.Helper()
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	lines, err := os.OpenFile(fifo, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer lines.Close()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	navvy := exec.CommandContext(t.Context(), self)
	navvy.Env = append(os.Environ(), envVictim+"="+dir)
	if err := navvy.Start(); err != nil {
		t.Fatal(err)
	}
	if err := lines.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(lines)
	for range 2*len(victims) - 2 {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatalf("not all attempts run: %v", err)
		}
		for word := range strings.FieldsSeq(line) {
			pid, err := strconv.Atoi(word)
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		}
	}
	if err := navvy.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = navvy.Wait()
	return pids
}

// gone tells whether a process has ended; a zombie has.
func gone(t *testing.T, pid int) bool {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return true
	}
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Contains(stat, []byte(") Z ")) || bytes.Contains(stat, []byte(") X "))
}
