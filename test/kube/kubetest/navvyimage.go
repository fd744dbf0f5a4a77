package kubetest

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// navvyImage is the reference of navvy's own image.
const navvyImage = "local.test/navvy:1"

// imported is that the node has it.
var imported struct {
	sync.Once
	err error
}

// NavvyImage builds navvy, has the node import it as an image whose entry point it is, and
// returns that one's reference. It builds once for all tests of a binary.
func (c *Cluster) NavvyImage(t testing.TB) string {
	t.Helper()
	imported.Do(func() { imported.err = c.importNavvy() })
	if imported.err != nil {
		t.Fatal(imported.err)
	}
	return navvyImage
}

func (c *Cluster) importNavvy() error {
	program := filepath.Join(c.dir, "navvy")
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", program, "github.com/navvy-run/navvy/cmd/navvy")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if said, err := build.CombinedOutput(); err != nil {
		return &exec.Error{Name: string(said), Err: err}
	}
	contents, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	if err := add(w, &tar.Header{Name: "navvy", Mode: 0o755}, contents); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	sum := sha256.Sum256(layer.Bytes())
	config, err := json.Marshal(map[string]any{
		"architecture": "amd64", "os": "linux", "config": map[string]any{"Entrypoint": []string{"/navvy"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + hex.EncodeToString(sum[:])}},
	})
	if err != nil {
		return err
	}
	manifest, err := json.Marshal([]map[string]any{{"Config": "config.json", "RepoTags": []string{navvyImage}, "Layers": []string{"layer.tar"}}})
	if err != nil {
		return err
	}
	var archive bytes.Buffer
	w = tar.NewWriter(&archive)
	for name, text := range map[string][]byte{"config.json": config, "layer.tar": layer.Bytes(), "manifest.json": manifest} {
		if err := add(w, &tar.Header{Name: name, Mode: 0o644}, text); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	const file = "navvy.tar"
	if err := os.WriteFile(filepath.Join(c.dir, file), archive.Bytes(), 0o600); err != nil {
		return err
	}
	return c.control.do("import " + file)
}
