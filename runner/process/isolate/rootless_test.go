package isolate_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/process/isolate"
)

const nobody = 65534

// The tests of isolation pass for a user without rights too, in a user namespace.
func TestWithoutRoot(t *testing.T) {
	t.Parallel()
	needRoot(t)
	dir, binary := public(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	const tests = "Isolated|Host|Descriptors|Namespaces|Queues|Rights|Network|Ulimits|Directory|Program|Exit|Filter|Foreign|Abilities|Sense|Nothing"
	cmd := exec.CommandContext(ctx, binary, "-test.v", "-test.short", "-test.run", tests)
	cmd.Dir = "/"
	cmd.Env = []string{soon, "TMPDIR=" + filepath.Join(dir, "tmp"), "HOME=/"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, out.Bytes())
	}
	if strings.Contains(out.String(), "--- SKIP: TestIsolated") {
		lacking(t, out.String())
	}
}

// public copies this binary to where all users can execute it, in a directory
// with one in it, tmp, for nobody.
func public(t *testing.T) (dir, binary string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "navvy-test-") //nolint:usetesting // others cannot reach what t.TempDir makes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	binary = filepath.Join(dir, "test")
	if err := errors.Join(os.Chmod(dir, 0o755), os.Mkdir(filepath.Join(dir, "tmp"), 0o700),
		os.Chown(filepath.Join(dir, "tmp"), nobody, nobody), copyFile(self(t), binary)); err != nil {
		t.Fatal(err)
	}
	return dir, binary
}

func copyFile(from, to string) error {
	r, err := os.Open(from)
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, r)
	return errors.Join(err, w.Chmod(0o755), w.Close())
}

func TestAbilities(t *testing.T) {
	t.Parallel()
	h := isolate.Open()
	if os.Getuid() == 0 {
		if h.Lacks() != "" {
			lacking(t, h.Lacks())
		}
		return
	}
	if h.Users() || !strings.Contains(h.Lacks(), "only root") {
		t.Errorf("users: %v; lacks: %q", h.Users(), h.Lacks())
	}
	if _, err := h.Plan(isolate.Box{Isolate: true, UID: isolate.FirstUID}); !errors.Is(err, navvy.ErrUnsupported) {
		t.Errorf("a user of its own: %v", err)
	}
}
