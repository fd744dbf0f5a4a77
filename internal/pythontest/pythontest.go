// Package pythontest is the Python of tests: where it is missing, they are skipped on a
// laptop and fail in CI.
package pythontest

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Python is the interpreter of all tests, for which the system's packages install modules.
const Python = "/usr/bin/python3"

// Need skips a test where there is no Python, or where that lacks one of these modules;
// in CI the test fails.
func Need(t testing.TB, modules ...string) {
	t.Helper()
	program := "pass"
	if len(modules) > 0 {
		program = "import " + strings.Join(modules, ", ")
	}
	out, err := exec.CommandContext(t.Context(), Python, "-c", program).CombinedOutput()
	switch {
	case err == nil:
	case os.Getenv("CI") != "":
		t.Fatalf("%s: %v\n%s", Python, err, out)
	default:
		t.Skipf("%s: %v\n%s", Python, err, out)
	}
}
