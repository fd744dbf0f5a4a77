package function_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/internal/pythontest"
	"github.com/navvy-run/navvy/runner/function"
)

// client runs a Python program as a client's, which reads in and writes the answer.
func client(t testing.TB, in []byte, program string) []byte {
	t.Helper()
	pythontest.Need(t)
	cmd := exec.CommandContext(t.Context(), python, "-c", "import sys, pickle\n"+program)
	cmd.Stdin = bytes.NewReader(in)
	var complaint strings.Builder
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, complaint.String())
	}
	return out
}

// pickled is a function that a client's program pickles, into its standard output.
func pickled(t testing.TB, program string) *navvy.FunctionVersion {
	t.Helper()
	f := source("")
	f.Form, f.Entry, f.Code = navvy.FormPickle, "", client(t, nil, program)
	return f
}

// arguments are a pickle of what a Python expression says.
func arguments(t testing.TB, expression string) string {
	t.Helper()
	return string(client(t, nil, "sys.stdout.buffer.write(pickle.dumps("+expression+"))"))
}

// picklingly prepares a call with a pickle.
func picklingly(t testing.TB, f *navvy.FunctionVersion, expression string) *attempt {
	t.Helper()
	a := calling(f, arguments(t, expression))
	a.Spec.Function.Encoding = ""
	return a
}

// shows checks what a client finds as v in the value of a call.
func shows(t testing.TB, a *attempt, expression, want string) {
	t.Helper()
	got := client(t, a.value.Bytes(), "v = pickle.load(sys.stdin.buffer)\nprint("+expression+")")
	if strings.TrimSpace(string(got)) != want {
		t.Errorf("the client sees %s, want %s", got, want)
	}
}

func TestPickleByValue(t *testing.T) {
	t.Parallel()
	pythontest.Need(t, "dill", "cloudpickle")
	d := open(t, function.Options{Hosts: 1})
	for _, pickler := range []string{"dill", "cloudpickle"} {
		f := pickled(t, "import "+pickler+`
class Low(ValueError):
    def __init__(self, a, b): super().__init__("%s < %s" % (a, b))
def f(a, b=1):
    if a < b: raise Low(a, b)
    return {"a": a}, lambda: a
sys.stdout.buffer.write(`+pickler+`.dumps(f`+map[string]string{"dill": ", recurse=True"}[pickler]+`))`)
		f.Python, f.Pickler = "3.11", pickler+" 1"
		a := picklingly(t, f, "((5,), {'b': 2})")
		if end := run(t, d, a); end.Refusal != nil {
			t.Errorf("%s: %+v", pickler, end.Refusal)
			continue
		}
		got := client(t, a.value.Bytes(), "import dill\nv = dill.load(sys.stdin.buffer)\nprint(v[0], v[1]())")
		if string(got) != "{'a': 5} 5\n" {
			t.Errorf("%s: the value is %s", pickler, got)
		}
		a = picklingly(t, f, "((1, 2), {})")
		if message := refused(t, run(t, d, a), navvy.ReasonException); message != "Low: 1 < 2" {
			t.Errorf("%s: %s", pickler, message)
		}
		// Its __init__ cannot be called with its args.
		shows(t, a, "type(v).__name__, v, isinstance(v, ValueError), 'raise Low' in v.__navvy_traceback__ or 'in f' in v.__navvy_traceback__", "Low 1 < 2 True True")
	}
}

// TestExceptions are themselves on the client's side, which has the standard library alone.
func TestExceptions(t *testing.T) {
	t.Parallel()
	d := open(t, function.Options{Hosts: 1})
	f := source(`
import subprocess, threading
class Odd(KeyError):
    def __init__(self, a, b): self.lock = threading.Lock(); super().__init__(a)
def f(x):
    raise eval(x)
`)
	for raise, want := range map[string]string{
		"NotImplementedError('later')":               "NotImplementedError NotImplementedError later True",
		"OSError(2, 'gone', 'file')":                 "FileNotFoundError FileNotFoundError [Errno 2] gone: 'file' True",
		"subprocess.CalledProcessError(3, 'x')":      "CalledProcessError CalledProcessError Command 'x' returned non-zero exit status 3. True",
		"UnicodeDecodeError('utf8', b'x', 0, 1, '')": "UnicodeDecodeError UnicodeDecodeError 'utf8' codec can't decode byte 0x78 in position 0:  True",
		"Odd('a', 2)":                "Odd Odd 'a' True",
		"SystemExit(3)":              "SystemExit SystemExit 3 True",
		"ValueError(threading.Lock)": "ValueError ValueError <built-in function allocate_lock> True",
		"ValueError('a\\ud800')":     "ValueError",
	} {
		a := picklingly(t, f, "(("+pythonText(raise)+",), {})")
		end := run(t, d, a)
		name, rest, _ := strings.Cut(want, " ")
		if message := refused(t, end, navvy.ReasonException); !strings.HasPrefix(message, name+": ") {
			t.Errorf("%s: %s", raise, message)
		}
		if rest != "" {
			shows(t, a, "type(v).__name__, str(v), 'f(x)' in v.__navvy_traceback__ or 'in f' in v.__navvy_traceback__", rest)
		}
	}
}

// TestExceptionsAsMade are themselves for a client without navvy, where __init__ takes
// anything but args.
func TestExceptionsAsMade(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const classes = `
class Http(Exception):
    def __init__(self, status, *, body): self.status = status; super().__init__("%s %s" % (status, body))
class Gone(OSError):
    def __init__(self, file): super().__init__(2, "gone", file)
class Made(ValueError):
    def __new__(cls, *, by): return super().__new__(cls, by)
    def __init__(self, *, by): self.by = by
def f(x): raise eval(x)
`
	if err := os.WriteFile(filepath.Join(dir, "oddly.py"), []byte(classes), 0o600); err != nil {
		t.Fatal(err)
	}
	f := source("")
	f.Form, f.Code, f.Entry = navvy.FormReference, nil, "oddly:f"
	d := open(t, function.Options{Hosts: 1, Path: []string{dir}})
	for raise, want := range map[string]string{
		"Http(404, body='gone')":                "oddly.Http 404 gone ('404 gone',) {'status': 404}",
		"Gone('file')":                          "oddly.Gone [Errno 2] gone: 'file' (2, 'gone') {}",
		"Made(by=3)":                            "oddly.Made 3 (3,) {'by': 3}",
		"KeyError([Http(404, body='gone'), 1])": "builtins.KeyError [Http('404 gone'), 1] ([Http('404 gone'), 1],) {}",
	} {
		a := picklingly(t, f, "(("+pythonText(raise)+",), {})")
		refused(t, run(t, d, a), navvy.ReasonException)
		got := client(t, a.value.Bytes(), "sys.path.insert(0, "+pythonText(dir)+`)
v = pickle.load(sys.stdin.buffer)
assert "in f" in v.__dict__.pop("__navvy_traceback__")
print(type(v).__module__ + "." + type(v).__name__, v, v.args, v.__dict__)`)
		if strings.TrimSpace(string(got)) != want {
			t.Errorf("%s: the client sees %s, want %s", raise, got, want)
		}
	}
}

func pythonText(s string) string { return "'''" + strings.ReplaceAll(s, `\`, `\\`) + "'''" }

func TestUnpicklable(t *testing.T) {
	t.Parallel()
	d := open(t, function.Options{Hosts: 1})
	a := picklingly(t, source("def f(): return (x for x in [])"), "((), {})")
	message := refused(t, run(t, d, a), navvy.ReasonException)
	if !strings.HasPrefix(message, "TypeError: the function returned a value of type generator that cannot be pickled: ") {
		t.Error(message)
	}
	shows(t, a, "type(v).__name__", "TypeError")
}

func TestBatch(t *testing.T) {
	t.Parallel()
	d := open(t, function.Options{Hosts: 1})
	f := source("import os\ndef f(x):\n  if x == 13: os.fork() or None\n  if x < 0: raise ValueError('too low')\n  return (i for i in []) if x == 99 else x")
	for calls, want := range map[string]struct{ message, value string }{
		"[((1,), {}), ((), {'x': 2})]":          {"", "[(True, 1), (True, 2)]"},
		"[]":                                    {"", "[]"},
		"[((1,), {}), ((-2,), {}), ((3,), {})]": {"ValueError: too low", "[(True, 1), (False, ValueError('too low')), (True, 3)]"},
		"[((-1,), {}), ((13,), {}), ((-2,), {}), ((3,), {})]": {"ValueError: too low (the first of 2 of 4 calls that failed)", "[(False, ValueError('too low')), (True, 13), (False, ValueError('too low')), (True, 3)]"},
	} {
		a := picklingly(t, f, calls)
		a.Spec.Function.Batch = true
		end := run(t, d, a)
		if want.message == "" && end.Refusal != nil {
			t.Errorf("%s: %+v", calls, end.Refusal)
		} else if want.message != "" && refused(t, end, navvy.ReasonException) != want.message {
			t.Errorf("%s: %s", calls, end.Refusal.Message)
		}
		shows(t, a, readItems, want.value)
	}
	a := picklingly(t, f, "[((1,), {}), ((99,), {}), 3]")
	a.Spec.Function.Batch = true
	refused(t, run(t, d, a), navvy.ReasonException)
	shows(t, a, "[(good, type(pickle.loads(x)).__name__) for good, x in v[1]]", "[(True, 'int'), (False, 'TypeError'), (False, 'ValueError')]")
}

// readItems is the value of a batch, as a list of pairs.
const readItems = "[(good, pickle.loads(x)) for good, x in v[1]] if v[0] == 'items' and type(v) is tuple else v"

// TestBatchUnreadable has a call of a batch return what the client cannot read: the others'
// values are read all the same.
func TestBatchUnreadable(t *testing.T) {
	t.Parallel()
	d := open(t, function.Options{Hosts: 1})
	f := source(`
class Trap:
    def __reduce__(self): return eval, ("1 / 0",)
def f(x): return Trap() if x == 2 else [x]
`)
	a := picklingly(t, f, "[((1,), {}), ((2,), {}), ((3,), {})]")
	a.Spec.Function.Batch = true
	if end := run(t, d, a); end.Refusal != nil {
		t.Fatalf("%+v", end.Refusal)
	}
	shows(t, a, "[pickle.loads(x) for good, x in v[1] if b'1 / 0' not in x], len(v[1])", "[[1], [3]] 3")
}

func TestBadInput(t *testing.T) {
	t.Parallel()
	d := open(t, function.Options{Hosts: 1})
	for _, input := range []string{"", "x", "[1]", `{"args": 1}`, `{"arg": []}`, `{"args": [], "kwargs": []}`} {
		end := run(t, d, calling(source("def f(): pass"), input))
		if message := refused(t, end, navvy.ReasonInput); !strings.Contains(message, "JSON") && !strings.Contains(message, "args") {
			t.Errorf("%q: %s", input, message)
		}
	}
	for _, expression := range []string{"3", "(1, 2)", "((), {}, 3)", "[]"} {
		a := picklingly(t, source("def f(): pass"), expression)
		if message := refused(t, run(t, d, a), navvy.ReasonInput); !strings.Contains(message, "a call is pickled as (args, kwargs)") {
			t.Errorf("%s: %s", expression, message)
		}
		shows(t, a, "type(v).__name__", "ValueError")
	}
	a := picklingly(t, source("def f(): pass"), "((), {})")
	a.Input = []byte("\x80\x04.")
	refused(t, run(t, d, a), navvy.ReasonInput)
}

// TestBrokenPickler says why the pickler that a function needs cannot be imported: it may be
// there, and fail for a module of the worker's own that stands before Python's.
func TestBrokenPickler(t *testing.T) {
	t.Parallel()
	pythontest.Need(t, "dill")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "pydoc.py"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "dill.py"), []byte("from pydoc import missing"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := pickled(t, "import dill\nsys.stdout.buffer.write(dill.dumps(lambda: 1))")
	f.Python, f.Pickler = "3.11", "dill 0.3.6"
	a := picklingly(t, f, "((), {})")
	message := refused(t, run(t, open(t, function.Options{Hosts: 1, Path: []string{dir}}), a), navvy.ReasonStart)
	if !strings.Contains(message, "a dill that cannot be imported (ImportError: cannot import name 'missing' from 'pydoc'") {
		t.Error(message)
	}
}

// TestLoadFailures name both sides and what to do.
func TestLoadFailures(t *testing.T) {
	t.Parallel()
	pythontest.Need(t, "dill")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "mine.py"), []byte("class A:\n  @staticmethod\n  def f(x): return x + 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	old := pickled(t, "import dill\nsys.stdout.buffer.write(dill.dumps(lambda: 1))")
	old.Python, old.Pickler = "3.12", "dill 0.3.8"
	reference := source("")
	reference.Form, reference.Code, reference.Entry = navvy.FormReference, nil, "mine:A.f"
	byName := pickled(t, "sys.path.insert(0, '"+dir+"')\nimport mine\nsys.stdout.buffer.write(pickle.dumps(mine.A.f))")
	d := open(t, function.Options{Hosts: 1})
	for name, c := range map[string]struct {
		f    *navvy.FunctionVersion
		want []string
	}{
		"version":   {old, []string{"function f was pickled with Python 3.12 and dill 0.3.8; this worker's host is Python 3.11", "(/usr/bin/python3) with dill 0.3", "--python of a Python 3.12"}},
		"reference": {reference, []string{"function f is mine:A.f", "does not find the module mine", "--python-path"}},
		"by name":   {byName, []string{"does not find the module mine", "--python-path"}},
	} {
		a := picklingly(t, c.f, "((1,), {})")
		message := refused(t, run(t, d, a), navvy.ReasonStart)
		for _, part := range c.want {
			if !strings.Contains(message, part) {
				t.Errorf("%s: %s\nwant %q in it", name, message, part)
			}
		}
		shows(t, a, "isinstance(v, (ImportError, RuntimeError)) and 'function f' in str(v)", "True")
	}
	d = open(t, function.Options{Hosts: 1, Path: []string{dir}})
	for _, f := range []*navvy.FunctionVersion{reference, byName} {
		a := picklingly(t, f, "((1,), {})")
		if end := run(t, d, a); end.Refusal != nil {
			t.Error(end.Refusal)
			continue
		}
		shows(t, a, "v", "2")
	}
}
