package function_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/internal/pythontest"
	"github.com/navvy-run/navvy/runner/function"
	"github.com/navvy-run/navvy/runner/process"
)

const pid = "import os\ndef f(): return os.getpid()"

// TestRest ends a host that nobody needs, and starts another when somebody does.
func TestRest(t *testing.T) {
	t.Parallel()
	d := open(t, function.Options{Hosts: 1, Rest: 10 * time.Millisecond})
	first, _ := call(t, d, pid, "")
	function.AwaitIdle(d)
	second, _ := call(t, d, pid, "")
	if first.value.String() == second.value.String() {
		t.Errorf("host %s has outlived its rest", &first.value)
	}
}

// TestGrown hosts make room for another, and answer before.
func TestGrown(t *testing.T) {
	t.Parallel()
	d := open(t, function.Options{Hosts: 1})
	first, end := call(t, d, "import os\nkept = []\ndef f():\n  kept.append(bytearray(600 << 20))\n  return os.getpid()", "")
	if end.Refusal != nil || end.Usage.MaxMemory < 600<<20 {
		t.Fatalf("ended as %+v %+v", end, end.Refusal)
	}
	if second, _ := call(t, d, pid, ""); first.value.String() == second.value.String() {
		t.Errorf("host %s has grown and stays", &first.value)
	}
}

// TestOutOfMemory fails a call that needs more than its limit.
func TestOutOfMemory(t *testing.T) {
	t.Parallel()
	o := process.Options{}
	grouped(t, &o, nil)
	d := openOn(t, function.Options{Hosts: 1}, o)
	a := calling(source("def f():\n  a = bytearray(400 << 20)\n  for i in range(0, len(a), 4096): a[i] = 1"), "{}")
	a.Spec.Limits.Memory = 100 << 20
	caps := d.Capabilities()
	if refusal := caps.Refuse(a.Spec); refusal != nil {
		t.Skip(refusal.Message)
	}
	if end := run(t, d, a); end.Refusal != nil || end.Exit.Signal != 9 || end.Usage.OOMKills == 0 {
		t.Errorf("ended as %+v %+v", end, end.Refusal)
	}
	a = calling(source("def f(): pass"), "{}")
	a.Spec.Limits.Memory = 2 << 20
	if _, err := d.Start(t.Context(), &a.Task); err == nil || !strings.Contains(err.Error(), "memory") {
		t.Errorf("Python starts in 2 MiB: %v", err)
	}
}

// TestFirstToGo has hosts, and what functions start in them, stand first where the machine
// runs out of memory.
func TestFirstToGo(t *testing.T) {
	t.Parallel()
	d := open(t, function.Options{Hosts: 1})
	a, end := call(t, d, "import subprocess\ndef f(): return int(subprocess.check_output(['cat', '/proc/self/oom_score_adj']))", "")
	if score, err := strconv.Atoi(a.value.String()); end.Refusal != nil || err != nil || score < 800 {
		t.Errorf("oom_score_adj is %s: %+v", &a.value, end.Refusal)
	}
}

// TestFair has a call of somebody else come to its turn among many of one.
func TestFair(t *testing.T) {
	t.Parallel()
	d := open(t, function.Options{Hosts: 1})
	ctx, cancel := context.WithCancel(t.Context())
	mine := source("def f(): pass")
	done := make(chan struct{})
	for range 4 {
		go func() {
			defer func() { done <- struct{}{} }()
			for ctx.Err() == nil {
				a := calling(mine, "{}")
				x, err := d.Start(ctx, &a.Task)
				if err != nil {
					return
				}
				_, _ = x.Wait(context.Background())
			}
		}()
	}
	yours := source("def f(): return 'you'")
	yours.Owner = "you"
	for range 2 {
		a := calling(yours, "{}")
		if end := run(t, d, a); end.Refusal != nil || a.value.String() != `"you"` {
			t.Errorf("ended as %+v", end)
		}
	}
	cancel()
	for range 4 {
		<-done
	}
}

// TestStartsNot names the interpreter, and what it says.
func TestStartsNot(t *testing.T) {
	t.Parallel()
	pythontest.Need(t)
	processes := process.NewDriver(&process.Options{Work: t.TempDir()})
	for python, want := range map[string]string{"/bin/false": "exit code 1", "/bin/ls": "ls: ", "/no/python": "no such program"} {
		d := function.New(&function.Options{Python: python, Processes: processes, Hosts: 1})
		for range 2 { // a turn that came to nothing is given back
			_, err := d.Start(t.Context(), &calling(source("def f(): pass"), "{}").Task)
			if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), python) {
				t.Errorf("%s: %v, want %s in it", python, err, want)
			}
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestRemoved is told plainly, and so is what breaks the protocol.
func TestRemoved(t *testing.T) {
	t.Parallel()
	d := open(t, function.Options{Hosts: 1})
	a := calling(source("def f(): pass"), "{}")
	a.Function = func(context.Context) (*navvy.FunctionVersion, error) { return nil, navvy.ErrNotFound }
	if _, err := d.Start(t.Context(), &a.Task); err == nil || err.Error() != "function f (version 1) was removed; register it again" {
		t.Error(err)
	}
}

func TestBrokenProtocol(t *testing.T) {
	t.Parallel()
	d := open(t, function.Options{Hosts: 1})
	_, end := call(t, d, "import os, navvy_host, gc\ndef f():\n  host, = [o for o in gc.get_objects() if isinstance(o, navvy_host.Host)]\n  os.write(host.fd, b'\\xff' * 5)\n  while True: pass", "")
	if message := refused(t, end, navvy.ReasonExit); !strings.HasPrefix(message, "worker process was ended: a frame of kind 255") {
		t.Error(message)
	}
	_, end = call(t, d, "import navvy_host, gc, os, time\ndef f():\n  host, = [o for o in gc.get_objects() if isinstance(o, navvy_host.Host)]\n  os.close(host.fd)\n  time.sleep(1000)", "")
	if message := refused(t, end, navvy.ReasonExit); message != "worker process was ended: it closed its connection to navvy" {
		t.Error(message)
	}
}

// TestOrphans ends a host whose main process has died and left others behind, also where an
// init looks after them.
func TestOrphans(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(testing.TB, *process.Options, *navvy.Spec){"group": grouped, "isolated": apart} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := process.Options{}
			a := calling(source("import os, subprocess\ndef f():\n  subprocess.Popen(['sleep', '1000'])\n  os._exit(3)"), "{}")
			change(t, &o, a.Spec)
			d := openOn(t, function.Options{Hosts: 1}, o)
			if end := run(t, d, a); end.Exit.Code != 3 || end.Refusal != nil {
				t.Errorf("ended as %+v %+v", end, end.Refusal)
			}
		})
	}
}

// TestVacate ends hosts of other owners alone, and is over when they are gone.
func TestVacate(t *testing.T) {
	t.Parallel()
	d := open(t, function.Options{Hosts: 2})
	first, _ := call(t, d, pid, "")
	for _, c := range []struct {
		owner string
		stays bool
	}{{"me", true}, {"you", false}, {"you", false}} {
		if err := d.Vacate(t.Context(), c.owner); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat("/proc/" + first.value.String()); (err == nil) != c.stays {
			t.Errorf("where there is to be nobody but %s: host %s of me: %v", c.owner, &first.value, err)
		}
	}
	if second, end := call(t, d, pid, ""); end.Refusal != nil || second.value.String() == first.value.String() {
		t.Errorf("the next call ended as %+v, by host %s", end, &second.value)
	}
}

// TestClosed drivers serve nobody: neither who waits, nor who has leave to start a host.
func TestClosed(t *testing.T) {
	t.Parallel()
	d := open(t, function.Options{Hosts: 1})
	a := calling(source("def f(): pass"), "{}")
	starts, waits := function.CloseEarly(t.Context(), d, &a.Task)
	if starts == nil || !errors.Is(waits, navvy.ErrClosed) {
		t.Errorf("who may start a host: %v, who waits: %v", starts, waits)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if _, err := d.Start(t.Context(), &a.Task); !errors.Is(err, navvy.ErrClosed) {
		t.Errorf("later: %v", err)
	}
}

// TestKilledAtTheStart starts another host for a call whose host was ended by a signal
// before it was ready, but not for ever.
func TestKilledAtTheStart(t *testing.T) {
	t.Parallel()
	pythontest.Need(t)
	for _, c := range []struct {
		kills int
		ok    bool
	}{{2, true}, {1000, false}} {
		log := filepath.Join(t.TempDir(), "log")
		script := fmt.Sprintf("#!/bin/sh\necho start >> %s\n[ $(wc -l < %s) -gt %d ] || kill -9 $$\nexec %s \"$@\"\n", log, log, c.kills, python)
		exe := filepath.Join(t.TempDir(), "python")
		if err := os.WriteFile(exe, []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
		d := open(t, function.Options{Hosts: 1, Python: exe})
		a := calling(source("def f(): return 7"), "{}")
		x, err := d.Start(t.Context(), &a.Task)
		if (err == nil) != c.ok {
			t.Fatalf("killed %d times: %v", c.kills, err)
		}
		if err == nil {
			if end, err := x.Wait(t.Context()); err != nil || end.Refusal != nil || a.value.String() != "7" {
				t.Errorf("ended as %+v, %v, with %s", end, err, &a.value)
			}
		} else if !strings.Contains(err.Error(), "worker process died: signal 9") {
			t.Error(err)
		}
		if text, err := os.ReadFile(log); err != nil || strings.Count(string(text), "start") != 3 {
			t.Errorf("started %d times, want 3: %v", strings.Count(string(text), "start"), err)
		}
	}
}
