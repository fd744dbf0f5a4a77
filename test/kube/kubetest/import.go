package kubetest

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Import gives the node the images of an archive, as make image writes it, or docker save.
func (c *Cluster) Import(t testing.TB, archive string) {
	t.Helper()
	text, err := os.ReadFile(archive)
	if err != nil {
		t.Fatal(err)
	}
	c.mu.Lock()
	err = os.WriteFile(filepath.Join(c.dir, "images.tar"), text, 0o600)
	c.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	c.Start(t, "ctr")
}

// Kubectl is a call of kubectl as somebody, also when the test is over.
func (a *API) Kubectl(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	kubebox, err := program("kubebox")
	if err != nil {
		t.Fatal(err)
	}
	return exec.CommandContext(context.WithoutCancel(t.Context()), kubebox, append([]string{"kubectl", "--kubeconfig=" + a.Kubeconfig}, args...)...)
}

// NodeIP is the address at which pods reach the node, and at its port 6443 the API server:
// there are no addresses of Services.
const NodeIP = nodeIP
