package inpod

import (
	"bytes"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy"
)

const envRun = "NAVVY_TEST_INPOD"

func TestMain(m *testing.M) {
	if os.Getenv(envRun) != "" {
		os.Exit(Run(os.Args[1:], os.Environ(), os.Stdout))
	}
	goleak.VerifyTestMain(m)
}

// patience bounds what tests wait for.
const patience = time.Minute

// pod is a run as a process of this machine.
type pod struct {
	cmd    *exec.Cmd
	mu     sync.Mutex
	frames []Frame
	news   chan struct{}
	exited chan struct{}
}

func script(index int64, text string, env ...string) Task {
	return Task{Index: index, Argv: []string{"/bin/sh", "-c", text}, Env: env}
}

func begin(t *testing.T, l *Load) *pod {
	t.Helper()
	pieces, err := l.Pack()
	if err != nil {
		t.Fatal(err)
	}
	p := &pod{cmd: exec.Command("/proc/self/exe", pieces...), news: make(chan struct{}, 1), exited: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), envRun+"=1", "HERE=pod")
	p.cmd.Stdout = &Reader{
		Frame: func(f Frame) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.frames = append(p.frames, f)
			select {
			case p.news <- struct{}{}:
			default:
			}
		},
		Other: func(line []byte) { t.Errorf("a line is no frame: %q", line) },
	}
	p.cmd.Stderr = t.Output()
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.exited)
		_ = p.cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.exited
	})
	return p
}

// wait waits for the end, and gives the exit code.
func (p *pod) wait(t *testing.T) int {
	t.Helper()
	select {
	case <-p.exited:
	case <-time.After(patience):
		t.Fatal("it does not end")
	}
	for i, f := range p.frames {
		if f.Seq != uint64(i) {
			t.Fatalf("frame %d has number %d", i, f.Seq)
		}
	}
	return p.cmd.ProcessState.ExitCode()
}

// await waits until a task has written a text.
func (p *pod) await(t *testing.T, index int64, text string) {
	t.Helper()
	for deadline := time.After(patience); ; {
		p.mu.Lock()
		out := written(p.frames, index, KindStdout)
		p.mu.Unlock()
		if strings.Contains(out, text) {
			return
		}
		select {
		case <-p.news:
		case <-deadline:
			t.Fatalf("task %d does not write %q but %q", index, text, out)
		}
	}
}

func written(frames []Frame, index int64, kind Kind) string {
	var b bytes.Buffer
	for _, f := range frames {
		if f.Index == index && f.Kind == kind {
			b.Write(f.Data)
		}
	}
	return b.String()
}

func (p *pod) out(index int64) string { return written(p.frames, index, KindStdout) }

// end is how a task ended.
func (p *pod) end(t *testing.T, index int64) *End {
	t.Helper()
	for _, f := range p.frames {
		if f.Kind == KindEnd && f.Index == index {
			e, err := ParseEnd(f.Data)
			if err != nil {
				t.Fatal(err)
			}
			return e
		}
	}
	t.Fatalf("task %d has no end", index)
	return nil
}

// Tasks run one after another, each with its own arguments, environment and end.
func TestEnds(t *testing.T) {
	t.Parallel()
	p := begin(t, &Load{Grace: time.Second, Tasks: []Task{
		script(0, `printf '%s|' "$@" "$HERE" "$TASK"; echo err >&2; exit 3`, "TASK=zero"),
		script(1, "kill -9 $$"),
		{Index: 2, Argv: []string{"/no/such/program"}},
		{Index: 3, Argv: []string{"/etc/passwd"}},
		{Index: 4, Argv: []string{"no-such-program"}},
		{Index: 5, Argv: []string{"sh", "-c", "cat; echo $HERE", "sh"}, Env: []string{"HERE=task"}},
		script(6, "exec >&- 2>&-; exit 6"),
		{Index: 7, Argv: []string{"/bin/true", strings.Repeat("x", 200<<10)}},
		{Index: 8, Argv: []string{"/bin/true", "a\x00b"}},
	}})
	if code := p.wait(t); code != 0 {
		t.Errorf("the pod exits with %d", code)
	}
	for index, want := range map[int64]End{
		0: {Code: 3}, 1: {Signal: 9}, 2: {Reason: navvy.ReasonNotFound}, 3: {Reason: navvy.ReasonPermission},
		4: {Reason: navvy.ReasonNotFound}, 5: {}, 6: {Code: 6}, 7: {Reason: navvy.ReasonInput}, 8: {Reason: navvy.ReasonInput},
	} {
		got := p.end(t, index)
		if got.Code != want.Code || got.Signal != want.Signal || got.Reason != want.Reason || got.Stopped || got.OOM != 0 {
			t.Errorf("task %d ended as %+v, want %+v", index, got, want)
		}
		if ran := want.Reason == ""; ran != (got.Ran > 0) || ran == (got.Message != "") {
			t.Errorf("task %d has used %+v", index, got)
		}
	}
	if p.out(0) != "pod|zero|" || written(p.frames, 0, KindStderr) != "err\n" || p.out(5) != "task\n" {
		t.Errorf("the output is %q, %q and %q", p.out(0), written(p.frames, 0, KindStderr), p.out(5))
	}
	if last := p.frames[len(p.frames)-1]; last.Kind != KindDone {
		t.Errorf("the last frame is %+v", last)
	}
}

// What is written comes whole: a lot of it, and any bytes.
func TestOutput(t *testing.T) {
	t.Parallel()
	const much = 10 << 20
	p := begin(t, &Load{Tasks: []Task{
		script(0, "yes 0123456789 | head -c "+strconv.Itoa(much)),
		script(1, `i=0; while [ $i -lt 256 ]; do printf "\\$(printf %03o $i)"; i=$((i+1)); done`),
		script(2, "printf unended"),
	}})
	if code := p.wait(t); code != 0 {
		t.Errorf("the pod exits with %d", code)
	}
	line := "0123456789\n"
	if got := p.out(0); got != strings.Repeat(line, much/len(line)+1)[:much] {
		t.Errorf("%d bytes are not the %d that were written", len(got), much)
	}
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	if got := p.out(1); got != string(all) {
		t.Errorf("all bytes are %q", got)
	}
	if got := p.out(2); got != "unended" {
		t.Errorf("a line without an end is %q", got)
	}
}

// A task has its time, and no more.
func TestTimeout(t *testing.T) {
	t.Parallel()
	p := begin(t, &Load{Timeout: 100 * time.Millisecond, Grace: 100 * time.Millisecond, Tasks: []Task{
		script(0, "trap 'echo asked; exit 5' TERM; echo begun; sleep 1000 & wait"),
		script(1, "trap '' TERM; while :; do sleep 1000; done"),
		script(2, "exit 2"),
	}})
	if code := p.wait(t); code != 0 {
		t.Errorf("the pod exits with %d", code)
	}
	for index := range int64(2) {
		if e := p.end(t, index); e.Reason != navvy.ReasonTimeout || e.Message != "ran longer than 100ms" {
			t.Errorf("task %d ended as %+v", index, e)
		}
	}
	if p.out(0) != "begun\nasked\n" {
		t.Errorf("the output is %q", p.out(0))
	}
}

// Nothing that a task leaves behind outlives it, nor holds anything up.
func TestLeftovers(t *testing.T) {
	t.Parallel()
	p := begin(t, &Load{Tasks: []Task{
		script(0, "sleep 1000001 & setsid sh -c 'setsid sleep 1000001 & sleep 1000001' & sleep 0.1; echo $$"),
		script(1, `for f in /proc/[0-9]*/cmdline; do tr '\0' ' ' < $f 2>/dev/null | grep "^sleep 1000001"; done; exit 0`),
	}})
	if code := p.wait(t); code != 0 {
		t.Errorf("the pod exits with %d", code)
	}
	if got := p.out(1); got != "" {
		t.Errorf("there are still %q", got)
	}
}

// Who ends the pod ends the task that runs, and those behind it do not begin.
func TestAsked(t *testing.T) {
	t.Parallel()
	p := begin(t, &Load{Tasks: []Task{
		script(0, "exit 0"),
		script(1, "trap 'echo asked; exit 4' TERM; echo begun; sleep 1000 & wait"),
		script(2, "exit 0"),
	}})
	p.await(t, 1, "begun\n")
	if err := p.cmd.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := p.wait(t); code != exitAsked {
		t.Errorf("the pod exits with %d", code)
	}
	if e := p.end(t, 1); e.Code != 4 || !e.Stopped || p.out(1) != "begun\nasked\n" {
		t.Errorf("it ended as %+v with output %q", e, p.out(1))
	}
	if e := p.end(t, 0); e.Stopped {
		t.Errorf("what had ended is %+v", e)
	}
	for _, f := range p.frames {
		if f.Index == 2 || f.Kind == KindDone {
			t.Errorf("there is %+v", f)
		}
	}
}

// Arguments that are none are told.
func TestBroken(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{nil, {"x"}, {"1!"}} {
		cmd := exec.Command("/proc/self/exe", args...)
		cmd.Env = append(os.Environ(), envRun+"=1")
		var said bytes.Buffer
		cmd.Stderr = &said
		if err := cmd.Run(); cmd.ProcessState.ExitCode() != exitBroken || !strings.Contains(said.String(), "navvy: pod: the tasks") {
			t.Errorf("%q: %v, %q", args, err, said.String())
		}
	}
}
