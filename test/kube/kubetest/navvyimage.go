package kubetest

import (
	"fmt"
	"os"
	"os/exec"
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

// NavvyImage builds navvy, gives the node an image whose entry point it is, and returns that
// one's reference. It builds once for all tests of a binary.
func (c *Cluster) NavvyImage(t testing.TB) string {
	t.Helper()
	imported.Do(func() {
		if imported.err = c.buildNavvy(); imported.err == nil {
			c.AddProgram(t, navvyImage, c.Navvy())
		}
	})
	if imported.err != nil {
		t.Fatal(imported.err)
	}
	return navvyImage
}

// Navvy is the path of the program that is in the image of NavvyImage.
func (c *Cluster) Navvy() string { return c.Path("navvy") }

func (c *Cluster) buildNavvy() error {
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", c.Navvy(), "github.com/navvy-run/navvy/cmd/navvy")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if said, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("kubetest: navvy is not built: %w: %s", err, said)
	}
	return nil
}
