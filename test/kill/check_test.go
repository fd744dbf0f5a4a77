package kill

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/navvy-run/navvy/test/lifetest"
)

// result is what navvy results says of a task.
type result struct {
	Index          int
	State          string
	ExitCode       int `json:"exit_code"`
	Stdout, Stderr string
	Attempts       int
}

// look sees that no two attempts ran at once, that each result is what its task
// wrote, and that what was seen once is still the same.
func (l *life) look() {
	if both := l.trace(overlaps); len(both) > 0 {
		l.violate(errOverlap, "%s", both)
	}
	p := l.start("results", "results", "-o", "jsonl", l.id)
	l.await(p)
	seen := map[int]string{}
	for line := range strings.Lines(string(l.read(p.out))) {
		var r result
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			l.violate(errOutput, "%q: %v", line, err)
			return
		}
		if _, twice := seen[r.Index]; twice {
			l.violate(errPrinted, "results gives task %d twice", r.Index)
		}
		seen[r.Index] = line
		l.checkResult(&r)
	}
	for n, line := range l.seen {
		if seen[n] != line {
			l.violate(errLost, "the result of task %d was\n%.300sis\n%.300s", n, line, seen[n])
			return
		}
	}
	l.seen = seen
}

func (l *life) checkResult(r *result) {
	if l.result != nil {
		l.result(r)
	}
	want := lifetest.AnswerTo(r.Index)
	if !want.Equal(r.Stdout, r.Stderr, r.ExitCode) || (r.State == "succeeded") != (want.Code == 0) {
		l.violate(errOutput, "task %d: %s, exit code %d, stdout of %d bytes %.60q, should be %d bytes %.60q",
			r.Index, r.State, r.ExitCode, len(r.Stdout), r.Stdout, len(want.Stdout), want.Stdout)
	}
}

// checkPrinted sees that all sessions together have printed each answer, in
// order; that none skips one; and that none repeats what it has printed itself.
func (l *life) checkPrinted() {
	next := l.silent(0) // the first that nobody has printed
	for i, session := range l.sessions {
		b := l.read(session)
		if l.printed != nil {
			b = l.printed(b)
		}
		for at := -1; len(b) > 0; {
			n := l.readIndex(b, next, at)
			if n < 0 || n > next || at >= 0 && n != l.silent(at+1) {
				l.violate(errPrinted, "session %d prints %d behind %d; %d is the next: %.60q", i, n, at, next, b)
				return
			}
			want := lifetest.AnswerTo(n).Stdout
			if bytes.HasPrefix(want, b) && len(b) < len(want) {
				break // it was killed here
			}
			if !bytes.HasPrefix(b, want) {
				l.violate(errPrinted, "session %d does not print what task %d has written", i, n)
				return
			}
			b, at, next = b[len(want):], n, max(next, l.silent(n+1))
		}
	}
	if next != l.inputs {
		l.violate(errPrinted, "task %d of %d is not printed", next, l.inputs)
	}
}

// readIndex tells whose answer begins here; of one that was cut in its first line, the one that it has to be.
func (l *life) readIndex(b []byte, next, at int) int {
	if !bytes.ContainsRune(b, '\n') {
		if at >= 0 {
			return l.silent(at + 1)
		}
		return next
	}
	n := -1
	if _, err := fmt.Sscanf(string(b[:bytes.IndexByte(b, '\n')+1]), "task %d begins\n", &n); err != nil {
		return -1
	}
	return n
}

// silent skips the tasks, from n on, that say nothing.
func (l *life) silent(n int) int {
	for n < l.inputs && len(lifetest.AnswerTo(n).Stdout) == 0 {
		n++
	}
	return n
}

// leaveOut loses the second answer of a session.
func leaveOut(p []byte) []byte {
	_, behind, ok := bytes.Cut(p, []byte("task 1 begins\n"))
	if !ok {
		return p
	}
	before := p[:len(p)-len(behind)-len("task 1 begins\n")]
	return append(bytes.Clone(before), behind[len(lifetest.AnswerTo(1).Stdout)-len("task 1 begins\n"):]...)
}

// double repeats the first answer of a session.
func double(p []byte) []byte { return append(lifetest.AnswerTo(0).Stdout, p...) }

// misquote changes a byte of some output.
func misquote(r *result) {
	if len(r.Stdout) > 0 && r.Index == 2 {
		r.Stdout = r.Stdout[:len(r.Stdout)-1] + "!"
	}
}
