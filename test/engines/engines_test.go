// Package engines runs the built navvy with containers on engines of this machine.
package engines

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/client"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/navvy-run/navvy/runner/engine/enginetest"
)

func TestMain(m *testing.M) { enginetest.Main(m, func() error { return os.RemoveAll(built) }) }

// built is the directory of what build has built; empty for nothing.
var built string

// build builds navvy, once.
var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "navvy-engines-")
	if err != nil {
		return "", err
	}
	built = dir
	path := filepath.Join(dir, "navvy")
	cmd := exec.Command("go", "build", "-buildvcs=false", "-o", path, "github.com/navvy-run/navvy/cmd/navvy")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // for images without libraries, too
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return path, nil
})

// place is a navvy's on an engine.
type place struct {
	t     *testing.T
	kind  string
	at    *enginetest.Engine
	home  string
	navvy string
	env   []string
	list  func(running bool) []string // all containers there, or those that run
}

// each runs a test on each engine.
func each(t *testing.T, test func(*place)) {
	t.Helper()
	for kind, at := range map[string]func(testing.TB) *enginetest.Engine{"docker": enginetest.Docker, "containerd": enginetest.Containerd} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			e := at(t)
			path, err := build()
			if err != nil {
				t.Fatal(err)
			}
			home := t.TempDir()
			p := &place{t: t, kind: kind, at: e, home: home, navvy: path, env: append(os.Environ(), "HOME="+home, "NAVVY_DATA="+filepath.Join(home, "data"), "XDG_CONFIG_HOME=", "XDG_STATE_HOME=",
				"NAVVY_SERVER=", "NAVVY_CONTEXT=", "KUBECONFIG=", "NAVVY_ENGINE="+kind, "DOCKER_HOST=unix://"+e.Socket, "CONTAINERD_ADDRESS="+e.Socket)}
			p.list = map[string]func(bool) []string{
				"docker":     func(running bool) []string { return docker(t, e, running) },
				"containerd": func(running bool) []string { return containerd(t, e, running) },
			}[kind]
			test(p)
		})
	}
}

func docker(t *testing.T, e *enginetest.Engine, running bool) []string {
	t.Helper()
	c, err := client.New(client.WithHost("unix://" + e.Socket))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	r, err := c.ContainerList(t.Context(), client.ContainerListOptions{All: !running})
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for i := range r.Items {
		ids = append(ids, r.Items[i].ID)
	}
	return ids
}

func containerd(t *testing.T, e *enginetest.Engine, running bool) []string {
	t.Helper()
	conn, err := grpc.NewClient("unix://"+e.Socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	r, err := cri.NewRuntimeServiceClient(conn).ListContainers(t.Context(), &cri.ListContainersRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, c := range r.Containers {
		if !running || c.State == cri.ContainerState_CONTAINER_RUNNING {
			ids = append(ids, c.Id)
		}
	}
	return ids
}

// containerdHas tells whether containerd has an image.
func containerdHas(t *testing.T, e *enginetest.Engine, image string) bool {
	t.Helper()
	conn, err := grpc.NewClient("unix://"+e.Socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	r, err := cri.NewImageServiceClient(conn).ImageStatus(t.Context(), &cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: image}})
	if err != nil {
		t.Fatal(err)
	}
	return r.Image != nil
}

// command is navvy with arguments.
func (p *place) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, p.navvy, args...)
	cmd.Env = p.env
	return cmd
}

// run runs navvy to its end, and gives what it wrote to its standard output.
func (p *place) run(code int, args ...string) string {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), enginetest.Patience)
	defer cancel()
	var out, said bytes.Buffer
	cmd := p.command(ctx, args...)
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != code {
		p.t.Fatalf("navvy %s: %v, want code %d\n%s%s", strings.Join(args, " "), err, code, &out, &said)
	}
	return out.String()
}

// until waits until something holds.
func (p *place) until(what string, holds func() bool) {
	p.t.Helper()
	for end := time.Now().Add(enginetest.Patience); !holds(); <-time.After(50 * time.Millisecond) {
		if time.Now().After(end) {
			p.t.Fatalf("it does not come to pass that %s", what)
		}
	}
}

// TestKilled kills a navvy whose containers run. The next one takes them over: none is made
// twice, and what they wrote before is there.
func TestKilled(t *testing.T) {
	each(t, func(p *place) {
		first := p.command(p.t.Context(), "map", "--image", enginetest.Image, "-j", "2", "-S", "--", "echo begun {}; sleep 8; echo done {}", ":::", "a", "b")
		if err := first.Start(); err != nil {
			p.t.Fatal(err)
		}
		var made []string
		p.until("two containers run", func() bool { made = p.list(true); return len(made) == 2 })
		_ = first.Process.Kill()
		_ = first.Wait() // it was killed
		var jobs []struct{ ID string }
		if err := json.Unmarshal([]byte(p.run(0, "ls", "-o", "json")), &jobs); err != nil || len(jobs) != 1 {
			p.t.Fatalf("%v: there are jobs %v", err, jobs)
		}
		resumed, over := make(chan string, 1), false
		go func() {
			out, err := p.command(p.t.Context(), "resume", jobs[0].ID).CombinedOutput()
			if err != nil {
				out = fmt.Append(out, err)
			}
			resumed <- string(out)
		}()
		for !over {
			for _, id := range p.list(false) {
				if !slices.Contains(made, id) {
					p.t.Errorf("container %s was made besides %v", id, made)
					made = append(made, id)
				}
			}
			select {
			case out := <-resumed:
				over = true
				if want := "begun a\ndone a\nbegun b\ndone b\n"; out != want {
					p.t.Errorf("it wrote %q, want %q", out, want)
				}
			case <-time.After(50 * time.Millisecond):
			}
		}
		if left := p.list(false); len(left) != 0 {
			p.t.Errorf("it leaves %v", left)
		}
	})
}

// TestOutcomes sees what the command line makes of ends.
func TestOutcomes(t *testing.T) {
	each(t, func(p *place) {
		if out := p.run(3, "run", "--image", enginetest.Image, "-S", "--", "echo out; exit 3"); out != "out\n" {
			p.t.Errorf("it wrote %q", out)
		}
		p.run(124, "run", "--timeout", "2s", "--image", enginetest.Image, "--", "sleep", "1000000")
		p.run(137, "run", "--memory", "20M", "--image", enginetest.Image, "--", "tail", "/dev/zero")
		p.run(127, "run", "--image", enginetest.Image, "--entrypoint", "/nope", "--")
		if left := p.list(false); len(left) != 0 {
			p.t.Errorf("it leaves %v", left)
		}
		if kinds := p.run(0, "status"); !strings.Contains(kinds, "ontainer") {
			p.t.Errorf("status tells of no containers: %s", kinds)
		}
	})
}
