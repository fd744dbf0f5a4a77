package function_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/runner/function"
)

// behaviour is what a function does, and what comes of it.
type behaviour struct {
	text, args string
	value      string // JSON
	out, err   string
	reason     navvy.Reason
	message    string // holds this
	exit       navvy.Exit
}

var behaviours = map[string]behaviour{
	"value":     {text: "def f(*a): return {'a': a}", args: "1, null", value: `{"a": [1, null]}`},
	"dotted":    {text: "class f:\n  def __init__(self, x): self.x = x\n  def __new__(cls, x): return x", args: "4", value: "4"},
	"exception": {text: "def f(): raise ValueError('too low')", reason: navvy.ReasonException, message: "ValueError: too low"},
	"no text":   {text: "def f(): raise ValueError", reason: navvy.ReasonException, message: "ValueError"},
	"exit": {
		text: "import sys\ndef f(): sys.exit(3)", reason: navvy.ReasonException, message: "SystemExit: 3",
	},
	"base":     {text: "class E(BaseException): pass\ndef f(): raise E('odd')", reason: navvy.ReasonException, message: "E: odd"},
	"ctrl-c":   {text: "def f(): raise KeyboardInterrupt", reason: navvy.ReasonException, message: "KeyboardInterrupt"},
	"sigint":   {text: "import os, signal\ndef f():\n  os.kill(os.getpid(), signal.SIGINT)\n  return 1", value: "1"},
	"dies":     {text: "import os\ndef f():\n  print('so far', flush=True)\n  os._exit(3)", out: "so far\n", exit: navvy.Exit{Code: 3}},
	"dies ok":  {text: "import os\ndef f(): os._exit(0)", reason: navvy.ReasonExit, message: "worker process died: exit code 0"},
	"killed":   {text: "import os\ndef f(): os.kill(os.getpid(), 9)", exit: navvy.Exit{Signal: 9}},
	"binary":   {text: "import os, sys\ndef f():\n  os.write(1, bytes(range(256)))\n  sys.stdout.buffer.write(b'\\xff')", out: everyByte() + "\xff", value: "null"},
	"both":     {text: "import sys\ndef f():\n  print('o')\n  print('e', file=sys.stderr)", out: "o\n", err: "e\n", value: "null"},
	"logging":  {text: "import logging\ndef f(): logging.warning('careful')", err: "WARNING:root:careful\n", value: "null"},
	"no end":   {text: "def f(): print('no end', end='')", out: "no end", value: "null"},
	"children": {text: "import subprocess\ndef f(): return subprocess.run(['echo', 'hi']).returncode", out: "hi\n", value: "0"},
	"forks": {
		text: "import os\ndef f():\n  pid = os.fork()\n  if pid: return os.waitpid(pid, 0)[1]\n  print('child')\n  return 'child'",
		out:  "child\n", value: "0",
	},
	"fork raises": {
		text:  "import os\ndef f():\n  pid = os.fork()\n  if pid: return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])\n  os.close(2); raise SystemExit(7)",
		value: "7",
	},
	"pool": {
		text: "import multiprocessing\ndef g(x): return x * x\ndef f():\n  with multiprocessing.Pool(2) as p: return p.map(abs, [-1, 2])", value: "[1, 2]",
	},
	"threads": {
		text:  "import threading\ndef f():\n  a = []\n  t = threading.Thread(target=lambda: a.append(1))\n  t.start(); t.join()\n  return a",
		value: "[1]",
	},
	"stdin":     {text: "import sys, os\ndef f(): return [sys.stdin.read(), os.read(0, 1).decode()]", value: `["", ""]`},
	"input":     {text: "def f(): return input()", reason: navvy.ReasonException, message: "EOFError"},
	"recursion": {text: "def f(): return f()", reason: navvy.ReasonException, message: "RecursionError: maximum recursion depth exceeded"},
	"unpicklable": {
		text: "def f(): return {1, 2}", reason: navvy.ReasonException,
		message: "TypeError: the function returned a value of type set that cannot be written as JSON",
	},
	"not a number": {text: "def f(): return float('nan')", reason: navvy.ReasonException, message: "type float that cannot be written as JSON"},
	"arguments":    {text: "def f(x): pass", reason: navvy.ReasonException, message: "missing 1 required positional argument: 'x'"},
	"syntax":       {text: "def f(:", reason: navvy.ReasonStart, message: "which cannot load it: SyntaxError"},
	"no entry":     {text: "def g(): pass", reason: navvy.ReasonStart, message: "has no attribute 'f'"},
	"not callable": {text: "f = 1", reason: navvy.ReasonStart, message: "function f is a value of type int, which cannot be called"},
	"no module":    {text: "import no_such_module\ndef f(): pass", reason: navvy.ReasonStart, message: "does not find the module no_such_module: install it there, or name its directory with --python-path"},
	"closes":       {text: "import os\ndef f():\n  os.closerange(3, 256)\n  return 1", value: "1"},
	"closes output": {
		text: "import os, sys\ndef f():\n  print('last', flush=True)\n  sys.stdout.close()\n  os.close(1)\n  os.close(2)\n  return 1", out: "last\n", value: "1",
	},
	"closes input": {
		text: "import os\ndef f():\n  os.close(0)\n  return os.open('/bin/sh', os.O_RDONLY)", value: "0",
	},
	"odd output": {
		text: "import sys\nclass Odd:\n  def flush(self): sys.exit(3)\ndef f():\n  sys.stdout = sys.stderr = Odd()\n  return 1", value: "1",
	},
	"no output":  {text: "import sys\ndef f():\n  del sys.stdout, sys.stderr\n  return 1", value: "1"},
	"closes all": {text: "import os\ndef f():\n  os.closerange(0, 5000)\n  return 1", exit: navvy.Exit{Code: 72}, err: ""},
}

func everyByte() string {
	var b strings.Builder
	for i := range 256 {
		b.WriteByte(byte(i))
	}
	return b.String()
}

// TestBehaviour has one host serve whatever functions do.
func TestBehaviour(t *testing.T) {
	t.Parallel()
	d := open(t, function.Options{Hosts: 1})
	for name, b := range behaviours {
		t.Run(name, func(t *testing.T) {
			a, end := call(t, d, b.text, b.args)
			if b.reason == "" && end.Refusal != nil || end.Exit != b.exit {
				t.Fatalf("ended as %+v with %+v, value %q, error %q", end, end.Refusal, &a.value, &a.err)
			}
			if b.reason != "" {
				if message := refused(t, end, b.reason); !strings.Contains(message, b.message) {
					t.Errorf("message is %q, want %q in it", message, b.message)
				}
				checkException(t, a, end)
			} else if a.value.String() != b.value {
				t.Errorf("value is %q, want %q", &a.value, b.value)
			}
			if a.out.String() != b.out || a.err.String() != b.err {
				t.Errorf("wrote %q and %q, want %q and %q", &a.out, &a.err, b.out, b.err)
			}
			// Another call finds all as ever, in this process or in one after it.
			again, end := call(t, d, "import os\ndef f():\n  print('fine')\n  return os.read(0, 1) == b'' and os.path.samestat(os.fstat(0), os.stat(os.devnull))", "")
			if end.Refusal != nil || again.value.String() != "true" || again.out.String() != "fine\n" || again.err.Len() > 0 {
				t.Errorf("the next call ended as %+v %+v and wrote %q, %q", end, end.Refusal, &again.out, &again.err)
			}
		})
	}
}

// checkException sees that the exception travels, unless the host has died.
func checkException(t *testing.T, a *attempt, end driver.End) {
	t.Helper()
	if strings.HasPrefix(end.Refusal.Message, "worker process") {
		return
	}
	var e struct{ Type, Message, Traceback string }
	if err := json.Unmarshal(a.value.Bytes(), &e); err != nil || e.Type == "" || !strings.Contains(e.Traceback, e.Type) {
		t.Errorf("the exception is %q: %v", &a.value, err)
	}
	if strings.Contains(e.Traceback, "navvy host") && !strings.Contains(e.Message, "navvy host") {
		t.Errorf("the traceback shows the host: %s", e.Traceback)
	}
}

// TestDeepRecursion dies of its stack, where Python does not notice.
func TestDeepRecursion(t *testing.T) {
	t.Parallel()
	d := open(t, function.Options{Hosts: 1})
	_, end := call(t, d, "import sys\ndef g(x): return max([x], key=lambda y: g(y))\ndef f():\n  sys.setrecursionlimit(10**9)\n  return g(1)", "")
	if end.Refusal != nil || end.Exit.Signal != 11 {
		t.Errorf("ended as %+v %+v", end, end.Refusal)
	}
}

// hogging holds on to the interpreter, so that no other thread of it runs.
const hogging = "import ctypes\ndef f():\n  print('begun', flush=True)\n  ctypes.PyDLL(None).sleep(600)\n"

// TestStopHog ends a function that lets nothing else run.
func TestStopHog(t *testing.T) {
	t.Parallel()
	d := open(t, function.Options{Hosts: 1})
	a := calling(source(hogging), "{}")
	begun := make(chan struct{})
	a.Stdout = writer(func() { close(begun) })
	a.start(t, d)
	<-begun
	if err := a.execution.Stop(t.Context(), true); err != nil {
		t.Error(err)
	}
	if end := a.wait(t); end.Exit.Signal != 9 {
		t.Errorf("ended as %+v", end)
	}
	if _, end := call(t, d, "def f(): pass", ""); end.Refusal != nil {
		t.Errorf("the next call ended as %+v", end)
	}
}

// writer calls back once it is written to.
type writer func()

func (w writer) Write(p []byte) (int, error) {
	w()
	return len(p), nil
}

// TestRestored sees that a call finds environment and directory as they were.
func TestRestored(t *testing.T) {
	t.Parallel()
	d := open(t, function.Options{Hosts: 1})
	const looks = "import os\ndef f(): return [os.getcwd(), sorted(k for k in os.environ if k != 'NAVVY_INDEX')]"
	before, _ := call(t, d, looks, "")
	if _, end := call(t, d, "import os, tempfile\ndef f():\n  os.chdir(tempfile.mkdtemp())\n  os.environ['A'] = 'b'\n  del os.environ['PATH']", ""); end.Refusal != nil {
		t.Fatal(end.Refusal)
	}
	after, _ := call(t, d, looks, "")
	if before.value.String() != after.value.String() || !strings.Contains(after.value.String(), "PATH") {
		t.Errorf("a call found %s, and a later one %s", &before.value, &after.value)
	}
}

// TestEnvironment tells a call about itself.
func TestEnvironment(t *testing.T) {
	t.Parallel()
	d := open(t, function.Options{Hosts: 1})
	f := source("import os\ndef f(): return [os.environ.get('NAVVY_' + n) for n in ('JOB', 'INDEX', 'ATTEMPT', 'SLOT', 'ADDR', 'TASK_TOKEN')]")
	for token, want := range map[string]string{"": `["0123456789ab", "7", "1", "3", null, null]`, "secret": `["0123456789ab", "7", "1", "3", "unix:///run/s", "secret"]`} {
		a := calling(f, "{}")
		a.ID.Index, a.Slot = 7, 3
		if token != "" {
			a.API = &driver.API{Socket: "/run/s", Token: token}
		}
		if end := run(t, d, a); end.Refusal != nil || a.value.String() != want {
			t.Errorf("found %s, %+v, want %s", &a.value, end.Refusal, want)
		}
	}
}

// TestLarge returns more than fits anywhere.
func TestLarge(t *testing.T) {
	t.Parallel()
	d := open(t, function.Options{Hosts: 1})
	const size = 200 << 20
	a := calling(source("def f(n): return 'x' * n"), `{"args": [209715200]}`)
	var got counter
	a.Value = &got
	if end := run(t, d, a); end.Refusal != nil || got != size+2 {
		t.Errorf("ended as %+v with %d bytes", end.Refusal, got)
	}
	// And is given as much.
	a = calling(source("def f(s): return len(s)"), `{"args": ["`+strings.Repeat("x", 20<<20)+`"]}`)
	if end := run(t, d, a); end.Refusal != nil || a.value.String() != "20971520" {
		t.Errorf("ended as %+v with %q", end.Refusal, &a.value)
	}
}

type counter int

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

// TestLeftovers sees that what a function leaves running goes with its host, and that what
// it writes between calls belongs to none.
func TestLeftovers(t *testing.T) {
	t.Parallel()
	d := open(t, function.Options{Hosts: 1})
	a, end := call(t, d, "import subprocess\ndef f(): return subprocess.Popen(['sleep', '1000'], start_new_session=True).pid", "")
	if end.Refusal != nil {
		t.Fatal(end.Refusal)
	}
	// Somebody may not have collected it yet.
	alive := "def f(pid):\n  try: return open('/proc/%d/stat' % pid).read().split()[2] != 'Z'\n  except FileNotFoundError: return False"
	if b, _ := call(t, d, alive, a.value.String()); b.value.String() != "true" {
		t.Errorf("between calls it is alive: %s", &b.value)
	}
	if _, end := call(t, d, "import os\ndef f(): os._exit(1)", ""); end.Exit.Code != 1 {
		t.Errorf("ended as %+v", end)
	}
	if b, _ := call(t, d, alive, a.value.String()); b.value.String() != "false" {
		t.Errorf("after its host it is alive: %s", &b.value)
	}
}

// TestUnwatched sees the host end with its connection, in mid-call, whatever the function does.
func TestUnwatched(t *testing.T) {
	t.Parallel()
	d := open(t, function.Options{Hosts: 1})
	a := calling(source(hogging), "{}")
	begun := make(chan struct{})
	a.Stdout = writer(func() { close(begun) })
	a.start(t, d)
	<-begun
	function.Abandon(a.execution)
	if end := a.wait(t); end.Exit.Signal != 9 || end.Refusal != nil { // which would say that we had to
		t.Errorf("ended as %+v %+v", end, end.Refusal)
	}
}

// TestWaits has more calls than hosts, one of them given up while it waits.
func TestWaits(t *testing.T) {
	t.Parallel()
	d := open(t, function.Options{Hosts: 1})
	first := calling(source(hogging), "{}")
	first.start(t, d)
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := d.Start(ctx, &calling(source("def f(): pass"), "{}").Task); err == nil {
		t.Error("it got a host that another one has")
	}
	next := calling(source("def f(): return 1"), "{}")
	started := make(chan error)
	go func() {
		var err error
		next.execution, err = d.Start(t.Context(), &next.Task)
		started <- err
	}()
	_ = first.execution.Stop(t.Context(), true)
	first.wait(t)
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	if end := next.wait(t); end.Refusal != nil || next.value.String() != "1" {
		t.Errorf("ended as %+v", end)
	}
}

// TestOwners never share a host, and take each other's place.
func TestOwners(t *testing.T) {
	t.Parallel()
	d := open(t, function.Options{Hosts: 1})
	pids := map[string]bool{}
	for _, owner := range []string{"me", "me", "you", "me"} {
		f := source("import os\ndef f(): return os.getpid()")
		f.Owner = owner
		a := calling(f, "{}")
		if end := run(t, d, a); end.Refusal != nil {
			t.Fatal(end.Refusal)
		}
		pids[a.value.String()] = true
	}
	if len(pids) != 3 {
		t.Errorf("four calls of two owners were served by %v", pids)
	}
}

// TestRecycled hosts are those that have served enough.
func TestRecycled(t *testing.T) {
	t.Parallel()
	d := open(t, function.Options{Hosts: 1, Calls: 2})
	pids := map[string]int{}
	for range 6 {
		a, end := call(t, d, "import os\ndef f(): return os.getpid()", "")
		if end.Refusal != nil {
			t.Fatal(end.Refusal)
		}
		pids[a.value.String()]++
	}
	if len(pids) != 3 {
		t.Errorf("six calls were served by %v", pids)
	}
}
