package function

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/navvy-run/navvy"
)

// Offered tells why functions cannot be called with an interpreter; nil if they can be,
// as far as that can be told without starting it. The error wraps navvy.ErrNotFound.
func Offered(python string) error {
	info, err := os.Stat(python)
	if err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
		return fmt.Errorf("function: %q is no program: name a Python 3.8 or later with --python: %w", python, navvy.ErrNotFound)
	}
	return nil
}

// oldest is the oldest minor version of Python 3 that hosts run in.
const oldest = 8

// lookTime is how long an interpreter may take to say what it is.
const lookTime = 20 * time.Second

// look is what an interpreter is asked: its version, and which picklers there are, by
// what is written of them beside them. Nothing that stands in a path is run for it. Any
// Python understands it.
const look = `import sys
print("python %d.%d.%d" % tuple(sys.version_info[:3]))
if sys.version_info >= (3, 8):
    from importlib import metadata
    sys.path[:0] = sys.argv[1:]
    for name in "dill", "cloudpickle":
        try:
            print("%s %s" % (name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            pass
`

// about asks an interpreter what it is, for people: its version, and what pickles
// functions. The error says why functions cannot be called with it, and what to do.
func about(python string, path []string) (string, error) {
	if err := Offered(python); err != nil {
		return "", fmt.Errorf("%s is no program%s", python, another)
	}
	text, err := ask(python, path)
	lines := strings.Split(strings.TrimSpace(strings.ToValidUTF8(string(text), "?")), "\n")
	version, ok := strings.CutPrefix(lines[0], "python ")
	switch {
	case ok && !recent(version):
		return "", fmt.Errorf("%s is Python %.20s, and functions need 3.%d or later%s", python, version, oldest, another)
	case err != nil || !ok:
		return "", fmt.Errorf("%s is no Python that works%s%s", python, wrong(err), another)
	}
	picklers := strings.Join(lines[1:], ", ")
	if picklers == "" {
		picklers = "neither dill nor cloudpickle"
	}
	return fmt.Sprintf("Python %s (%s), %s", version, python, picklers), nil
}

// askTimes is how many times an interpreter is asked that a signal has ended, and askAgain
// how long after the first; each pause is twice the last.
const (
	askTimes = 6
	askAgain = 100 * time.Millisecond
)

// ask has an interpreter say what it is. One that is ended by a signal, as by a kernel that
// is short of memory, is asked again: what it says holds for as long as the worker lives.
func ask(python string, path []string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), lookTime)
	defer cancel()
	for n := 0; ; n++ {
		cmd := exec.CommandContext(ctx, python, append([]string{"-I", "-c", look}, path...)...)
		cmd.Dir, cmd.Env, cmd.WaitDelay = "/", []string{"LANG=C.UTF-8"}, time.Second
		text, err := cmd.Output()
		if !signalled(err) || n+1 == askTimes || ctx.Err() != nil {
			return text, err
		}
		select {
		case <-ctx.Done():
		case <-time.After(askAgain << n):
		}
	}
}

// signalled tells whether a program was ended by a signal.
func signalled(err error) bool {
	exit, ok := errors.AsType[*exec.ExitError](err)
	return ok && exit.ExitCode() < 0
}

// another ends what is said of an interpreter that will not do.
const another = ": start the worker with --python of another, as in --python /usr/bin/python3"

// recent tells whether hosts run in a version.
func recent(version string) bool {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 2 {
		return false
	}
	major, err := strconv.Atoi(parts[0])
	minor, err2 := strconv.Atoi(parts[1])
	return errors.Join(err, err2) == nil && (major > 3 || major == 3 && minor >= oldest)
}

// wrong is what a program that is no Python has said last, or how it ended.
func wrong(err error) string {
	if err == nil {
		return ""
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && len(exit.Stderr) > 0 {
		lines := bytes.Split(bytes.TrimSpace(exit.Stderr), []byte("\n"))
		return fmt.Sprintf(" (%.200s)", strings.ToValidUTF8(string(lines[len(lines)-1]), "?"))
	}
	return fmt.Sprintf(" (%v)", err)
}
