// Package chart_test runs navvy on a Kubernetes as deploy/helm/navvy installs it: the image
// of make image, the chart by Helm itself, pods that reach each other and the API server.
package chart_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/navvy-run/navvy/test/kube/kubetest"
)

func TestMain(m *testing.M) { kubetest.Main(m) }

const (
	root  = "../../.."
	chart = root + "/deploy/helm/navvy"
	image = "local.test/navvy"
	tag   = "test"
	// kubeVersion is what charts are told where no cluster is asked.
	kubeVersion = "1.34.0"
)

// helmPath is Helm, built as tools/helm/go.mod says.
var helmPath = sync.OnceValues(func() (string, error) {
	cmd := exec.Command("go", "tool", "-modfile="+filepath.Join(root, "tools/helm/go.mod"), "-n", "helm")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	return strings.TrimSpace(string(out)), err
})

// helm runs Helm and gives what it prints; what goes wrong is the test's end.
func helm(t *testing.T, args ...string) string {
	t.Helper()
	out, err := tryHelm(t, args...)
	if err != nil {
		t.Fatalf("helm %s: %v", strings.Join(args, " "), err)
	}
	return out
}

func tryHelm(t *testing.T, args ...string) (string, error) {
	t.Helper()
	path, err := helmPath()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	home := t.TempDir() // nothing of the user's
	cmd.Env = append(os.Environ(), "HELM_CONFIG_HOME="+home, "HELM_CACHE_HOME="+home, "HELM_DATA_HOME="+home)
	return output(cmd)
}

// output is what a command prints; the error has what it complains of.
func output(cmd *exec.Cmd) (string, error) {
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%w: %s", err, said.String())
	}
	return out.String(), nil
}

// run is a command that must go well.
func run(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	out, err := output(cmd)
	if err != nil {
		t.Fatalf("%s: %v", strings.Join(cmd.Args, " "), err)
	}
	return out
}

// imported guards that the node gets the image of this navvy once.
var imported struct {
	sync.Mutex
	done bool
}

// open opens the cluster and gives its node the image of navvy.
func open(t *testing.T) *kubetest.Cluster {
	t.Helper()
	c := kubetest.Open(t)
	imported.Lock()
	defer imported.Unlock()
	if imported.done {
		return c
	}
	path := filepath.Join(t.TempDir(), "image.tar")
	arch := strings.TrimSpace(run(t, exec.Command("go", "env", "GOARCH")))
	cmd := exec.Command(root+"/scripts/image.sh", path)
	cmd.Env = append(os.Environ(), "IMAGE="+image+":"+tag, "IMAGE_ARCH="+arch, "VERSION=test")
	run(t, cmd)
	c.Import(t, path)
	imported.done = true
	return c
}
