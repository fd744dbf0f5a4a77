package isolate_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/process/isolate"
)

func openUsers(t *testing.T, dir string, count int) *isolate.Users {
	t.Helper()
	u, err := isolate.OpenUsers(dir)
	if err != nil {
		t.Fatal(err)
	}
	u.Limit(count)
	return u
}

func TestAttemptsOfAJobShareItsUser(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "users")
	u := openUsers(t, dir, 8)
	one, releaseOne, err := u.Acquire("job1")
	if err != nil {
		t.Fatal(err)
	}
	again, releaseAgain, err := u.Acquire("job1")
	if err != nil || again != one {
		t.Errorf("the second attempt has user %d, %v, want %d", again, err, one)
	}
	other, releaseOther, err := u.Acquire("job2")
	if err != nil || other == one {
		t.Errorf("another job has user %d, %v, too", other, err)
	}
	releaseOne()
	releaseOne() // twice is once
	if still, release, err := u.Acquire("job1"); err != nil || still != one {
		t.Errorf("it has user %d, %v, while an attempt has %d", still, err, one)
	} else {
		release()
	}
	releaseAgain()
	releaseOther()
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind are %v, %v", left, err)
	}
}

func TestUsersRunOut(t *testing.T) {
	t.Parallel()
	u := openUsers(t, filepath.Join(t.TempDir(), "users"), 2)
	for i := range 2 {
		_, release, err := u.Acquire(navvy.JobID(strconv.Itoa(i)))
		if err != nil {
			t.Fatal(err)
		}
		defer release()
	}
	if _, _, err := u.Acquire("third"); !errors.Is(err, navvy.ErrExhausted) {
		t.Errorf("a third user of two: %v", err)
	}
}

// holdUsers is another navvy: it takes all of a number of users, tells, and waits
// for its end.
func holdUsers(arg string) int {
	dir, count, _ := strings.Cut(arg, " ")
	n, _ := strconv.Atoi(count)
	u, err := isolate.OpenUsers(dir)
	if err != nil {
		return 90
	}
	u.Limit(8)
	for i := range n {
		uid, _, err := u.Acquire(navvy.JobID(strconv.Itoa(i)))
		if err != nil {
			return 91
		}
		_, _ = fmt.Fprintln(os.Stdout, uid)
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

// another starts a process that takes n users, and returns them.
func another(t *testing.T, dir string, n int) (p *os.Process, taken map[int]bool) {
	t.Helper()
	in, inWrite, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = inWrite.Close() })
	out, outWrite, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	p, err = os.StartProcess(self(t), []string{"another"}, &os.ProcAttr{
		Env: []string{fmt.Sprintf("%s=uid %s %d", envAct, dir, n)}, Files: []*os.File{in, outWrite, os.Stderr},
	})
	_, _ = in.Close(), outWrite.Close()
	if err != nil {
		t.Fatal(err)
	}
	taken = make(map[int]bool)
	for lines := bufio.NewScanner(out); len(taken) < n && lines.Scan(); {
		uid, err := strconv.Atoi(lines.Text())
		if err != nil {
			t.Fatal(err)
		}
		taken[uid] = true
	}
	if len(taken) != n {
		t.Fatal("the other process has users", taken)
	}
	return p, taken
}

// Two processes never give out the same user; and those of one that was killed
// are free again.
func TestUsersAreExclusiveOnTheHost(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "users")
	other, theirs := another(t, dir, 5)
	u := openUsers(t, dir, 8)
	for i := range 3 {
		uid, release, err := u.Acquire(navvy.JobID(strconv.Itoa(i)))
		if err != nil || theirs[uid] {
			t.Fatalf("user %d, %v; the other process has %v", uid, err, theirs)
		}
		defer release()
	}
	if _, _, err := u.Acquire("fourth"); !errors.Is(err, navvy.ErrExhausted) {
		t.Errorf("a ninth user of eight: %v", err)
	}
	if err := other.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := other.Wait(); err != nil {
		t.Fatal(err)
	}
	uid, release, err := u.Acquire("fourth")
	if err != nil || !theirs[uid] {
		t.Fatalf("user %d, %v, want one of the other process's", uid, err)
	}
	release()
}

// A user that has processes is nobody's, whatever became of who started them.
func TestUserWithProcessesIsNotGiven(t *testing.T) {
	t.Parallel()
	needRoot(t)
	u := openUsers(t, filepath.Join(t.TempDir(), "users"), 2)
	_, binary := public(t)
	pid, err := syscall.ForkExec(binary, []string{"left"}, &syscall.ProcAttr{
		Env: []string{soon, envAct + "=hang"}, Sys: &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: isolate.FirstUID, Gid: 0, NoSetGroups: true}},
	})
	if err != nil {
		lacking(t, "no process of another user: "+err.Error())
	}
	defer func() {
		_ = unix.Kill(pid, unix.SIGKILL)
		_, _ = syscall.Wait4(pid, nil, 0, nil)
	}()
	uid, release, err := u.Acquire("job")
	if err != nil || uid != isolate.FirstUID+1 {
		t.Fatalf("user %d, %v, want the other one", uid, err)
	}
	defer release()
	if _, _, err := u.Acquire("other"); !errors.Is(err, navvy.ErrExhausted) {
		t.Errorf("the user with a process: %v", err)
	}
}

func TestUsersDirectoryOfOthersIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := isolate.OpenUsers(dir); !errors.Is(err, navvy.ErrDenied) {
		t.Errorf("others can write there: %v", err)
	}
}

func FuzzHasUser(f *testing.F) {
	f.Add([]byte("Name:\tx\nUid:\t0\t0\t2100000000\t0\nGid:\t1\t1\t1\t1\n"), "2100000000")
	f.Fuzz(func(t *testing.T, status []byte, id string) {
		if isolate.HasUser(status, id) && !strings.Contains(string(status), id) {
			t.Errorf("%q is found in %q", id, status)
		}
	})
}
