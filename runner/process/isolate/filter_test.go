package isolate_test

import (
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy/runner/process/isolate"
)

// Each number has the verdict that the lists say.
func TestFilterHasAVerdictOnEachNumber(t *testing.T) {
	t.Parallel()
	inspected := []uint32{unix.SYS_CLONE, unix.SYS_CLONE3, unix.SYS_PERSONALITY, unix.SYS_SOCKET, unix.SYS_IOCTL}
	for number := range isolate.LastKnown + 100 {
		want := isolate.Allow
		switch {
		case number > isolate.LastKnown:
			want = isolate.Unknown
		case slices.Contains(isolate.Denied, int(number)):
			want = isolate.Deny
		case slices.Contains(inspected, number):
			continue
		}
		if got := isolate.Verdict(isolate.Architecture, number, [6]uint64{}); got != want {
			t.Errorf("call %d: %#x, want %#x", number, got, want)
		}
	}
}

// Each instruction costs at every start, and no jump reaches further than 255.
func TestFilterIsSmall(t *testing.T) {
	t.Parallel()
	if n := isolate.Instructions(); n > 100 {
		t.Errorf("the filter has %d instructions", n)
	}
}

func TestFilterLooksAtArguments(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		number uint32
		args   [6]uint64
		want   uint32
	}{
		{unix.SYS_CLONE3, [6]uint64{}, isolate.Unknown},
		{unix.SYS_CLONE, [6]uint64{unix.CLONE_VM | unix.CLONE_VFORK | uint64(unix.SIGCHLD)}, isolate.Allow},
		{unix.SYS_CLONE, [6]uint64{unix.CLONE_VM | unix.CLONE_NEWNET}, isolate.Deny},
		{unix.SYS_PERSONALITY, [6]uint64{0xffffffff}, isolate.Allow},
		{unix.SYS_PERSONALITY, [6]uint64{0x20008}, isolate.Allow},
		{unix.SYS_PERSONALITY, [6]uint64{1}, isolate.Deny},
		{unix.SYS_SOCKET, [6]uint64{unix.AF_INET}, isolate.Allow},
		{unix.SYS_SOCKET, [6]uint64{unix.AF_VSOCK}, isolate.Deny},
		{unix.SYS_SOCKET, [6]uint64{1<<32 | unix.AF_VSOCK}, isolate.Deny},
		{unix.SYS_IOCTL, [6]uint64{1: unix.TIOCGWINSZ}, isolate.Allow},
		{unix.SYS_IOCTL, [6]uint64{1: unix.TIOCSTI}, isolate.Deny},
		{unix.SYS_IOCTL, [6]uint64{1: unix.TIOCLINUX}, isolate.Deny},
		{0xffffffff, [6]uint64{}, isolate.Unknown},
		{0x40000000 | unix.SYS_READ, [6]uint64{}, isolate.Unknown}, // x32
	} {
		if got := isolate.Verdict(isolate.Architecture, c.number, c.args); got != c.want {
			t.Errorf("call %d of %x: %#x, want %#x", c.number, c.args, got, c.want)
		}
		if got := isolate.Verdict(unix.AUDIT_ARCH_I386, c.number, c.args); got != isolate.Kill {
			t.Errorf("call %d of another architecture: %#x", c.number, got)
		}
	}
}
