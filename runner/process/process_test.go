package process_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver/drivertest"
	"github.com/navvy-run/navvy/runner/process"
)

func TestInput(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a long line\n", 200_000)
	for name, input := range map[string]string{"short": "a line\n", "empty": "", "long": long} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			run(t, &process.Config{Args: []string{"/bin/cat"}, Input: []byte(input), Stdout: &out})
			if out.String() != input {
				t.Errorf("%d bytes came back, want %d", out.Len(), len(input))
			}
		})
	}
	t.Run("nothing", func(t *testing.T) {
		t.Parallel()
		if end := run(t, &process.Config{Args: []string{"/bin/cat"}}); end.Exit.Code != 0 {
			t.Errorf("ended as %+v", end)
		}
	})
	t.Run("file", func(t *testing.T) {
		t.Parallel()
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		var out bytes.Buffer
		p, err := process.Start(&process.Config{Args: []string{"/bin/cat"}, Stdin: r, Stdout: &out})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, "typed"); err != nil {
			t.Error(err)
		}
		_ = w.Close()
		wait(t, p)
		if out.String() != "typed" {
			t.Errorf("read %q", out.String())
		}
	})
}

func TestEnvironmentAndDir(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	c := &process.Config{Args: []string{"/bin/sh", "-c", "pwd; env | grep -v -e ^PWD= -e ^SHLVL="}, Env: []string{path, "A=b c"}, Dir: "/usr", Stdout: &out}
	run(t, c)
	if want := "/usr\n" + path + "\nA=b c\n"; out.String() != want && out.String() != "/usr\nA=b c\n"+path+"\n" {
		t.Errorf("the process saw %q, want %q", out.String(), want)
	}
}

func TestOwnGroup(t *testing.T) {
	t.Parallel()
	p, err := process.Start(script("sleep 1000"))
	if err != nil {
		t.Fatal(err)
	}
	if group, err := syscall.Getpgid(p.Pid()); err != nil || group != p.Pid() {
		t.Errorf("process %d is in group %d, %v", p.Pid(), group, err)
	}
	if err := p.Stop(true); err != nil {
		t.Error(err)
	}
	wait(t, p)
}

// TestBackground sees that what a script leaves running in its group belongs to it.
func TestBackground(t *testing.T) {
	t.Parallel()
	for name, line := range map[string]string{
		"one":   "(sleep 0.1; echo late) & echo early; exit 3",
		"chain": "(sleep 0.1; (sleep 0.1; echo late) & ) & echo early; exit 3",
		"swift": "f() { if [ $1 -eq 0 ]; then echo late; else f $(($1 - 1)) & fi; }; echo early; f 150; exit 3",
		"many":  "for i in 1 2 3 4 5 6 7 8; do sleep 0.1 & done; (sleep 0.2; echo late) & echo early; exit 3",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := script(line)
			var out bytes.Buffer
			c.Stdout = &out
			if end := run(t, c); end.Exit.Code != 3 || out.String() != "early\nlate\n" {
				t.Errorf("ended as %+v with output %q", end, out.String())
			}
		})
	}
}

func TestStopBackground(t *testing.T) {
	t.Parallel()
	c := script("sleep 1000 & trap '' TERM; echo $!; exit 0") // the shell ends itself, however slow it is
	pids, writer := io.Pipe()
	c.Stdout = writer
	p, err := process.Start(c)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		if pid := readPid(t, pids); pid > 0 {
			_ = p.Stop(false)
		}
	}()
	if end := wait(t, p); end.Exit != (navvy.Exit{}) {
		t.Errorf("the main process ended as %+v", end)
	}
}

// readPid reads a line that is a process id.
func readPid(t *testing.T, r io.Reader) int {
	t.Helper()
	line := make([]byte, 32)
	n, err := r.Read(line)
	pid, convErr := strconv.Atoi(strings.TrimSpace(string(line[:n])))
	if err != nil || convErr != nil {
		t.Errorf("read %q, %v", line[:n], err)
		return 0
	}
	return pid
}

// TestLeavesGroup sees that a process that left the group, and holds the pipes,
// does not keep the attempt alive; neither one that leaves while it is waited for.
func TestLeavesGroup(t *testing.T) {
	t.Parallel()
	for name, line := range map[string]string{
		"at once": "setsid sleep 1000 & pid=$!; sleep 0.1; echo $pid",
		"late":    "(sleep 0.3; exec setsid sleep 1000) & echo $!",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := script(line)
			var out bytes.Buffer
			c.Stdout = &out
			begun := time.Now()
			end := run(t, c)
			pid := readPid(t, &out)
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Errorf("the one that left is gone: %v", err)
			}
			if end.Exit.Code != 0 || time.Since(begun) > drivertest.Patience/2 {
				t.Errorf("ended as %+v after %s", end, time.Since(begun))
			}
		})
	}
}

// TestStopWakes sees that a process that has been stopped hears that it shall end.
func TestStopWakes(t *testing.T) {
	t.Parallel()
	c := script("trap 'exit 7' TERM; kill -STOP $$; sleep 1000")
	p, err := process.Start(c)
	if err != nil {
		t.Fatal(err)
	}
	for !stopped(t, p.Pid()) {
		time.Sleep(time.Millisecond) //nolint:forbidigo // nothing tells when a process stops
	}
	if err := p.Stop(false); err != nil {
		t.Error(err)
	}
	if end := wait(t, p); end.Exit.Code != 7 {
		t.Errorf("ended as %+v", end)
	}
}

func stopped(t *testing.T, pid int) bool {
	t.Helper()
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Contains(raw, []byte(") T "))
}

func TestMaxRSS(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	const eaten = 400 << 20
	end := run(t, &process.Config{Args: []string{self}, Env: []string{envEat + "=" + strconv.Itoa(eaten)}})
	if rss := end.Usage.MaxMemory; end.Exit.Code != 0 || rss < eaten {
		t.Errorf("ended as %+v: a process that used %d bytes", end, eaten)
	}
	if end := run(t, &process.Config{Args: []string{"/bin/true"}}); end.Usage.MaxMemory != 0 && end.Usage.MaxMemory < eaten {
		t.Errorf("/bin/true used %d bytes: that is the memory of this test", end.Usage.MaxMemory)
	}
}

// TestDescriptors is not parallel: it counts this process's open files.
func TestDescriptors(t *testing.T) { //nolint:paralleltest // see above
	count := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	try := func() {
		var out bytes.Buffer
		run(t, &process.Config{Args: []string{"/bin/cat"}, Input: []byte("x"), Stdout: &out, Stderr: io.Discard})
		c := script("sleep 0.02; echo out; echo err >&2; sleep 0.02 & exit 0")
		c.Stdout, c.Stderr = &out, io.Discard
		run(t, c)
		if _, err := process.Start(&process.Config{Args: []string{"/no/such/program"}, Input: []byte("x"), Stdout: &out}); err == nil {
			t.Error("a program that does not exist started")
		}
	}
	try() // what is opened once and for all
	before := count()
	for range 20 {
		try()
	}
	if after := count(); after > before {
		t.Errorf("%d files are open, %d were before", after, before)
	}
}

// TestDependencies keeps the library usable alone.
func TestDependencies(t *testing.T) {
	t.Parallel()
	if os.Getenv("NAVVY_TEST_VM") != "" {
		t.Skip("there is no go in the virtual machine")
	}
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".").Output()
	if failed, ok := errors.AsType[*exec.ExitError](err); ok {
		t.Fatalf("%v: %s", err, failed.Stderr)
	} else if err != nil {
		t.Fatal(err)
	}
	allowed := []string{
		"github.com/navvy-run/navvy", "github.com/navvy-run/navvy/runner/driver",
		"github.com/navvy-run/navvy/runner/process", "github.com/navvy-run/navvy/runner/process/boot",
		"github.com/navvy-run/navvy/runner/process/cgroup", "github.com/navvy-run/navvy/runner/process/isolate", "golang.org/x/sys/unix",
	}
	for dep := range strings.FieldsSeq(string(out)) {
		if !strings.Contains(" "+strings.Join(allowed, " ")+" ", " "+dep+" ") {
			t.Errorf("importing package process pulls in %s", dep)
		}
	}
}

// TestAbandoned sees that a process that nobody waits for leaves no zombie.
func TestAbandoned(t *testing.T) {
	t.Parallel()
	p, err := process.Start(script("sleep 1000"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Wait(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("wait: %v", err)
	}
	if err := p.Stop(true); err != nil {
		t.Error(err)
	}
	for begun := time.Now(); syscall.Kill(p.Pid(), 0) == nil; {
		if time.Since(begun) > drivertest.Patience {
			t.Fatal("a zombie is left")
		}
		time.Sleep(time.Millisecond) //nolint:forbidigo // nothing tells when a zombie is collected
	}
}

// TestOneWriter has processes write to both streams in turns, to one writer: it
// gets all of it in order, however long they run, from one goroutine.
func TestOneWriter(t *testing.T) {
	t.Parallel()
	for name, line := range map[string]string{
		"brief": "echo 0; echo 1 >&2; echo 2; echo 3 >&2",
		"long":  "i=0; while [ $i -lt 8000 ]; do echo $i; echo $((i+1)) >&2; i=$((i+2)); done",
		"late":  "echo 0; (sleep 0.1; echo 2 >&2; echo 3; echo 4 >&2) & echo 1 >&2",
		"none":  "exit 3",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var both bytes.Buffer
			c := script(line)
			c.Stdout, c.Stderr = &both, &both
			run(t, c)
			for i, got := range strings.Fields(both.String()) {
				if want := strconv.Itoa(i); got != want {
					t.Fatalf("got %s where %s was written", got, want)
				}
			}
			if (both.Len() == 0) != (name == "none") {
				t.Errorf("%d bytes", both.Len())
			}
		})
	}
}

// Writers that cannot be compared are two.
func TestWritersThatCannotBeCompared(t *testing.T) {
	t.Parallel()
	var both together
	c := script("echo out; echo err >&2")
	c.Stdout, c.Stderr = writer(both.Write), writer(both.Write)
	run(t, c)
	if got := both.String(); len(got) != len("out\nerr\n") {
		t.Errorf("got %q", got)
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

// TestOrder has processes write to both streams in turns, to two writers: their
// output comes in the order in which it was written, if they end soon, and if there is time between.
func TestOrder(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		line  string
		times int
		soon  bool
	}{
		"out first":  {"echo 1; echo 2 >&2", 100, true},
		"err first":  {"echo 1 >&2; echo 2", 100, true},
		"with times": {"echo 1; sleep 0.2; echo 2 >&2; sleep 0.2; echo 3; sleep 0.2; echo 4 >&2", 2, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for range tc.times {
				var both together
				c := script(tc.line)
				c.Stdout, c.Stderr = writer(both.Write), writer(both.Write)
				begun := time.Now()
				run(t, c)
				if tc.soon && time.Since(begun) > 4*time.Millisecond {
					continue // the machine is busy, and nothing was promised
				}
				if got := both.String(); !slices.IsSorted(strings.Fields(got)) || len(got) < 4 {
					t.Fatalf("got %q", got)
				}
			}
		})
	}
}

// together takes both streams.
type together struct {
	sync.Mutex
	strings.Builder
}

func (b *together) Write(p []byte) (int, error) {
	b.Lock()
	defer b.Unlock()
	return b.Builder.Write(p)
}
