package isolate_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/runner/process/isolate"
)

// needRoot skips a test that only root can pass.
func needRoot(tb testing.TB) {
	tb.Helper()
	if os.Getuid() != 0 {
		tb.Skip("needs root")
	}
}

func TestIsolatedAttemptSeesOnlyItself(t *testing.T) {
	t.Parallel()
	secret := filepath.Join(os.TempDir(), "navvy-test-secret-"+strconv.Itoa(os.Getpid()))
	if err := os.WriteFile(secret, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.Remove(secret) }()
	v := look(t, isolate.Box{Isolate: true})
	if v.Pid != 2 || v.Parent != 1 || !slices.Equal(v.Processes, []int{1, 2}) {
		t.Errorf("process %d of parent %d sees %v", v.Pid, v.Parent, v.Processes)
	}
	if v.Session != 2 {
		t.Errorf("it is in session %d, want its own", v.Session)
	}
	if v.Host != isolate.DefaultHostname {
		t.Errorf("host name %q", v.Host)
	}
	if !slices.Equal(v.Args, []string{filepath.Base(self(t)), "an argument"}) {
		t.Errorf("arguments %q", v.Args)
	}
	for dir, files := range v.Files {
		// On the way to the program, which was named, there may be a directory.
		if dir != "." && dir != "/dev" && (slices.Contains(files, filepath.Base(secret)) || v.Modes[dir] != "dtrwxrwxrwx") {
			t.Errorf("%s has mode %s and %v", dir, v.Modes[dir], files)
		}
	}
}

// Of what navvy has open an attempt gets its standard streams, and nothing else.
func TestDescriptorsAndEnvironment(t *testing.T) {
	t.Parallel()
	v := look(t, isolate.Box{Isolate: true})
	if v.Temp != "/tmp" {
		t.Errorf("TMPDIR=%s", v.Temp)
	}
	pipes := 0
	for _, link := range v.Descriptors {
		if strings.HasPrefix(link, "pipe:") {
			pipes++
		}
		if strings.Contains(link, "navvy-init") || pipes > 2 {
			t.Errorf("its descriptors are %q, want no pipe but for output", v.Descriptors)
		}
	}
}

func TestNamespaces(t *testing.T) {
	t.Parallel()
	v := look(t, isolate.Box{Isolate: true})
	for ns, id := range v.Namespaces {
		mine, err := os.Readlink("/proc/self/ns/" + ns)
		if err != nil {
			t.Fatal(err)
		}
		switch ns {
		case "pid", "mnt", "ipc", "uts":
			if id == mine {
				t.Errorf("it has my %s namespace", ns)
			}
		case "net":
			if id != mine {
				t.Errorf("it does not have my %s namespace", ns)
			}
		}
	}
}

func TestHostname(t *testing.T) {
	t.Parallel()
	if v := look(t, isolate.Box{Isolate: true, Hostname: "other"}); v.Host != "other" {
		t.Errorf("host name %q", v.Host)
	}
}

func TestMessageQueuesArePrivate(t *testing.T) {
	t.Parallel()
	const ipcCreate, ipcPrivate, ipcRemove = 0o1000, 0, 0
	id, _, errno := unix.Syscall(unix.SYS_MSGGET, ipcPrivate, ipcCreate|0o600, 0)
	if errno != 0 {
		t.Skip("no System V message queues:", errno)
	}
	defer func() { _, _, _ = unix.Syscall(unix.SYS_MSGCTL, id, ipcRemove, 0) }()
	if v := look(t, isolate.Box{Isolate: true}); strings.Count(v.Queues, "\n") > 1 {
		t.Errorf("it sees the host's queues:\n%s", v.Queues)
	}
}

// What an attempt may do, whoever it runs as.
func TestRights(t *testing.T) {
	t.Parallel()
	for _, uid := range []int{0, isolate.FirstUID + isolate.CountUIDs - 1} {
		if uid != 0 && os.Getuid() != 0 {
			continue
		}
		v := look(t, isolate.Box{Isolate: true, UID: uid})
		want := map[string]string{"NoNewPrivs": "1", "Seccomp": "2"}
		for _, set := range []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"} {
			want[set] = "0000000000000000"
		}
		id := strconv.Itoa(os.Getuid())
		if uid != 0 {
			id = strconv.Itoa(uid)
			want["Gid"] = strings.Join([]string{id, id, id, id}, " ")
			want["Groups"] = ""
			if v.Home != "/tmp" {
				t.Errorf("HOME=%s", v.Home)
			}
		}
		want["Uid"] = strings.Join([]string{id, id, id, id}, " ")
		want["Umask"] = umask(t)
		for key, value := range want {
			if v.Status[key] != value {
				t.Errorf("user %d: %s is %q, want %q", uid, key, v.Status[key], value)
			}
		}
		if len(v.Writable) > 0 {
			t.Errorf("user %d can write to %v", uid, v.Writable)
		}
	}
}

func umask(t *testing.T) string {
	t.Helper()
	raw, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(raw), "Umask:")
	return strings.Fields(rest)[0]
}

// An attempt that runs as the host's user 0 has the devices that any program
// needs, and no disk or memory of the host.
func TestDevicesOfRoot(t *testing.T) {
	t.Parallel()
	needRoot(t)
	v := look(t, isolate.Box{Isolate: true})
	harmless := []string{"fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty", "urandom", "zero"}
	for _, name := range v.Files["/dev"] {
		if !slices.Contains(harmless, name) {
			t.Errorf("/dev has %s", name)
		}
	}
	a := start(t, isolate.Box{Isolate: true}, "write /dev/null")
	if out := a.all(); out != "<nil>\n" {
		t.Errorf("/dev/null: %s", out)
	}
	a.wait()
}

func TestNetworkNone(t *testing.T) {
	t.Parallel()
	for _, isolated := range []bool{true, false} {
		v := look(t, isolate.Box{Isolate: isolated, Network: navvy.NetworkNone})
		if !slices.Equal(v.Interfaces, []string{"lo"}) || v.Ping != "fine" {
			t.Errorf("isolated %v: interfaces %v are up, a connection over loopback is %s", isolated, v.Interfaces, v.Ping)
		}
		if !isolated && v.Status["Uid"] != strings.TrimSpace(strings.Repeat(strconv.Itoa(os.Getuid())+" ", 4)) {
			t.Errorf("it runs as %s", v.Status["Uid"])
		}
	}
}

func TestUlimits(t *testing.T) {
	t.Parallel()
	limits := []navvy.Ulimit{{Name: "nofile", Soft: 100, Hard: 120}, {Name: "core", Soft: 0, Hard: 0}}
	for _, isolated := range []bool{true, false} {
		v := look(t, isolate.Box{Isolate: isolated, Ulimits: limits})
		for _, l := range limits {
			want := unix.Rlimit{Cur: l.Soft, Max: l.Hard}
			if l.Name == "nofile" {
				want.Cur = v.Ulimit[l.Name].Cur // which Go raises at the start of a program
			}
			if v.Ulimit[l.Name] != want {
				t.Errorf("isolated %v: limit %s is %v, want %v", isolated, l.Name, v.Ulimit[l.Name], want)
			}
		}
	}
}

// A socket in a directory that is closed to the attempt's user, and below a hidden one,
// is there, also without a network; what is beside it is not.
func TestSocketIsVisible(t *testing.T) {
	t.Parallel()
	uid := isolate.FirstUID + isolate.CountUIDs - 3
	if os.Getuid() != 0 {
		uid = 0
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "tasks.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	b := isolate.Box{Isolate: true, UID: uid, Network: navvy.NetworkNone, Socket: path}
	p := plan(t, b)
	if got := p.Socket(path); got != isolate.SocketPath || p.Socket("/other") != "/other" {
		t.Errorf("it is at %s, and another one at %s", got, p.Socket("/other"))
	}
	a := start(t, b, "dial "+isolate.SocketPath)
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if word, err := io.ReadAll(conn); err != nil || string(word) != "hello" {
		t.Errorf("it says %q, %v", word, err)
	}
	if out := a.all(); out != "<nil>\n" {
		t.Errorf("it is told %s", out)
	}
	a.wait()
	a = start(t, b, "dial "+path)
	if out := a.all(); out == "<nil>\n" && (uid != 0 || strings.HasPrefix(dir, "/tmp/")) {
		t.Errorf("at its own place: %s", out)
	}
	a.wait()
}

// What the user named below a directory that is hidden is there, and no more of it.
func TestNamedDirectoryIsVisible(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := errors.Join(
		os.MkdirAll(filepath.Join(dir, "inner", "deep"), 0o755),
		os.WriteFile(filepath.Join(dir, "outer"), nil, 0o600),
		os.Symlink(filepath.Join(dir, "inner"), filepath.Join(dir, "link")),
	); err != nil {
		t.Fatal(err)
	}
	inner := filepath.Join(dir, "inner")
	v := look(t, isolate.Box{Isolate: true, Dir: inner})
	if v.Dir != inner || !slices.Equal(v.Files["."], []string{"deep"}) {
		t.Errorf("in %s it sees %v", v.Dir, v.Files["."])
	}
	a := start(t, isolate.Box{Isolate: true, Dir: inner}, "write "+filepath.Join(inner, "made"))
	if out := a.all(); out != "<nil>\n" {
		t.Errorf("it cannot write there: %s", out)
	}
	a.wait()
	if _, err := os.Stat(filepath.Join(inner, "made")); err != nil {
		t.Error("what it wrote is not on the host:", err)
	}
}

// A directory to see is there, read-only, under each of its names; what is beside it, and
// what is not there, is not.
func TestSeenDirectories(t *testing.T) {
	t.Parallel()
	uid := isolate.FirstUID + isolate.CountUIDs - 4
	if os.Getuid() != 0 {
		uid = 0
	}
	dir := t.TempDir()
	if err := errors.Join(
		os.MkdirAll(filepath.Join(dir, "closed", "inner", "deep"), 0o755),
		os.Chmod(filepath.Join(dir, "closed"), 0o700),
		os.Symlink(filepath.Join(dir, "closed", "inner"), filepath.Join(dir, "link")),
	); err != nil {
		t.Fatal(err)
	}
	inner := filepath.Join(dir, "closed", "inner")
	for _, see := range []string{inner, filepath.Join(dir, "link")} {
		b := isolate.Box{Isolate: true, UID: uid, Dir: see, See: []string{filepath.Join(dir, "nothing"), see, inner + "/deep", "/usr"}}
		if v := look(t, b); !slices.Equal(v.Files["."], []string{"deep"}) {
			t.Errorf("in %s it sees %v", see, v.Files["."])
		}
		b.Dir = ""
		a := start(t, b, "write "+filepath.Join(see, "deep", "made"))
		if out := a.all(); !strings.Contains(out, "read-only file system") {
			t.Errorf("writing there: %s", out)
		}
		a.wait()
	}
	for _, see := range []string{"relative", "/zero\x00"} {
		if _, err := isolate.Open().Plan(isolate.Box{Isolate: true, See: []string{see}}); !errors.Is(err, navvy.ErrInvalid) {
			t.Errorf("%q: %v", see, err)
		}
	}
}

func TestPrivateDirectory(t *testing.T) {
	t.Parallel()
	uid := isolate.FirstUID + isolate.CountUIDs - 2
	if os.Getuid() != 0 {
		uid = 0
	}
	parent := filepath.Join(t.TempDir(), "closed")
	dirs, err := isolate.OpenWorkDirs(parent)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := dirs.Make("token:1", uid)
	if err != nil {
		t.Fatal(err)
	}
	p := plan(t, isolate.Box{Isolate: true, UID: uid, Private: true})
	a := launch(t, p, self(t), dir, "look")
	if err := a.status.Started(); err != nil {
		t.Fatal(err)
	}
	if v := a.view(); v.Dir != isolate.WorkDir || v.Home != isolate.WorkDir || len(v.Files["."]) != 0 {
		t.Errorf("it is in %s, at home in %s, and sees %v", v.Dir, v.Home, v.Files["."])
	}
	a = launch(t, p, self(t), dir, "write "+isolate.WorkDir+"/made")
	if out := a.all(); out != "<nil>\n" {
		t.Errorf("it cannot write there: %s", out)
	}
	a.wait()
	var info unix.Stat_t
	if err := unix.Stat(filepath.Join(dir, "made"), &info); err != nil || uid != 0 && (int(info.Uid) != uid || int(info.Gid) != uid) {
		t.Errorf("what it wrote belongs to %d:%d, %v", info.Uid, info.Gid, err)
	}
	if err := dirs.Remove("token:1"); err != nil {
		t.Error(err)
	}
}

func TestWorkingDirectoryIsRefused(t *testing.T) {
	t.Parallel()
	file := self(t)
	for dir, want := range map[string]navvy.Reason{"/no/such": navvy.ReasonNotFound, file: navvy.ReasonNotFound, os.TempDir() + "/no/such": navvy.ReasonNotFound} {
		a := launch(t, plan(t, isolate.Box{Isolate: true, Dir: dir}), file, "", "exit 0")
		var refusal *driver.Refusal
		if err := a.status.Started(); !errors.As(err, &refusal) || refusal.Reason != want {
			t.Errorf("%s: %v, want a refusal: %s", dir, err, want)
		}
		a.wait()
	}
	if os.Getuid() == 0 {
		closed := t.TempDir()
		if err := os.Chmod(closed, 0o700); err != nil {
			t.Fatal(err)
		}
		a := launch(t, plan(t, isolate.Box{Isolate: true, Dir: closed, UID: isolate.FirstUID}), file, "", "exit 0")
		var refusal *driver.Refusal
		if err := a.status.Started(); !errors.As(err, &refusal) || refusal.Reason != navvy.ReasonPermission {
			t.Errorf("a closed directory: %v", err)
		}
		a.wait()
	}
}

func TestProgramThatCannotBeExecuted(t *testing.T) {
	t.Parallel()
	for program, want := range map[string]unix.Errno{"/no/such": unix.ENOENT, "/": unix.EACCES} {
		for _, isolated := range []bool{true, false} {
			a := launch(t, plan(t, isolate.Box{Isolate: isolated, Ulimits: []navvy.Ulimit{{Name: "core"}}}), program, "", "exit 0")
			var failed *isolate.ExecError
			if err := a.status.Started(); !errors.As(err, &failed) || failed.Errno != want {
				t.Errorf("%s: %v, want %v", program, err, want)
			}
			a.wait()
		}
	}
}

func TestExitIsExact(t *testing.T) {
	t.Parallel()
	for _, b := range []isolate.Box{{Isolate: true}, {Ulimits: []navvy.Ulimit{{Name: "core"}}}} {
		for _, code := range []int{0, 1, 127, 255} {
			if status := start(t, b, fmt.Sprint("exit ", code)).wait(); !status.Exited() || status.ExitStatus() != code {
				t.Errorf("exit %d came as %#x", code, status)
			}
		}
		a := start(t, b, "hang")
		if err := unix.Kill(a.pid, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if status := a.wait(); !status.Signaled() || status.Signal() != unix.SIGKILL {
			t.Errorf("a kill came as %#x", status)
		}
	}
}

func TestBoxesThatMakeNoSense(t *testing.T) {
	t.Parallel()
	for _, b := range []isolate.Box{
		{UID: 1}, {Private: true}, {Hostname: "x"}, {Isolate: true, Dir: "x"}, {Isolate: true, Private: true, Dir: "/"},
		{Socket: "/x"}, {Isolate: true, Socket: "x"}, {Isolate: true, Socket: "/x\x00"}, {Isolate: true, UID: -1}, {Isolate: true, Hostname: strings.Repeat("x", 65)}, {Isolate: true, Dir: "/\x00"},
		{Ulimits: []navvy.Ulimit{{Name: "no-such"}}},
	} {
		if _, err := isolate.Open().Plan(b); !errors.Is(err, navvy.ErrInvalid) {
			t.Errorf("%+v: %v", b, err)
		}
	}
}
