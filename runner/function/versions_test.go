package function_test

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"os"
	"strings"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/internal/pythontest"
	"github.com/navvy-run/navvy/runner/function"
)

// sdk is where the Python package is.
const sdk = "../../sdk/python/"

// The host and the SDK look for code of other Pythons in the same way.
func TestBytecodeIsTheSDKs(t *testing.T) {
	t.Parallel()
	var texts [2][]byte
	for i, path := range []string{"bytecode.py", sdk + "navvy/_bytecode.py"} {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		texts[i] = text
	}
	if !bytes.Equal(texts[0], texts[1]) {
		t.Error("bytecode.py differs from sdk/python/navvy/_bytecode.py: copy one over the other")
	}
}

// foreign is a function that another Python has pickled.
type foreign struct{ pickler, python, code string }

// foreigners reads what other Pythons have pickled.
func foreigners(t *testing.T) (all []foreign) {
	t.Helper()
	file, err := os.Open(sdk + "tests/testdata/code.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		words := strings.Fields(lines.Text())
		if words[0] == "#" {
			continue
		}
		code, err := base64.StdEncoding.DecodeString(words[2])
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, foreign{words[0], words[1], string(code)})
	}
	return all
}

// Code of another Python is told, whether it is the function or an argument: a pickle
// that says nothing of who wrote it would give wrong results, or end the host.
func TestCodeOfOtherPythons(t *testing.T) {
	t.Parallel()
	pythontest.Need(t, "dill", "cloudpickle")
	own := string(client(t, nil, "sys.stdout.write('%d.%d' % sys.version_info[:2])"))
	d := open(t, function.Options{Hosts: 1})
	made := map[string]string{
		"3.7": "3.7 or earlier", "3.8": "3.8 or 3.9", "3.9": "3.8 or 3.9", "3.10": "3.10",
		"3.12": "3.12 or later", "3.13": "3.12 or later",
	}
	applies := source("def f(g, x): return g(x)")
	for _, o := range foreigners(t) {
		asFunction := source("")
		asFunction.Form, asFunction.Entry, asFunction.Code = navvy.FormPickle, "", []byte(o.code)
		// The pickle of ((g, 10), {}), with g as it came.
		inner := o.code[len("\x80\x04"):strings.LastIndex(o.code, ".")]
		asArgument := calling(applies, "\x80\x04("+inner+"K\nt}\x86.")
		asArgument.Spec.Function.Encoding = ""
		for what, a := range map[string]*attempt{"was pickled": picklingly(t, asFunction, "((10,), {})"), "its arguments hold code that was pickled": asArgument} {
			end := run(t, d, a)
			if o.python == own {
				if end.Refusal != nil {
					t.Errorf("%s of %s: %+v", o.pickler, o.python, end.Refusal)
				}
				shows(t, a, "v", "36")
				continue
			}
			message := refused(t, end, navvy.ReasonStart)
			for _, want := range []string{
				what + " with Python ", "; this worker's host is Python " + own, "(" + python + ")",
				map[bool]string{true: "need 3.8 or later: pickle with Python " + own, false: "start the worker with --python of a Python "}[o.python == "3.7"],
			} {
				if !strings.Contains(message, want) {
					t.Errorf("%s of %s: %s; want %s", o.pickler, o.python, message, want)
				}
			}
			if own == "3.11" && !strings.Contains(message, "with Python "+made[o.python]+";") {
				t.Errorf("%s of %s: %s", o.pickler, o.python, message)
			}
			shows(t, a, "type(v).__name__", "RuntimeError")
		}
	}
}

// A call that is no pair of a tuple and a dict is told by what came.
func TestCallsThatAreNone(t *testing.T) {
	t.Parallel()
	d := open(t, function.Options{Hosts: 1})
	f := source("def f(): pass")
	for expression, want := range map[string]string{
		"(1,)": "a tuple and a dict, not as a tuple of 1", "((), 1)": "not as a tuple of a tuple and an int",
		"5": "not as an int", "'x'": "not as a str", "((), {}, 3)": "not as a tuple of 3",
	} {
		if message := refused(t, run(t, d, picklingly(t, f, expression)), navvy.ReasonInput); !strings.HasSuffix(message, want) {
			t.Errorf("%s: %s", expression, message)
		}
	}
}

// A function that dill has pickled as it does by default finds no globals of __main__.
func TestGlobalsLeftBehind(t *testing.T) {
	t.Parallel()
	pythontest.Need(t, "dill")
	d := open(t, function.Options{Hosts: 1})
	newer := string(client(t, nil, "sys.stdout.write(str(sys.version_info >= (3, 11)))"))
	for options, hinted := range map[string]string{"": newer, ", recurse=True": "False"} {
		f := pickled(t, `
import dill
def f(): return absent(3)
sys.stdout.buffer.write(dill.dumps(f`+options+`))`)
		a := picklingly(t, f, "((), {})")
		const text = "name 'absent' is not defined"
		if message := refused(t, run(t, d, a), navvy.ReasonException); message != "NameError: "+text {
			t.Errorf("dill%s: %s", options, message)
		}
		hint := "'dill leaves the globals of __main__ behind: '"
		shows(t, a, hint+" in v.__navvy_traceback__, str(getattr(v, '__notes__', '')).find("+hint+") > 0, *v.args", hinted+" "+hinted+" "+text)
	}
}
