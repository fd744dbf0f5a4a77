// Package enginetest is real engines of containers for tests: Docker and containerd, as Debian
// has them, as root. Where one is missing the test skips, and fails in CI.
//
// An engine lives in namespaces of its own, of processes, mounts and the network. When the
// test ends, however it does, the first process there is killed, and the kernel takes the rest
// with it.
package enginetest

import (
	"context"
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy/test/kube/kubetest"
)

// Patience bounds the waits of tests: machines differ, and are shared.
const Patience = 3 * time.Minute

// Engine is one that runs.
type Engine struct {
	// Group is the control group of its containers, which goes with it.
	Group string
	// Socket is where it listens.
	Socket string
	// Dir is a directory of its own, which goes with it.
	Dir string

	first  *exec.Cmd
	ended  chan struct{}
	daemon string // the name of its program
}

// shared are the engines of this test binary.
var shared struct {
	sync.Mutex
	engines map[string]*Engine
	errs    map[string]error
}

// Main runs the tests of a package that uses engines, ends those, does what is to be done last,
// looks for leaks, and exits.
func Main(m *testing.M, last ...func() error) { goleak.VerifyTestMain(tests{m, last}) }

type tests struct {
	m    *testing.M
	last []func() error
}

// Run runs the tests.
func (r tests) Run() int {
	code := r.m.Run()
	shared.Lock()
	defer shared.Unlock()
	for _, e := range shared.engines {
		r.last = append(r.last, e.close)
	}
	for _, end := range r.last {
		if err := end(); err != nil {
			_, _ = fmt.Fprintln(os.Stderr, "enginetest:", err)
			code = max(code, 1)
		}
	}
	return code
}

// Docker returns the Docker of this test binary, which has the images of kubetest.
func Docker(t testing.TB) *Engine {
	t.Helper()
	return open(t, "dockerd", []string{"containerd", "runc"}, dockerScript, loadDocker)
}

// Containerd returns the containerd of this test binary, which has the images of kubetest.
func Containerd(t testing.TB) *Engine {
	t.Helper()
	return open(t, "containerd", []string{"ctr", "runc", filepath.Join(plugins, "bridge")}, containerdScript, loadContainerd)
}

// open returns an engine, and starts it if this is the first call.
func open(t testing.TB, daemon string, needs []string, script string, load func(context.Context, *Engine) error) *Engine {
	t.Helper()
	if why := missing(append(needs, daemon)); why != "" {
		if os.Getenv("CI") != "" {
			t.Fatalf("there is no %s, and CI must not skip its tests: %s", daemon, why)
		}
		t.Skipf("there is no %s: %s", daemon, why)
	}
	shared.Lock()
	defer shared.Unlock()
	if shared.engines == nil {
		shared.engines, shared.errs = map[string]*Engine{}, map[string]error{}
	}
	if shared.engines[daemon] == nil && shared.errs[daemon] == nil {
		if e, err := start(daemon, script, load); err != nil {
			shared.errs[daemon] = fmt.Errorf("enginetest: %s: %w", daemon, err)
		} else {
			shared.engines[daemon] = e
		}
	}
	if err := shared.errs[daemon]; err != nil {
		t.Fatal(err)
	}
	return shared.engines[daemon]
}

// missing says what an engine lacks here; empty if nothing.
func missing(programs []string) string {
	if os.Getuid() != 0 {
		return "it wants root"
	}
	for _, name := range append(programs, "busybox", "sh", "mount") {
		if _, err := exec.LookPath(name); err != nil {
			return err.Error()
		}
	}
	path, err := exec.LookPath("busybox")
	if err != nil {
		return err.Error()
	}
	return dynamic(path)
}

// dynamic says that a program needs libraries, which the images have not; empty if it does not.
func dynamic(path string) string {
	f, err := elf.Open(path)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = f.Close() }()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return path + " needs libraries: install busybox-static"
		}
	}
	return ""
}

// prelude makes a world of its own of files and of the network. What a daemon is started
// again with, should somebody end it, is what follows.
const prelude = `set -e
mount --make-rprivate /
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
busybox ip link set lo up
again() { while :; do "$@" >>daemon.log 2>&1 3>&- || true; sleep 0.1; done; }
`

const dockerScript = prelude + `
echo '{"live-restore": true}' >daemon.json
again dockerd --host "unix://$PWD/docker.sock" --data-root "$PWD/data" --exec-root "$PWD/exec" --pidfile "$PWD/pid" \
	--config-file "$PWD/daemon.json" --cgroup-parent "/$GROUP" --bridge=none --iptables=false --ip-forward=false --ip-masq=false \
	--storage-driver vfs
`

// plugins are Debian's CNI plugins.
const plugins = "/usr/lib/cni"

// containerdScript has the snapshotter that works on each file system.
const containerdScript = prelude + `
mkdir cni
cat >cni/test.conflist <<'END'
{"cniVersion": "0.4.0", "name": "enginetest", "plugins": [{
	"type": "bridge", "bridge": "engine0", "isGateway": true, "ipMasq": false,
	"ipam": {"type": "host-local", "ranges": [[{"subnet": "10.244.0.0/16"}]], "dataDir": "/run/enginetest-ipam"}
}]}
END
cat >containerd.toml <<END
version = 2
root = "$PWD/root"
state = "/run/enginetest-containerd"
disabled_plugins = ["io.containerd.internal.v1.restart"]
[grpc]
  address = "$PWD/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "$PWD/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "` + kubetest.Pause + `"
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "` + plugins + `"
    conf_dir = "$PWD/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
END
again containerd --config containerd.toml
`

// start starts an engine, after it has removed what others have left that were killed.
func start(daemon, script string, load func(context.Context, *Engine) error) (*Engine, error) {
	sweep()
	dir, err := os.MkdirTemp("", dirPrefix)
	if err != nil {
		return nil, err
	}
	e := &Engine{Dir: dir, Group: "/" + filepath.Base(dir), Socket: filepath.Join(dir, "docker.sock"), daemon: daemon, ended: make(chan struct{})}
	if daemon == "containerd" {
		e.Socket = filepath.Join(dir, "containerd.sock")
	}
	if err := e.begin(script); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	for {
		if err = load(ctx, e); err == nil {
			return e, nil
		}
		select {
		case <-e.ended:
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
			continue
		}
		err = fmt.Errorf("%w\n%s", err, e.Words())
		_ = e.close()
		return nil, err
	}
}

// begin starts the first process, which is killed when the thread ends that has started it:
// that one is ours until then.
func (e *Engine) begin(script string) error {
	lock, err := os.Create(filepath.Join(e.Dir, "lock"))
	if err != nil {
		return err
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return err
	}
	said, err := os.Create(filepath.Join(e.Dir, "first.log"))
	if err != nil {
		return err
	}
	e.first = exec.Command("sh", "-c", script)
	e.first.Dir, e.first.ExtraFiles, e.first.Stdout, e.first.Stderr = e.Dir, []*os.File{lock}, said, said
	e.first.Env = []string{"HOME=/root", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "GROUP=" + filepath.Base(e.Dir)}
	e.first.SysProcAttr = &unix.SysProcAttr{
		Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWIPC,
		Setsid:     true, Pdeathsig: unix.SIGKILL,
	}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := e.first.Start()
		started <- err
		if err == nil {
			_ = e.first.Wait() // it is killed
		}
		close(e.ended)
	}()
	err = <-started
	_, _ = lock.Close(), said.Close()
	return err
}

// close ends an engine and removes all that there was of it.
func (e *Engine) close() error {
	_ = e.first.Process.Kill() // it may have ended
	<-e.ended
	return removeAll(e.Dir)
}

// Kill kills the engine's daemon, not what it has started, and leaves the rest to what starts
// it again.
func (e *Engine) Kill(t testing.TB) {
	t.Helper()
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", e.first.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for text := range strings.FieldsSeq(string(children)) {
		name, _ := os.ReadFile("/proc/" + text + "/comm")
		if pid, err := strconv.Atoi(text); err == nil && strings.TrimSpace(string(name)) == e.daemon {
			if err := unix.Kill(pid, unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatalf("%s does not run", e.daemon)
}

// Words are the ends of what it has said.
func (e *Engine) Words() string {
	var b strings.Builder
	for _, name := range []string{"first.log", "daemon.log"} {
		text, _ := os.ReadFile(filepath.Join(e.Dir, name))
		const much = 2 << 10
		fmt.Fprintf(&b, "-- %s\n%s\n", name, text[max(0, len(text)-much):])
	}
	return b.String()
}
