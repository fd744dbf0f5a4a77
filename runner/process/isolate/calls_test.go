package isolate_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy/runner/process/isolate"
)

// calls are tried in an isolated attempt, as user 0 where the test has that.
var calls = []struct {
	name   string
	number uintptr
	args   [3]uintptr
	want   unix.Errno
}{
	{name: "mount", number: unix.SYS_MOUNT, want: unix.EPERM},
	{name: "umount2", number: unix.SYS_UMOUNT2, want: unix.EPERM},
	{name: "open_tree", number: unix.SYS_OPEN_TREE, want: unix.EPERM},
	{name: "fsopen", number: unix.SYS_FSOPEN, want: unix.EPERM},
	{name: "unshare", number: unix.SYS_UNSHARE, args: [3]uintptr{unix.CLONE_NEWUSER}, want: unix.EPERM},
	{name: "clone", number: unix.SYS_CLONE, args: [3]uintptr{unix.CLONE_NEWUSER | uintptr(unix.SIGCHLD)}, want: unix.EPERM},
	{name: "clone3", number: unix.SYS_CLONE3, want: unix.ENOSYS},
	{name: "setns", number: unix.SYS_SETNS, want: unix.EPERM},
	{name: "keyctl", number: unix.SYS_KEYCTL, want: unix.EPERM},
	{name: "add_key", number: unix.SYS_ADD_KEY, want: unix.EPERM},
	{name: "bpf", number: unix.SYS_BPF, want: unix.EPERM},
	{name: "perf_event_open", number: unix.SYS_PERF_EVENT_OPEN, want: unix.EPERM},
	{name: "userfaultfd", number: unix.SYS_USERFAULTFD, want: unix.EPERM},
	{name: "io_uring_setup", number: unix.SYS_IO_URING_SETUP, want: unix.EPERM},
	{name: "init_module", number: unix.SYS_INIT_MODULE, want: unix.EPERM},
	{name: "kexec_load", number: unix.SYS_KEXEC_LOAD, want: unix.EPERM},
	{name: "open_by_handle_at", number: unix.SYS_OPEN_BY_HANDLE_AT, want: unix.EPERM},
	{name: "personality", number: unix.SYS_PERSONALITY, args: [3]uintptr{0x0400000}, want: unix.EPERM},
	{name: "personality", number: unix.SYS_PERSONALITY, args: [3]uintptr{0xffffffff}},
	{name: "socket of the hypervisor", number: unix.SYS_SOCKET, args: [3]uintptr{unix.AF_VSOCK, unix.SOCK_STREAM}, want: unix.EPERM},
	{name: "ioctl TIOCSTI", number: unix.SYS_IOCTL, args: [3]uintptr{0, unix.TIOCSTI}, want: unix.EPERM},
	{name: "ioctl TIOCSTI with high bits", number: unix.SYS_IOCTL, args: [3]uintptr{0, 1<<32 | unix.TIOCSTI}, want: unix.EPERM},
	{name: "ioctl", number: unix.SYS_IOCTL, args: [3]uintptr{^uintptr(0), unix.TIOCGWINSZ}, want: unix.EBADF},
	{name: "a call of the future", number: 2000, want: unix.ENOSYS},
	{name: "mount of x32", number: 0x40000000 | unix.SYS_MOUNT, want: unix.ENOSYS},
	{name: "no call", number: ^uintptr(0), want: unix.ENOSYS},
	{name: "getpid", number: unix.SYS_GETPID},
}

// callAll makes the calls and tells which had another answer than it should.
func callAll() int {
	for _, c := range calls {
		if _, _, errno := unix.RawSyscall(c.number, c.args[0], c.args[1], c.args[2]); errno != c.want {
			_, _ = fmt.Fprintf(os.Stdout, "%s: %v, want %v\n", c.name, errno, c.want)
		}
	}
	return 0
}

func TestFilterAnswers(t *testing.T) {
	t.Parallel()
	a := start(t, isolate.Box{Isolate: true}, "call")
	if out := a.all(); out != "" {
		t.Error(out)
	}
	if status := a.wait(); status != 0 {
		t.Errorf("it ended with %#x", status)
	}
}

// foreign makes a call of the 32-bit architecture: int $0x80 for getpid, then return.
func foreign() int {
	code := []byte{0xb8, 20, 0, 0, 0, 0xcd, 0x80, 0xc3}
	page, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return 96
	}
	copy(page, code)
	at := unsafe.SliceData(page)
	function := &at
	(*(*func())(unsafe.Pointer(&function)))()
	return 0
}

func TestForeignArchitectureEndsTheAttempt(t *testing.T) {
	t.Parallel()
	if !strings.HasPrefix(machine(t), "x86_64") {
		t.Skip("only x86-64 has a second architecture that is this easy to reach")
	}
	if status := start(t, isolate.Box{Isolate: true}, "foreign").wait(); !status.Signaled() || status.Signal() != unix.SIGSYS {
		t.Errorf("it ended with %#x, want SIGSYS", status)
	}
}

func machine(t *testing.T) string {
	t.Helper()
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		t.Fatal(err)
	}
	return unix.ByteSliceToString(name.Machine[:])
}
