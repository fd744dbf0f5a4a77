package faas

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/internal/pythontest"
)

// What stands for an exception is one to Python, with its text.
func TestExceptionInPython(t *testing.T) {
	t.Parallel()
	pythontest.Need(t, "dill")
	const program = `
import codecs, dill, sys
value = dill.loads(codecs.decode(sys.stdin.read().encode(), "base64"))
print(ascii(value))
`
	for want, value := range map[string][]byte{
		`RuntimeError('worker process died: signal 9')`: failure(&navvy.Attempt{Reason: navvy.ReasonSignal, Message: "worker process died: signal 9"}),
		`TimeoutError('took "1\xa0s"\n')`:               failure(&navvy.Attempt{Reason: navvy.ReasonTimeout, Message: "took \"1\u00a0s\"\n"}),
		`MemoryError('the task failed: oom')`:           failure(&navvy.Attempt{Reason: navvy.ReasonOOM}),
		`RuntimeError('the task was stopped: \ufffd')`:  stopped("\xff"),
		`None`: []byte(nothing),
	} {
		cmd := exec.CommandContext(t.Context(), pythontest.Python, "-c", program)
		cmd.Stdin = bytes.NewReader(bytes.ReplaceAll(appendPayload(nil, value), []byte(`\n`), []byte("\n")))
		out, err := cmd.CombinedOutput()
		if got := strings.TrimSpace(string(out)); err != nil || got != want {
			t.Errorf("%q is %s, %v; want %s", value, got, err, want)
		}
	}
}
