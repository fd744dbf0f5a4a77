package kubetest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// envInside makes the test binary the first process of a cluster whose directory it names.
const envInside = "NAVVY_TEST_KUBE_INSIDE"

// inside is that process: it starts the others, buries the dead, does what the test tells it,
// and ends when nobody is left to tell it anything. It returns the exit code.
func inside(dir string) int {
	f := &first{dir: dir, children: map[int]*child{}, running: map[string]*child{}}
	err := f.prepare()
	if err == nil {
		err = f.startAll()
	}
	answer(err)
	lines := bufio.NewScanner(os.Stdin)
	for err == nil && lines.Scan() {
		what, name, _ := strings.Cut(lines.Text(), " ")
		switch what {
		case "stop":
			answer(f.stop(name))
		case "start":
			answer(f.start(name))
		default:
			answer(fmt.Errorf("no such order: %s", what))
		}
	}
	if e := f.end(); e != nil {
		_, _ = fmt.Fprintln(os.Stderr, e)
		return 1
	}
	return 0
}

func answer(err error) {
	text := ok
	if err != nil {
		text = strings.ReplaceAll(err.Error(), "\n", "; ")
	}
	_, _ = os.Stdout.WriteString(text + "\n") // the test may be gone
}

// first is the first process.
type first struct {
	dir         string
	snapshotter string // of containerd

	mu       sync.Mutex
	children map[int]*child
	running  map[string]*child
}

// child is one that it has started itself.
type child struct {
	process *os.Process
	gone    chan struct{}
	status  unix.WaitStatus // after gone
}

// prepare makes the cluster's own world of files, of the network and of control groups.
func (f *first) prepare() error {
	for _, step := range []func() error{f.mounts, f.snapshots, network, func() error { return makeGroups(cgroupName(f.dir)) }} {
		if err := step(); err != nil {
			return err
		}
	}
	go f.bury()
	return nil
}

// mounts hides what the programs would leave in places that they do not let us choose, and
// what a kubelet would set for the whole machine.
func (f *first) mounts() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("a cluster wants mounts of its own: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return err
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	for _, dir := range []string{"/run", "/var/log"} {
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=755"); err != nil {
			return fmt.Errorf("mount %s: %w", dir, err)
		}
	}
	if err := os.MkdirAll(filepath.Dir(containerdSocket), 0o700); err != nil {
		return err
	}
	for name, value := range map[string]string{
		"vm/overcommit_memory": "1", "vm/panic_on_oom": "0", "kernel/panic": "10", "kernel/panic_on_oops": "1",
		"kernel/keys/root_maxkeys": "1000000", "kernel/keys/root_maxbytes": "25000000",
	} {
		instead := filepath.Join("/run/kubetest", strings.ReplaceAll(name, "/", "."))
		if err := os.WriteFile(instead, []byte(value+"\n"), 0o600); err != nil {
			return err
		}
		if err := unix.Mount(instead, filepath.Join("/proc/sys", name), "", unix.MS_BIND, ""); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("set %s aside: %w", name, err)
		}
	}
	return nil
}

// snapshots has containerd share what containers have of an image, where the file system can do
// that, or else copy it for each.
func (f *first) snapshots() error {
	base := filepath.Join(f.dir, "overlay")
	options := make([]string, 0, 3)
	for _, name := range []string{"lowerdir", "upperdir", "workdir"} {
		dir := filepath.Join(base, name)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		options = append(options, name+"="+dir)
	}
	f.snapshotter = "native"
	if at := filepath.Join(base, "lowerdir"); unix.Mount("overlay", at, "overlay", 0, strings.Join(options, ",")) == nil {
		f.snapshotter = "overlayfs"
		if err := unix.Unmount(at, 0); err != nil {
			return err
		}
	}
	path := filepath.Join(f.dir, "containerd.toml")
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return os.WriteFile(path, bytes.ReplaceAll(text, []byte("@SNAPSHOTTER@"), []byte(f.snapshotter)), 0o600)
}

// network gives the loopback device its addresses.
func network() error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(s) }()
	for _, c := range []struct{ name, ip string }{{"lo", "127.0.0.1"}, {"lo:1", nodeIP}} {
		r, err := unix.NewIfreq(c.name)
		if err != nil {
			return err
		}
		if err := r.SetInet4Addr(net.ParseIP(c.ip).To4()); err != nil {
			return err
		}
		if err := unix.IoctlIfreq(s, unix.SIOCSIFADDR, r); err != nil {
			return fmt.Errorf("give %s to %s: %w", c.ip, c.name, err)
		}
		r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
		if err := unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, r); err != nil {
			return fmt.Errorf("set %s up: %w", c.name, err)
		}
	}
	return nil
}

// bury waits for each process that ends, also for those whose parents have ended before.
func (f *first) bury() {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.ECHILD):
			tick() // there is nobody yet
		case err == nil && (status.Exited() || status.Signaled()):
			f.mu.Lock()
			if c := f.children[pid]; c != nil {
				c.status = status
				delete(f.children, pid)
				close(c.gone)
			}
			f.mu.Unlock()
		}
	}
}

// tick waits for a moment, between two looks at what nobody tells.
func tick() { <-time.After(20 * time.Millisecond) }

// startPatience bounds the start of a program.
const startPatience = 2 * time.Minute

// startAll starts all programs, each when what it needs is there.
func (f *first) startAll() error {
	kubebox, err := program("kubebox")
	if err != nil {
		return err
	}
	for _, p := range parts(f.dir, kubebox, f.snapshotter) {
		if err := f.startPart(&p); err != nil {
			return p.describe(err)
		}
	}
	return nil
}

func (f *first) start(name string) error {
	kubebox, err := program("kubebox")
	if err != nil {
		return err
	}
	kwok, err := program(kwokName)
	if err != nil && name == kwokName {
		return err
	}
	for _, p := range append(parts(f.dir, kubebox, f.snapshotter), kwokPart(kwok, f.dir)) {
		if p.name == name {
			return f.startPart(&p)
		}
	}
	return fmt.Errorf("no program %s", name)
}

func (f *first) startPart(p *part) error {
	c, err := f.spawn(p)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), startPatience)
	defer cancel()
	if p.ready == ends {
		select {
		case <-c.gone:
			if c.status.ExitStatus() != 0 {
				return fmt.Errorf("ended with %d", c.status.ExitStatus())
			}
			return nil
		case <-ctx.Done():
			return errors.New("does not end")
		}
	}
	for !serves(ctx, p.ready) {
		select {
		case <-c.gone:
			return fmt.Errorf("ended with %d", c.status.ExitStatus())
		case <-ctx.Done():
			return errors.New("does not serve")
		default:
			tick()
		}
	}
	return nil
}

// spawn starts a program; what it says goes to a file.
func (f *first) spawn(p *part) (*child, error) {
	said, err := os.OpenFile(filepath.Join(f.dir, p.name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = said.Close() }()
	path := p.argv[0]
	if !filepath.IsAbs(path) {
		if path, err = lookPath(path); err != nil {
			return nil, err
		}
	}
	nothing, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	defer func() { _ = nothing.Close() }()
	f.mu.Lock() // so that nobody buries it before it is known
	defer f.mu.Unlock()
	process, err := os.StartProcess(path, p.argv, &os.ProcAttr{
		Dir: f.dir, Env: environment(), Files: []*os.File{nothing, said, said},
		Sys: &syscall.SysProcAttr{Setpgid: true},
	})
	if err != nil {
		return nil, err
	}
	c := &child{process: process, gone: make(chan struct{})}
	f.children[process.Pid], f.running[p.name] = c, c
	return c, nil
}

// environment is that of the programs: what a test sets is none of their business.
func environment() []string {
	list := []string{"HOME=/root", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	return list
}

func lookPath(name string) (string, error) {
	for dir := range strings.SplitSeq("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", ":") {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("there is no %s: %w", name, os.ErrNotExist)
}

// serves tells whether a URL, or a socket, answers.
func serves(ctx context.Context, at string) bool {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	switch {
	case at == "":
		return true
	case strings.HasPrefix(at, "/"):
		c, err := new(net.Dialer).DialContext(ctx, "unix", at)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return false
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	answer, err := client.Do(request)
	if err != nil {
		return false
	}
	_ = answer.Body.Close()
	return answer.StatusCode == http.StatusOK
}

// stop ends a program by force and waits until it is gone.
func (f *first) stop(name string) error {
	f.mu.Lock()
	c := f.running[name]
	f.mu.Unlock()
	if c == nil {
		return fmt.Errorf("%s does not run", name)
	}
	_ = c.process.Signal(unix.SIGKILL) // it may have ended
	<-c.gone
	return nil
}

// end kills all that the cluster is, and removes its control groups and its directory.
func (f *first) end() error {
	_ = unix.Kill(-1, unix.SIGKILL) // all of this namespace but this process
	err := removeGroups(cgroupName(f.dir))
	text, _ := os.ReadFile("/proc/self/mounts")
	for line := range strings.Lines(string(text)) {
		if at := strings.Fields(line)[1]; strings.HasPrefix(at, f.dir+"/") {
			_ = unix.Unmount(at, unix.MNT_DETACH) // those below go with it
		}
	}
	return errors.Join(err, os.RemoveAll(f.dir))
}
