package boot_test

import (
	"fmt"
	"os"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy/runner/process/boot"
)

// ended expects the reports of an attempt that ran to its end.
func ended(t *testing.T, a *attempt) unix.WaitStatus {
	t.Helper()
	if r, ok := a.report(); !ok || r.Kind != boot.Started {
		t.Fatalf("first report %+v %v, want that it has started", r, ok)
	}
	r, ok := a.report()
	if !ok || r.Kind != boot.Ended {
		t.Fatalf("second report %+v %v, want that it has ended", r, ok)
	}
	if status := a.wait(); status != 0 {
		t.Errorf("the init ended with %#x", status)
	}
	if r, ok := a.report(); ok {
		t.Errorf("one more report: %+v", r)
	}
	return r.Status
}

func TestExitIsExact(t *testing.T) {
	t.Parallel()
	for _, code := range []int{0, 1, 3, 127, 128, 255} {
		if status := ended(t, start(t, &boot.Program{Init: true}, fmt.Sprint("exit ", code))); !status.Exited() || status.ExitStatus() != code {
			t.Errorf("exit %d came as %#x", code, status)
		}
	}
	for _, sig := range []unix.Signal{unix.SIGKILL, unix.SIGTERM, unix.SIGHUP} {
		status := ended(t, start(t, &boot.Program{Init: true}, fmt.Sprint("die ", int(sig))))
		if !status.Signaled() || status.Signal() != sig {
			t.Errorf("signal %d came as %#x", sig, status)
		}
	}
}

func TestExitIsExactWithoutInit(t *testing.T) {
	t.Parallel()
	a := start(t, &boot.Program{}, "exit 3")
	if r, ok := a.report(); ok {
		t.Errorf("report %+v, want none", r)
	}
	if status := a.wait(); !status.Exited() || status.ExitStatus() != 3 {
		t.Errorf("exit 3 came as %#x", status)
	}
}

// The task is the second process, has its arguments, no blocked signals, and no
// more files than the three that it was given and the one that it counts them with.
func TestTaskSeesNothingOfTheInit(t *testing.T) {
	t.Parallel()
	a := start(t, &boot.Program{Init: true}, "look")
	if got, want := a.line(), "2 1 2 [an argument] 0000000000000000 "; len(got) < len(want) || got[:len(want)] != want {
		t.Errorf("the task sees %q, want %q", got, want)
	}
	ended(t, a)
	b := start(t, &boot.Program{}, "look")
	if got, want := b.line(), fmt.Sprintf("%d %d 2 [an argument] 0000000000000000 ", b.pid, os.Getpid()); len(got) < len(want) || got[:len(want)] != want {
		t.Errorf("the task sees %q, want %q", got, want)
	}
	b.wait()
}

// A failure of any call is told by its name, and leaves nothing behind.
func TestFailureIsNamed(t *testing.T) {
	t.Parallel()
	fine := boot.Call{Name: "fine", Number: unix.SYS_GETPID}
	for phase := range 2 {
		for index := range 4 {
			calls := []boot.Call{fine, fine, fine, fine}
			calls[index] = boot.Call{Name: fmt.Sprint("call ", index), Number: unix.SYS_CHDIR, Args: []boot.Arg{boot.Text("/no/such")}}
			p := &boot.Program{Init: true, Before: calls, After: []boot.Call{fine}}
			if phase == 1 {
				p.Before, p.After = p.After, p.Before
			}
			for _, init := range []bool{true, false} {
				p.Init = init
				a := start(t, p, "exit 0")
				if r, ok := a.report(); !ok || r.Kind != boot.Failed || r.Call != calls[index].Name || r.Errno != unix.ENOENT {
					t.Errorf("report %+v %v, want a failed %s", r, ok, calls[index].Name)
				}
				if status := a.wait(); status.ExitStatus() != 127 {
					t.Errorf("the init ended with %#x", status)
				}
			}
		}
	}
}

// In the last phase the task runs already: a call that fails there ends it.
func TestFailureToSettleEndsTheTask(t *testing.T) {
	t.Parallel()
	a := start(t, &boot.Program{Init: true, Settle: []boot.Call{{Name: "late", Number: unix.SYS_CHDIR, Args: []boot.Arg{boot.Text("")}}}}, "hang")
	if r, _ := a.report(); r.Kind != boot.Started {
		t.Errorf("report %+v, want that it has started", r)
	}
	if r, _ := a.report(); r.Kind != boot.Failed || r.Call != "late" || r.Errno != unix.ENOENT {
		t.Errorf("report %+v, want the late failure", r)
	}
	if status := a.wait(); status.ExitStatus() != 127 {
		t.Errorf("the init ended with %#x", status)
	}
}

func TestErrorsMayBeIgnored(t *testing.T) {
	t.Parallel()
	missing := boot.Call{Name: "missing", Number: unix.SYS_CHDIR, Args: []boot.Arg{boot.Text("/no/such")}, Ignore: unix.ENOENT}
	whatever := boot.Call{Name: "whatever", Number: unix.SYS_CHDIR, Args: []boot.Arg{boot.Int(1)}, IgnoreAll: true}
	p := &boot.Program{Init: true, Before: []boot.Call{missing, whatever}, After: []boot.Call{missing, whatever}, Settle: []boot.Call{missing, whatever}}
	if status := ended(t, start(t, p, "exit 0")); status != 0 {
		t.Errorf("ended with %#x", status)
	}
	missing.Ignore = unix.EACCES
	a := start(t, &boot.Program{Init: true, Before: []boot.Call{missing}}, "exit 0")
	if r, _ := a.report(); r.Kind != boot.Failed {
		t.Errorf("report %+v, want a failure: it is another error that is ignored", r)
	}
	a.wait()
}

func TestUnknownProgramIsToldApart(t *testing.T) {
	t.Parallel()
	for program, want := range map[string]unix.Errno{"/no/such/program": unix.ENOENT, "/proc": unix.EACCES, "": unix.ENOENT} {
		for _, init := range []bool{true, false} {
			a := startProgram(t, &boot.Program{Init: init}, program, "exit 0")
			if r, _ := a.report(); r.Kind != boot.Unstarted || r.Errno != want {
				t.Errorf("%q: report %+v, want %v", program, r, want)
			}
			a.wait()
		}
	}
}

// Outside of a namespace the init would pass a signal on to all processes of the host.
func TestInitIsTheFirstProcessOrNothing(t *testing.T) {
	t.Parallel()
	image, err := boot.NewImage(&boot.Program{Init: true, Status: statusFD})
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	r, w := pipe(t)
	pid, err := syscall.ForkExec(boot.Path(4), []string{self()}, &syscall.ProcAttr{Files: []uintptr{0, 1, 2, w.Fd(), image.File()}})
	if err != nil {
		t.Fatal(err)
	}
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(pid, &status, 0, nil); err != nil || status.ExitStatus() != 127 {
		t.Errorf("it ended with %v, %v", status, err)
	}
	raw := make([]byte, boot.ReportSize)
	if _, err := r.Read(raw); err != nil {
		t.Fatal(err)
	}
	if report, err := image.Parse(raw); err != nil || report.Kind != boot.Failed {
		t.Errorf("report %+v, %v", report, err)
	}
}

// The image cannot be changed: processes that run it may be looked at by others.
func TestImageIsSealed(t *testing.T) {
	t.Parallel()
	image, err := boot.NewImage(&boot.Program{Status: statusFD})
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	f, err := os.OpenFile(boot.Path(int(image.File())), os.O_RDWR, 0)
	if err != nil {
		t.Skip("it cannot even be opened:", err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("x"), 0); err == nil {
		t.Error("it can be written to")
	}
	if err := f.Truncate(10); err == nil {
		t.Error("it can be cut")
	}
}

func FuzzParse(f *testing.F) {
	image, err := boot.NewImage(&boot.Program{Init: true, Status: statusFD, Before: []boot.Call{{Name: "one"}}})
	if err != nil {
		f.Skip(err)
	}
	f.Cleanup(func() { _ = image.Close() })
	for first := range byte(9) {
		f.Add(append([]byte{first}, make([]byte, boot.ReportSize-1)...))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := image.Parse(raw)
		if err == nil && (r.Kind < boot.Failed || r.Kind > boot.Ended || r.Kind == boot.Failed && r.Call == "") {
			t.Errorf("%x is read as %+v", raw, r)
		}
	})
}

// children lists the processes that have the parent pid.
func children(t *testing.T, pid int) []string {
	t.Helper()
	p := strconv.Itoa(pid)
	raw, err := os.ReadFile("/proc/" + p + "/task/" + p + "/children")
	if err != nil {
		t.Skip("this kernel does not list children:", err)
	}
	return fields(raw)
}
