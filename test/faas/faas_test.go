package faas

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy/internal/pythontest"
	"github.com/navvy-run/navvy/test/lifetest"
)

// navvy is the binary.
var navvy string

func TestMain(m *testing.M) {
	os.Exit(lifetest.RunWithNavvy(m, func(path string) { navvy = path }))
}

// patience bounds whatever should come about by itself.
const patience = 90 * time.Second

const python = pythontest.Python

// site is a place with navvys.
type site struct {
	*testing.T
	dir, modules string
}

func newSite(t *testing.T) *site {
	t.Helper()
	pythontest.Need(t, "dill", "requests", "pytest")
	modules, err := filepath.Abs("testdata/modules")
	if err != nil {
		t.Fatal(err)
	}
	return &site{T: t, dir: t.TempDir(), modules: modules}
}

// proc is a navvy that was started.
type proc struct {
	cmd  *exec.Cmd
	out  string // the file that it writes
	over chan struct{}
}

func (s *site) command(args ...string) *exec.Cmd {
	cmd := exec.Command(navvy, args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir, "TMPDIR=" + s.dir}
	return cmd
}

// start starts a navvy until the test ends.
func (s *site) start(name string, args ...string) *proc {
	s.Helper()
	p := &proc{cmd: s.command(args...), out: filepath.Join(s.dir, name+".out"), over: make(chan struct{})}
	out, err := os.Create(p.out)
	if err != nil {
		s.Fatal(err)
	}
	defer out.Close()
	p.cmd.Stdout, p.cmd.Stderr = out, out
	if err := p.cmd.Start(); err != nil {
		s.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.over)
	}()
	s.Cleanup(func() {
		_ = p.cmd.Process.Signal(unix.SIGTERM) // it may have ended
		select {
		case <-p.over:
		case <-time.After(patience):
			_ = p.cmd.Process.Kill()
			<-p.over
			s.Errorf("%s does not end", name)
		}
		if s.Failed() {
			text, _ := os.ReadFile(p.out)
			s.Logf("%s wrote:\n%s", name, text)
		}
	})
	return p
}

// says waits until a navvy has written what fits, and gives the first group of it.
func (s *site) says(p *proc, pattern string) string {
	s.Helper()
	fits := regexp.MustCompile(pattern)
	var found string
	s.until(func() bool {
		text, err := os.ReadFile(p.out)
		if err != nil {
			s.Fatal(err)
		}
		if m := fits.FindSubmatch(text); m != nil {
			found = string(m[1])
		}
		return found != ""
	}, "%s says %s", p.out, pattern)
	return found
}

// until waits until something is true.
func (s *site) until(is func() bool, format string, args ...any) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), patience)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-ctx.Done():
			s.Fatalf("it never came about that "+format, args...)
		case <-tick.C:
		}
	}
}

const functionsAt = `(?m)^  functions, .* on (http://\S+)$`

// TestClients runs the tests that clients have, in Python.
func TestClients(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := s.start("dev", "dev", "--data", filepath.Join(s.dir, "data"), "--listen", "127.0.0.1:0", "--http", "",
		"--faas", "127.0.0.1:0", "--python", python, "--python-path", s.modules+":"+filepath.Dir(s.modules), "-w", "2")
	s.pytest(s.says(p, functionsAt))
}

func (s *site) pytest(url string) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "testdata/test_faas.py")
	cmd.Env = append(os.Environ(), "FAAS_URL="+url, "PYTHONPATH="+s.modules, "PYTHONDONTWRITEBYTECODE=1")
	out, err := cmd.CombinedOutput()
	s.Logf("%s", out)
	if err != nil {
		s.Error(err)
	}
}

// What is called while no worker is there waits; what a worker was killed over ends on
// another.
func TestWorkers(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	data := filepath.Join(s.dir, "data")
	p := s.start("server", "server", "--data", data, "--listen", "127.0.0.1:0", "--http", "", "--faas", "127.0.0.1:0")
	url := s.says(p, functionsAt)
	port := s.says(p, `(?m)^  gRPC with certificates on (\S+)$`)
	gate := filepath.Join(s.dir, "gate")
	task := s.execute(url, gate)
	if got := s.get(url, "status", task)["status"]; got != "QUEUED" {
		t.Errorf("without a worker: %s", got)
	}
	first := s.worker("one", data, port)
	s.until(func() bool { return s.get(url, "status", task)["status"] == "RUNNING" && exists(gate+".begun") }, "the first worker calls")
	if err := first.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-first.over
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s.worker("two", data, port)
	var answer map[string]string
	s.until(func() bool {
		answer = s.get(url, "result", task)
		return answer["status"] != "QUEUED" && answer["status"] != "RUNNING"
	}, "the call ends")
	if answer["status"] != "COMPLETED" {
		t.Errorf("it ended as %v", answer)
	}
	// The next server knows the task by the same UUID.
	if err := p.cmd.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-p.over
	again := s.start("again", "server", "--data", data, "--listen", "127.0.0.1:0", "--http", "", "--faas", "127.0.0.1:0")
	if got := s.get(s.says(again, functionsAt), "result", task); !reflect.DeepEqual(got, answer) {
		t.Errorf("after a restart: %v, before %v", got, answer)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// worker starts a worker of the server.
func (s *site) worker(name, data, port string) *proc {
	s.Helper()
	token, err := s.command("token", "create", "--data", data).Output()
	if err != nil {
		s.Fatal(err)
	}
	file := filepath.Join(s.dir, name+".token")
	if err := os.WriteFile(file, token, 0o600); err != nil {
		s.Fatal(err)
	}
	return s.start(name, "worker", "start", "--join", port, "--token-file", file, "--data", filepath.Join(s.dir, name),
		"--name", name, "--python", python, "-w", "1")
}

// waiting is a program that writes the payloads of a function that waits for a file, and
// of a call.
const waiting = `
import codecs, dill, json, sys
def wait(gate):
    import os, time
    open(gate + ".begun", "w").close()
    while not os.path.exists(gate):
        time.sleep(0.01)
def serialize(value):
    return codecs.encode(dill.dumps(value), "base64").decode()
json.dump([serialize(wait), serialize(((sys.argv[1],), {}))], sys.stdout)
`

// execute calls a function that waits for a file.
func (s *site) execute(url, gate string) string {
	s.Helper()
	text, err := exec.CommandContext(s.Context(), python, "-c", waiting, gate).Output()
	var payloads [2]string
	if err == nil {
		err = json.Unmarshal(text, &payloads)
	}
	if err != nil {
		s.Fatal(err)
	}
	function := s.call("POST", url+"/register_function", map[string]string{"name": "wait", "payload": payloads[0]})["function_id"]
	return s.call("POST", url+"/execute_function", map[string]string{"function_id": function, "payload": payloads[1]})["task_id"]
}

func (s *site) get(url, what, task string) map[string]string {
	s.Helper()
	return s.call("GET", fmt.Sprintf("%s/%s/%s", url, what, task), nil)
}

// call makes a call that has an answer.
func (s *site) call(method, url string, body map[string]string) (answer map[string]string) {
	s.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		s.Fatal(err)
	}
	if body == nil {
		text = nil
	}
	r, err := http.NewRequestWithContext(s.Context(), method, url, bytes.NewReader(text))
	if err != nil {
		s.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		s.Fatal(err)
	}
	defer resp.Body.Close()
	text, err = io.ReadAll(resp.Body)
	if err == nil {
		err = json.Unmarshal(text, &answer)
	}
	if err != nil || resp.StatusCode >= http.StatusBadRequest {
		s.Fatalf("%s %s: %d %s, %v", method, strings.TrimPrefix(url, "http://"), resp.StatusCode, text, err)
	}
	return answer
}
