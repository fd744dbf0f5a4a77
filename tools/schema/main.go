// Command schema checks the .proto files below a folder with buf, as the folder's
// buf.yaml says: how they are written, and that they break nobody who speaks the
// schema that was released last. buf has a go.mod of its own, ../buf/go.mod, so that
// the modules that it needs decide nothing about the other tools.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// released is the schema that was released last, below the root: a set of file descriptors.
const released = "released/navvy.v1.binpb"

func main() {
	root := flag.String("root", "../api", "folder of the .proto files and of buf.yaml")
	release := flag.Bool("release", false, "make what is there now the released schema")
	flag.Parse()
	ctx := context.Background()
	buf, err := find(ctx, "buf/go.mod")
	if err == nil {
		err = buf.run(ctx, *root, *release)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "schema:", err)
		os.Exit(1)
	}
}

// tool is the path of buf.
type tool string

// find builds buf as modfile says, unless that was done before.
func find(ctx context.Context, modfile string) (tool, error) {
	cmd := exec.CommandContext(ctx, "go", "tool", "-modfile="+modfile, "-n", "buf")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	return tool(strings.TrimSpace(string(out))), err
}

// run checks the files below root, or releases them.
func (t tool) run(ctx context.Context, root string, release bool) error {
	err := t.do(ctx, root, "lint", ".")
	if err != nil {
		err = fmt.Errorf("%w; buf.yaml names the rules, and the exceptions with their reasons", err)
	}
	if !release {
		return errors.Join(err, t.compare(ctx, root))
	}
	if err == nil {
		err = os.MkdirAll(filepath.Join(root, filepath.Dir(released)), 0o755) //nolint:gosec // it is for everybody to read
	}
	if err != nil {
		return err
	}
	return t.do(ctx, root, "build", ".", "--as-file-descriptor-set", "--exclude-source-info", "--output", released)
}

// compare compares the files with the released schema.
func (t tool) compare(ctx context.Context, root string) error {
	if _, err := os.Stat(filepath.Join(root, released)); err != nil {
		return fmt.Errorf("there is no released schema; go -C tools run ./schema -release makes it: %w", err)
	}
	if err := t.do(ctx, root, "breaking", ".", "--against", released); err != nil {
		return fmt.Errorf("%w; clients of the released schema would break, and docs/checklists.md says what to do instead", err)
	}
	return nil
}

// do runs buf in the root; what it complains of is the error.
func (t tool) do(ctx context.Context, root string, args ...string) error {
	cmd := exec.CommandContext(ctx, string(t), args...)
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		return fmt.Errorf("%sbuf %s: %w", out, args[0], err)
	}
	return err
}
