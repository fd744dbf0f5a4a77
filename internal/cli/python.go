package cli

import (
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"
)

// pythonFlags say how Python functions are called: the flags of who runs tasks, or else
// the environment.
type pythonFlags struct {
	python, path string
	processes    int
	look         bool // no flag: who serves others says what its Python is
}

// python is how functions are called: the interpreter, the directories that go before
// its own, and how many processes there may be; 0 for the default.
type python struct {
	exe   string
	path  []string
	hosts int
	look  bool // have the interpreter say what it is: who serves others tells them
}

// usualPython is tried before the first python3 of PATH: what the system's packages
// install modules for.
const usualPython = "/usr/bin/python3"

func (f *pythonFlags) add(fs *pflag.FlagSet) {
	fs.StringVar(&f.python, "python", "", "the Python that functions are called with, 3.8 or later (default $NAVVY_PYTHON, else "+usualPython+", else python3)")
	fs.StringVar(&f.path, "python-path", "", "`DIRS` in which functions find modules, before all others, with : between them (default $NAVVY_PYTHON_PATH, else $PYTHONPATH)")
	fs.IntVarP(&f.processes, "processes", "w", 0, "Python processes at once, and so calls of functions (default: the cores)")
}

// pythonOptions is what the flags say, or the environment. Nothing is started for it yet.
func (a *app) pythonOptions() (python, error) {
	o := python{hosts: a.python.processes, look: a.python.look}
	if o.hosts < 0 {
		return o, usagef("--processes %d: want 1 or more", o.hosts)
	}
	path := a.python.path
	for _, name := range []string{"NAVVY_PYTHON_PATH", "PYTHONPATH"} {
		if path == "" {
			path = a.env(name)
		}
	}
	for _, dir := range filepath.SplitList(path) {
		dir, err := filepath.Abs(dir)
		if err != nil {
			return o, usagef("--python-path %s: %w", path, err)
		}
		o.path = append(o.path, dir)
	}
	asked, by := a.python.python, "--python"
	if asked == "" {
		asked, by = a.env("NAVVY_PYTHON"), "NAVVY_PYTHON"
	}
	if o.exe = findPython(asked); asked == "" {
		return o, nil
	}
	if noPython(o.exe) != nil {
		return o, usagef("%s %s: there is no such program; want a Python, 3.8 or later", by, asked)
	}
	return o, nil
}

// findPython is the path of an interpreter, which need not be there.
func findPython(asked string) string {
	if asked == "" {
		if noPython(usualPython) == nil {
			return usualPython
		}
		asked = "python3"
	}
	if !strings.Contains(asked, "/") {
		if found, err := exec.LookPath(asked); err == nil {
			asked = found
		}
	}
	if path, err := filepath.Abs(asked); err == nil && strings.Contains(asked, "/") {
		return path
	}
	return asked
}
