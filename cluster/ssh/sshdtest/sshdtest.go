// Package sshdtest starts real ssh servers, OpenSSH's, for tests: several on loopback, each a
// host with a key, a home directory and a port of its own, where whoever runs the test signs in.
package sshdtest

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
	"golang.org/x/crypto/ssh/knownhosts"
)

// program is where Debian has it.
const program = "/usr/sbin/sshd"

// Net is a few hosts, and what is needed to sign in there.
type Net struct {
	Dir        string // of all of it
	Identity   string // the file of the private key
	KnownHosts string // the file with the keys of all hosts
	User       string
	Hosts      []*Host
}

// Host is an ssh server.
type Host struct {
	Home string
	Port int

	net    *Net
	dir    string
	key    ssh.PublicKey
	daemon *exec.Cmd
}

// Name is what a cluster's file calls the host.
func (h *Host) Name() string { return fmt.Sprintf("%s@127.0.0.1:%d", h.net.User, h.Port) }

// Start starts so many hosts, which end with the test. Where there is no sshd the test skips on
// a laptop, and fails in CI.
func Start(t testing.TB, n int) *Net {
	t.Helper()
	if _, err := os.Stat(program); err != nil {
		const why = "there is no sshd: apt-get install openssh-server"
		if os.Getenv("CI") != "" {
			t.Fatal(why)
		}
		t.Skip(why)
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	if me.Uid == "0" { // it wants a directory for its processes without rights
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	net := &Net{Dir: dir, User: me.Username, Identity: filepath.Join(dir, "identity"), KnownHosts: filepath.Join(dir, "known_hosts")}
	public := writeKey(t, net.Identity)
	write(t, filepath.Join(dir, "authorized_keys"), ssh.MarshalAuthorizedKey(public))
	for i := range n {
		h := &Host{net: net, dir: filepath.Join(dir, "host-"+strconv.Itoa(i+1))}
		h.Home = filepath.Join(h.dir, "home")
		if err := os.MkdirAll(h.Home, 0o700); err != nil {
			t.Fatal(err)
		}
		h.key = writeKey(t, h.keyFile())
		h.Port = FreePort(t)
		net.Hosts = append(net.Hosts, h)
		t.Cleanup(func() { h.Stop(t) }) // here, so that it ends behind what the test cleans up
		h.Start(t)
	}
	net.WriteKnownHosts(t)
	return net
}

// WriteKnownHosts writes the keys of all hosts.
func (n *Net) WriteKnownHosts(t testing.TB) {
	t.Helper()
	var b strings.Builder
	for _, h := range n.Hosts {
		b.WriteString(h.KnownLine() + "\n")
	}
	write(t, n.KnownHosts, []byte(b.String()))
}

// KnownLine is the line of the host in known_hosts.
func (h *Host) KnownLine() string {
	return knownhosts.Line([]string{net.JoinHostPort("127.0.0.1", strconv.Itoa(h.Port))}, h.key)
}

// Names are what a cluster's file calls the hosts.
func (n *Net) Names() []string {
	list := make([]string, len(n.Hosts))
	for i, h := range n.Hosts {
		list[i] = h.Name()
	}
	return list
}

func (h *Host) keyFile() string { return filepath.Join(h.dir, "host_key") }

// Start starts the host, unless it runs, and waits until it can be reached.
func (h *Host) Start(t testing.TB) {
	t.Helper()
	if h.daemon != nil {
		return
	}
	config := filepath.Join(h.dir, "sshd_config")
	write(t, config, fmt.Appendf(nil, `Port %d
ListenAddress 127.0.0.1
HostKey %s
PidFile none
AuthorizedKeysFile %s
AuthenticationMethods publickey
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
UseDNS no
X11Forwarding no
PrintMotd no
PrintLastLog no
MaxStartups 100
SetEnv HOME=%s
%s`, h.Port, h.keyFile(), filepath.Join(h.net.Dir, "authorized_keys"), h.Home, h.certificate()))
	log, err := os.OpenFile(filepath.Join(h.dir, "sshd.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	h.daemon = exec.Command(program, "-D", "-e", "-f", config)
	h.daemon.Stderr = log
	if err := h.daemon.Start(); err != nil {
		t.Fatal(err)
	}
	h.await(t)
}

// await waits until somebody listens.
func (h *Host) await(t testing.TB) {
	t.Helper()
	const patience, look = time.Minute, 10 * time.Millisecond
	for end := time.Now().Add(patience); ; <-time.After(look) {
		conn, err := net.Dial("tcp", h.Address()) //nolint:noctx // of loopback
		if err == nil {
			_ = conn.Close()
			return
		}
		if time.Now().After(end) {
			text, _ := os.ReadFile(filepath.Join(h.dir, "sshd.log"))
			t.Fatalf("sshd does not come up: %v: %s", err, text)
		}
	}
}

// Address is where it listens.
func (h *Host) Address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(h.Port)) }

// Stop kills the host's server with all of its connections; what was started there runs on.
func (h *Host) Stop(t testing.TB) {
	t.Helper()
	if h.daemon == nil {
		return
	}
	sessions := children(h.daemon.Process.Pid)
	if err := h.daemon.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = h.daemon.Wait() // it was killed
	for _, pid := range sessions {
		if p, err := os.FindProcess(pid); err == nil {
			_ = p.Kill() // it may have ended by itself
		}
	}
	h.daemon = nil
}

// children are the processes of sshd that serve connections: their commands are not among them.
func children(pid int) (list []int) {
	all, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range all {
		text, err := os.ReadFile(path)
		_, rest, found := strings.Cut(string(text), ") ")
		if err != nil || !found || !strings.Contains(string(text), "(sshd") {
			continue
		}
		fields := strings.Fields(rest)
		own, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if parent, _ := strconv.Atoi(fields[1]); parent == pid {
			list = append(append(list, own), children(own)...)
		}
	}
	return list
}

// NewKey gives the host another key, as one has that was made anew, or is another's. It is to
// be started again.
func (h *Host) NewKey(t testing.TB) {
	t.Helper()
	for _, path := range []string{h.keyFile(), h.keyFile() + ".pub", h.keyFile() + "-cert.pub"} {
		_ = os.Remove(path) // which may not be there
	}
	h.key = writeKey(t, h.keyFile())
}

// writeKey makes a key.
func writeKey(t testing.TB, path string) ssh.PublicKey {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "test")
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, pem.EncodeToMemory(block))
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func write(t testing.TB, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// FreePort is a port of loopback that nobody has now, and that nobody is given who asks for any.
func FreePort(t testing.TB) int {
	t.Helper()
	const first, many, tries = 20000, 12000, 100 // below those that Linux gives
	for range tries {
		port := first + mathrand.IntN(many)
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))) //nolint:noctx // it does not wait
		if err != nil {
			continue
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		return port
	}
	t.Fatal("there is no free port")
	return 0
}

// ServeAgent is an ssh-agent with what is held; it gives its socket, and ends with the test.
func ServeAgent(t testing.TB, held agent.Agent) string {
	t.Helper()
	at := filepath.Join(t.TempDir(), "agent")
	l, err := net.Listen("unix", at) //nolint:noctx // it does not wait
	if err != nil {
		t.Fatal(err)
	}
	var calls sync.WaitGroup
	t.Cleanup(func() {
		_ = l.Close()
		calls.Wait()
	})
	calls.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			calls.Go(func() {
				_ = agent.ServeAgent(held, conn) // until the caller has gone
				_ = conn.Close()
			})
		}
	})
	return at
}
