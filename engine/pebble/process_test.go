package pebble

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/navvy-run/navvy/engine/driver"
)

// TestMain is also what a test's child process runs: it opens the directory that
// the environment names, and puts until it is killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv("NAVVY_TEST_CHILD"); dir != "" {
		_, _ = fmt.Fprintln(os.Stdout, child(dir))
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

// child tells each number when it is durable.
func child(dir string) error {
	s, err := Open(dir, nil)
	if err != nil {
		return err
	}
	w, err := s.CreateLog(context.Background(), fmt.Sprintf("log/%d", os.Getpid()))
	if err != nil {
		return err
	}
	for i := 0; ; i++ {
		b := new(driver.Batch)
		b.Put(fmt.Appendf(nil, "%d/%08d", os.Getpid(), i), value(i)[:100+i%500])
		if err := w.Append(value(i)); err != nil {
			return err
		}
		if i%10 == 0 {
			if err := w.Sync(); err != nil {
				return err
			}
			b.Put(fmt.Appendf(nil, "log/%d", os.Getpid()), []byte(strconv.Itoa(i+1)))
		}
		if err := s.Apply(context.Background(), b); err != nil {
			return err
		}
		if _, err := fmt.Fprintln(os.Stdout, i); err != nil {
			return err
		}
	}
}

func start(t *testing.T, dir string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), "NAVVY_TEST_CHILD="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, bufio.NewScanner(out)
}

// TestKill kills a process that holds the directory, time and again. Nothing
// that it told is lost, and meanwhile nobody else gets in.
func TestKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for round := range 4 {
		cmd, lines := start(t, dir)
		last := -1
		for last < 200*(round+1) && lines.Scan() {
			n, err := strconv.Atoi(lines.Text())
			if err != nil {
				t.Fatalf("the child says: %s", lines.Text())
			}
			if last = n; n == 50 {
				other, said := start(t, dir)
				if !said.Scan() || !strings.Contains(said.Text(), "in use by another navvy") {
					t.Errorf("another process got in, and said %q", said.Text())
				}
				_ = other.Wait() // it ends with an error
			}
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() { // what it told before it died
			if n, err := strconv.Atoi(lines.Text()); err == nil {
				last = n
			}
		}
		_ = cmd.Wait() // it was killed
		survived(t, dir, cmd.Process.Pid, last)
	}
}

func survived(t *testing.T, dir string, pid, last int) {
	t.Helper()
	s := open(t, dir, nil)
	n := 0
	err := s.Scan(t.Context(), driver.Prefix(fmt.Appendf(nil, "%d/", pid)), func(key, got []byte) error {
		if string(key) != fmt.Sprintf("%d/%08d", pid, n) || string(got) != string(value(n)[:100+n%500]) {
			return fmt.Errorf("pair %d is %s", n, key)
		}
		n++
		return nil
	})
	if err != nil || n <= last {
		t.Errorf("%d of %d are there, %v", n, last+1, err)
	}
	logged, err := s.Get(t.Context(), fmt.Appendf(nil, "log/%d", pid))
	if err != nil {
		t.Fatal(err)
	}
	count, err := strconv.Atoi(string(logged))
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.OpenLog(t.Context(), fmt.Sprintf("log/%d", pid))
	if err != nil {
		t.Fatal(err)
	}
	for i := range count {
		p := make([]byte, len(value(i)))
		if _, err := r.ReadAt(p, int64(i*len(p))); err != nil || string(p) != string(value(i)) {
			t.Fatalf("piece %d of the log has changed, %v", i, err)
		}
	}
	if err := s.Info().Check(t.Context()); err != nil {
		t.Error(err)
	}
	for _, err := range []error{r.Close(), s.Close()} {
		if err != nil {
			t.Error(err)
		}
	}
}
