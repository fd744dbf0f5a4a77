// Package rabbittest runs RabbitMQ for tests: a broker of their own, as the user who runs
// them, on ports that are free and with its state in a temporary directory.
package rabbittest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/navvy-run/navvy/internal/pause"
)

// patience is how long a broker may take to start, on a machine that has much to do.
const patience = 3 * time.Minute

// ErrMissing says that RabbitMQ is not installed.
var ErrMissing = errors.New("RabbitMQ is not installed (package rabbitmq-server of Debian)")

// Broker is a broker that runs, or can be started again.
type Broker struct {
	// Addr is where it listens, as HOST:PORT.
	Addr string

	dir  string
	bin  string
	env  []string
	node *exec.Cmd
	life io.Closer // its end is that of the node
}

// supervise starts Erlang's register of nodes, which would become a daemon if the broker
// had to start it, and the broker, and ends both with whoever holds the other end of its
// input: a test that is killed leaves nothing behind.
const supervise = `epmd -address 127.0.0.1 & "$0" & read -r _; kill -KILL 0`

// programs finds RabbitMQ's scripts: not those on the PATH of Debian, which insist on
// another user.
func programs() (string, error) {
	for _, dir := range []string{"/usr/lib/rabbitmq/bin", "/opt/homebrew/opt/rabbitmq/sbin", "/usr/local/opt/rabbitmq/sbin"} {
		if _, err := os.Stat(filepath.Join(dir, "rabbitmq-server")); err == nil {
			return dir, nil
		}
	}
	return "", ErrMissing
}

// Start starts a broker with lines of configuration, and returns when it takes
// connections. What is not there is ErrMissing.
func Start(config ...string) (*Broker, error) {
	bin, err := programs()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "navvy-rabbit")
	if err != nil {
		return nil, err
	}
	b := &Broker{dir: dir, bin: bin}
	if err := b.start(config); err != nil {
		b.Stop()
		return nil, err
	}
	return b, nil
}

func (b *Broker) start(config []string) error {
	ports, err := free(3)
	if err != nil {
		return err
	}
	b.Addr = net.JoinHostPort("127.0.0.1", ports[0])
	path := func(name string) string { return filepath.Join(b.dir, name) }
	conf := "listeners.tcp.1 = " + b.Addr + "\nlog.console = true\nlog.file = false\n" + strings.Join(config, "\n") + "\n"
	if err := errors.Join(
		os.WriteFile(path("rabbitmq.conf"), []byte(conf), 0o600),
		os.WriteFile(path("enabled_plugins"), []byte("[].\n"), 0o600),
	); err != nil {
		return err
	}
	b.env = append(os.Environ(), "HOME="+b.dir,
		"RABBITMQ_NODENAME=navvy"+ports[0]+"@localhost",
		"RABBITMQ_MNESIA_BASE="+path("data"), "RABBITMQ_LOG_BASE="+path("log"),
		"RABBITMQ_CONFIG_FILE="+path("rabbitmq.conf"), "RABBITMQ_ENABLED_PLUGINS_FILE="+path("enabled_plugins"),
		"RABBITMQ_DIST_PORT="+ports[1], "ERL_EPMD_PORT="+ports[2], "ERL_EPMD_ADDRESS=127.0.0.1",
		"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=-kernel inet_dist_use_interface {127,0,0,1}")
	return b.Restart()
}

// free gives ports that nobody listens on.
func free(n int) ([]string, error) {
	ports := make([]string, n)
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer func() { _ = l.Close() }()
		_, ports[i], _ = net.SplitHostPort(l.Addr().String())
	}
	return ports, nil
}

// Restart starts the broker with what it has on disk.
func (b *Broker) Restart() error {
	output, err := os.OpenFile(filepath.Join(b.dir, "output"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = output.Close() }()
	b.node = exec.Command("sh", "-c", supervise, filepath.Join(b.bin, "rabbitmq-server"))
	b.node.Env, b.node.Stdout, b.node.Stderr = b.env, output, output
	b.node.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // it is several processes
	if b.life, err = b.node.StdinPipe(); err != nil {
		return err
	}
	if err := b.node.Start(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tries := pause.Series{First: 50 * time.Millisecond, Longest: 200 * time.Millisecond}
	for !b.answers() {
		if err := tries.Wait(ctx); err != nil {
			said, _ := os.ReadFile(filepath.Join(b.dir, "output"))
			return fmt.Errorf("RabbitMQ does not start: %w: %s", err, said)
		}
	}
	return nil
}

// answers tells whether the broker greets who connects.
func (b *Broker) answers() bool {
	c, err := net.DialTimeout("tcp", b.Addr, time.Second)
	if err != nil {
		return false
	}
	defer func() { _ = c.Close() }()
	if _, err = c.Write([]byte("AMQP\x00\x00\x09\x01")); err != nil {
		return false
	}
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	n, err := c.Read(make([]byte, 1))
	return err == nil && n == 1
}

// Kill ends the broker without warning.
func (b *Broker) Kill() {
	if b.node == nil {
		return
	}
	if b.node.Process != nil {
		_ = syscall.Kill(-b.node.Process.Pid, syscall.SIGKILL)
		_ = b.node.Wait()
	}
	b.node = nil
}

// Stop ends the broker, and removes all that it had.
func (b *Broker) Stop() {
	b.Kill()
	for range 5 { // what was killed may still be writing for a moment
		if err := os.RemoveAll(b.dir); err == nil || errors.Is(err, fs.ErrNotExist) {
			return
		}
	}
}

// Control calls the program rabbitmqctl.
func (b *Broker) Control(args ...string) error {
	cmd := exec.Command(filepath.Join(b.bin, "rabbitmqctl"), args...)
	cmd.Env = b.env
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("rabbitmqctl %s: %w: %s", args[0], err, out)
	}
	return nil
}

// ConsumerTimeout has the broker take back, from connections that are made from now on,
// what was not settled for so long.
func (b *Broker) ConsumerTimeout(d time.Duration) error {
	return b.Control("eval", "application:set_env(rabbit, consumer_timeout, "+strconv.FormatInt(d.Milliseconds(), 10)+
		"), application:set_env(rabbit, channel_tick_interval, 500).")
}

// URL is that of a queue.
func (b *Broker) URL(queue string) string {
	return (&url.URL{Scheme: "amqp", Host: b.Addr, Path: "/" + queue}).String()
}
