package enginetest

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// A program that needs libraries is told from one that needs none.
func TestDynamic(t *testing.T) {
	t.Parallel()
	shell, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	if why := dynamic(shell); exec.Command("ldd", shell).Run() == nil && !strings.Contains(why, "busybox-static") {
		t.Errorf("of %s, which needs libraries, it says %q", shell, why)
	}
	name := t.TempDir() + "/script"
	if err := os.WriteFile(name, []byte("#!/bin/sh\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if dynamic(name) == "" {
		t.Error("a script is taken for a program without libraries")
	}
}
