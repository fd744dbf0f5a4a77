package mstc

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy/internal/pythontest"
	"github.com/navvy-run/navvy/queue/rabbitqueue/rabbittest"
	"github.com/navvy-run/navvy/test/kube/kubetest"
)

func TestMain(m *testing.M) { kubetest.Main(m) }

// site is a place with a broker and navvys, whose images run in a namespace of their own.
type site struct {
	*testing.T
	navvy     string // the binary
	dir       string
	broker    *rabbittest.Broker
	cluster   *kubetest.Cluster
	kube      string // the configuration by which workers reach it
	namespace string
	listen    string   // of the server
	storage   *storage // that workers know; nil for none
}

func newSite(t *testing.T) *site {
	t.Helper()
	pythontest.Need(t, "pika")
	cluster := kubetest.Open(t)
	s := &site{T: t, navvy: cluster.Navvy(t), dir: t.TempDir(), cluster: cluster, kube: cluster.Admin().Kubeconfig, namespace: cluster.Namespace(t)}
	var err error
	s.broker, err = rabbittest.Start()
	if errors.Is(err, rabbittest.ErrMissing) && os.Getenv("CI") == "" {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.broker.Stop)
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.listen = l.Addr().String()
	_ = l.Close()
	return s
}

// proc is a process that was started.
type proc struct {
	*exec.Cmd
	over chan struct{}

	mu    sync.Mutex
	wrote bytes.Buffer
}

func (p *proc) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.wrote.Write(b)
}

func (p *proc) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.wrote.String()
}

// start starts a navvy until the test ends.
func (s *site) start(name string, env []string, args ...string) *proc {
	s.Helper()
	p := &proc{Cmd: exec.Command(s.navvy, args...), over: make(chan struct{})}
	p.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir, "TMPDIR=" + s.dir}, env...)
	p.Stdout, p.Stderr = p, p
	if err := p.Start(); err != nil {
		s.Fatal(err)
	}
	go func() {
		defer close(p.over)
		_ = p.Wait()
	}()
	s.Cleanup(func() {
		_ = p.Process.Signal(unix.SIGTERM) // it may have ended
		select {
		case <-p.over:
		case <-time.After(kubetest.Patience):
			_ = p.Process.Kill()
			<-p.over
			s.Errorf("%s does not end", name)
		}
		if s.Failed() {
			s.Logf("%s wrote:\n%s", name, p.text())
		}
	})
	return p
}

// says waits until a process has written what fits, and gives the first group of it.
func (s *site) says(p *proc, pattern string) (found string) {
	s.Helper()
	fits := regexp.MustCompile(pattern)
	kubetest.Until(s, "it says "+pattern, func() bool {
		if m := fits.FindStringSubmatch(p.text()); m != nil {
			found = m[1]
		}
		return found != ""
	})
	return found
}

// server starts a server for clients of the broker.
func (s *site) server(name string) *proc {
	s.Helper()
	host, port, _ := net.SplitHostPort(s.broker.Addr)
	env := []string{"WORK_QUEUE_HOST=" + host, "WORK_QUEUE_PORT=" + port, "WORK_QUEUE_USER=guest", "WORK_QUEUE_PASS=guest"}
	return s.start(name, env, "server", "--data", filepath.Join(s.dir, "data"), "--listen", s.listen, "--http", "127.0.0.1:0", "--mstc=127.0.0.1:0")
}

// run calls navvy as who runs the server, and gives what it prints.
func (s *site) run(args ...string) string {
	s.Helper()
	cmd := exec.Command(s.navvy, append(args, "--data", filepath.Join(s.dir, "data"))...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir}
	out, err := cmd.Output()
	if err != nil {
		s.Fatalf("navvy %s: %v", args, err)
	}
	return string(out)
}

// worker starts a worker of the server.
func (s *site) worker(name string) *proc {
	s.Helper()
	token := s.run("token", "create")
	file, template := filepath.Join(s.dir, name+".token"), filepath.Join(s.dir, "pod.yaml")
	for path, text := range map[string]string{file: token, template: "spec: {containers: [{name: main, resources: {limits: {memory: 64Mi}}}]}\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			s.Fatal(err)
		}
	}
	env := []string{
		"KUBECONFIG=" + s.kube, "NAVVY_KUBE_NAMESPACE=" + s.namespace, "NAVVY_KUBE_INSTANCE=mstc", "NAVVY_POD_TEMPLATE=" + template,
		"NAVVY_KUBE_IMAGE_PATIENCE=20s",
	}
	if s.storage != nil {
		env = append(env, s.storage.environ(s.dir)...)
	}
	return s.start(name, env, "worker", "start", "--join", s.listen, "--token-file", file, "--data", filepath.Join(s.dir, name), "--name", name, "-j", "20")
}

// ready is what /readyz says.
func (s *site) ready(p *proc) string {
	resp, err := http.Get(s.says(p, `(?m)^  HTTP on (http://\S+)`) + "/readyz")
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusOK {
		s.Errorf("/readyz: %s: %s", resp.Status, text)
	}
	return string(text)
}

// answer is one that a client has printed.
type answer struct {
	ID   string
	Body struct {
		Result, State, Reason string
		ExitCode              *int
	}
}

// asker is the contract's client, in Python.
type asker struct {
	s     *site
	lines chan string
	said  *bytes.Buffer
}

// ask sends requests, by their ids, and returns when they were sent.
func (s *site) ask(requests map[string]string) *asker {
	s.Helper()
	var in bytes.Buffer
	for id, body := range requests {
		if err := json.NewEncoder(&in).Encode(map[string]string{"id": id, "body": body}); err != nil {
			s.Fatal(err)
		}
	}
	_, port, _ := net.SplitHostPort(s.broker.Addr)
	cmd := exec.CommandContext(s.Context(), pythontest.Python, "testdata/client.py", port)
	a := &asker{s: s, lines: make(chan string, 100), said: &bytes.Buffer{}}
	cmd.Stdin, cmd.Stderr = &in, a.said
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		s.Fatal(err)
	}
	over := make(chan struct{})
	go func() {
		defer close(over)
		defer close(a.lines)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			a.lines <- lines.Text()
		}
		_ = cmd.Wait()
	}()
	s.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		<-over
	})
	if line := a.line(); !strings.Contains(line, "sent") {
		s.Fatalf("the client says %s\n%s", line, a.said)
	}
	return a
}

// line is the next that the client prints; empty at the end.
func (a *asker) line() string {
	a.s.Helper()
	select {
	case line := <-a.lines:
		return line
	case <-time.After(kubetest.Patience):
		a.s.Fatal("no answer comes")
		return ""
	}
}

// answers are those that come until the client ends.
func (a *asker) answers() map[string]*answer {
	a.s.Helper()
	all := map[string]*answer{}
	for line := a.line(); line != ""; line = a.line() {
		got := &answer{}
		if err := json.Unmarshal([]byte(line), got); err != nil {
			a.s.Fatalf("%v: %s", err, line)
		}
		if all[got.ID] != nil {
			a.s.Errorf("a second answer to %s: %s", got.ID, line)
		}
		all[got.ID] = got
	}
	if a.said.Len() > 0 {
		a.s.Errorf("the client says %s", a.said)
	}
	return all
}

// jobs are the names of the Jobs in the namespace.
func (s *site) jobs() (names []string) {
	s.Helper()
	var list struct {
		Items []struct{ Metadata struct{ Name string } }
	}
	s.cluster.Admin().Must(s, http.MethodGet, "/apis/batch/v1/namespaces/"+s.namespace+"/jobs", "", &list)
	for _, j := range list.Items {
		names = append(names, j.Metadata.Name)
	}
	return names
}
