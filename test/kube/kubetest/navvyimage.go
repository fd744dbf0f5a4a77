package kubetest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"
)

// navvyImage is the reference of navvy's own image.
const navvyImage = "local.test/navvy:1"

// built is that there is the program, imported that the node has its image.
var built, imported struct {
	sync.Once
	err error
}

// NavvyImage builds navvy, gives the node an image whose entry point it is, and returns that
// one's reference. It does so once for all tests of a binary.
func (c *Cluster) NavvyImage(t testing.TB) string {
	t.Helper()
	path := c.Navvy(t)
	imported.Do(func() {
		imported.err = errImport // unless it comes to its end
		c.AddProgram(t, navvyImage, path)
		imported.err = nil
	})
	if imported.err != nil {
		t.Fatal(imported.err)
	}
	return navvyImage
}

var errImport = errors.New("kubetest: the node has no image of navvy, as another test says")

// Navvy builds navvy, once for all tests of a binary, and returns the path of the program.
func (c *Cluster) Navvy(t testing.TB) string {
	t.Helper()
	built.Do(func() { built.err = c.buildNavvy() })
	if built.err != nil {
		t.Fatal(built.err)
	}
	return c.navvyPath()
}

func (c *Cluster) navvyPath() string { return c.Path("navvy") }

// buildNavvy builds as make build does, so that each package is compiled once for both.
func (c *Cluster) buildNavvy() error {
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", c.navvyPath(), "github.com/navvy-run/navvy/cmd/navvy")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if said, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("kubetest: navvy is not built: %w: %s", err, said)
	}
	return nil
}
