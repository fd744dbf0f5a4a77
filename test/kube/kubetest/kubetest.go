// Package kubetest is a real Kubernetes for tests: a control plane, a node on which containers
// run, and fake nodes, on this machine. It needs root, Debian's containerd, runc and CNI plugins,
// and the programs that scripts/kube.sh builds; where one is missing the test skips, and
// fails in CI.
//
// A cluster lives in namespaces of its own, of processes, mounts and the network. Its first
// process is the test binary itself, started again: when the test ends, however it does, so
// does that process, and the kernel takes the rest with it.
package kubetest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// Main runs the tests of a package that uses a cluster, looks for leaks, and exits.
func Main(m *testing.M) {
	if dir := os.Getenv(envInside); dir != "" {
		os.Exit(inside(dir))
	}
	goleak.VerifyTestMain(tests{m})
}

// tests ends the cluster behind the tests.
type tests struct{ m *testing.M }

func (r tests) Run() int {
	code := r.m.Run()
	shared.Lock()
	defer shared.Unlock()
	if c := shared.cluster; c != nil {
		if err := c.close(); err != nil {
			_, _ = fmt.Fprintln(os.Stderr, "kubetest:", err)
			code = max(code, 1)
		}
	}
	return code
}

// shared is the cluster of this test binary.
var shared struct {
	sync.Mutex
	cluster *Cluster
	err     error
}

// Patience bounds the waits of tests on a cluster: machines differ, and are shared.
const Patience = 3 * time.Minute

// Open returns the cluster of this test binary, and starts it if this is the first call. It
// ends with the binary.
func Open(t testing.TB) *Cluster {
	t.Helper()
	if why := missing(); why != "" {
		if os.Getenv("CI") != "" {
			t.Fatalf("there is no Kubernetes, and CI must not skip its tests: %s", why)
		}
		t.Skipf("there is no Kubernetes: %s: see scripts/kube.sh", why)
	}
	shared.Lock()
	defer shared.Unlock()
	if shared.cluster == nil && shared.err == nil {
		shared.cluster, shared.err = start()
	}
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.cluster
}

// Program is the path of one of the programs that scripts/kube.sh builds.
func program(name string) (string, error) {
	dir := os.Getenv("NAVVY_KUBE")
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return "", err
		}
		dir = filepath.Join(cache, "navvy-kube")
	}
	path := filepath.Join(dir, name)
	_, err := os.Stat(path)
	return path, err
}

// Kubectl is a call of kubectl.
func Kubectl(ctx context.Context, t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	kubebox, err := program("kubebox")
	if err != nil {
		t.Fatal(err)
	}
	return exec.CommandContext(ctx, kubebox, append([]string{"kubectl"}, args...)...)
}

// plugins are the CNI plugins of Debian.
const plugins = "/usr/lib/cni"

// missing says what a cluster lacks here; empty if nothing.
func missing() string {
	if os.Getuid() != 0 {
		return "a node wants root"
	}
	if _, err := program("kubebox"); err != nil {
		return err.Error()
	}
	for _, name := range []string{"containerd", "ctr", "runc", "busybox", filepath.Join(plugins, "bridge")} {
		if _, err := exec.LookPath(name); err != nil {
			return err.Error()
		}
	}
	return ""
}

// Cluster is a Kubernetes that runs.
type Cluster struct {
	dir     string
	network *os.File // its network
	first   *exec.Cmd
	control *control
	pki     *authority
	proxy   *Proxy
	admin   *API
	uses    int // namespaces that were made
	kwok    int // nodes of kwok
	mu      sync.Mutex
}

// at is the path of a file of the cluster.
func (c *Cluster) at(name string) string { return filepath.Join(c.dir, name) }

// start starts a cluster, after it has removed what others have left that were killed.
func start() (c *Cluster, err error) {
	sweep()
	dir, err := os.MkdirTemp("", dirPrefix)
	if err != nil {
		return nil, err
	}
	c = &Cluster{dir: dir}
	defer func() {
		if err != nil {
			err = fmt.Errorf("kubetest: %w\n%s", err, c.words())
			_ = c.close()
			c = nil
		}
	}()
	if c.pki, err = newAuthority(dir); err != nil {
		return nil, err
	}
	if err := c.configure(); err != nil {
		return nil, err
	}
	if err := c.begin(); err != nil {
		return nil, err
	}
	if c.proxy, err = c.Proxy(); err != nil {
		return nil, err
	}
	if c.admin, err = c.As("admin", "system:masters"); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	return c, c.nodeReady(ctx)
}

// begin starts the first process and waits until all others run.
func (c *Cluster) begin() error {
	lock, err := os.Create(filepath.Join(c.dir, "lock"))
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }() // the first process has it, too, and holds it
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return err
	}
	c.first = exec.Command("/proc/self/exe")
	c.first.Env = append(os.Environ(), envInside+"="+c.dir)
	c.first.Dir = "/"
	c.first.ExtraFiles = []*os.File{lock}
	c.first.SysProcAttr = &unix.SysProcAttr{
		Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWIPC,
		Setsid:     true, // a terminal's Ctrl-C is for the test
	}
	said, err := os.Create(filepath.Join(c.dir, "first.log"))
	if err != nil {
		return err
	}
	defer func() { _ = said.Close() }()
	c.first.Stderr = said
	if c.control, err = newControl(c.first); err != nil {
		return err
	}
	if err := c.first.Start(); err != nil {
		return err
	}
	if c.network, err = os.Open(fmt.Sprintf("/proc/%d/ns/net", c.first.Process.Pid)); err != nil {
		return err
	}
	return c.control.wait()
}

// close ends the cluster and removes all that there was of it.
func (c *Cluster) close() error {
	if c.proxy != nil {
		c.proxy.Close()
	}
	if c.admin != nil {
		c.admin.close()
	}
	var err error
	if c.first != nil && c.first.Process != nil {
		c.control.close()
		if err = c.first.Wait(); err != nil {
			err = fmt.Errorf("the cluster did not end well: %w\n%s", err, c.words())
		}
	}
	if c.network != nil {
		_ = c.network.Close()
	}
	if e := os.RemoveAll(c.dir); err == nil {
		err = e
	}
	return err
}

// words are the ends of what the cluster's programs have said.
func (c *Cluster) words() string {
	logs, _ := filepath.Glob(filepath.Join(c.dir, "*.log"))
	var b strings.Builder
	for _, log := range logs {
		text, _ := os.ReadFile(log)
		const much = 2 << 10
		fmt.Fprintf(&b, "-- %s\n%s\n", filepath.Base(log), text[max(0, len(text)-much):])
	}
	return b.String()
}

// Stop stops one of the cluster's programs, as kube-apiserver, by force, and returns when it
// has ended.
func (c *Cluster) Stop(t testing.TB, name string) {
	t.Helper()
	if err := c.control.do("stop " + name); err != nil {
		t.Fatal(err)
	}
}

// Start starts a program again that was stopped, and returns when it serves.
func (c *Cluster) Start(t testing.TB, name string) {
	t.Helper()
	if err := c.control.do("start " + name); err != nil {
		t.Fatal(err)
	}
}
