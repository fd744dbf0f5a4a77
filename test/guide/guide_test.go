// Package guide_test follows docs/cloudworker.md: its commands, as they are printed, from an
// empty home directory to the last answer and to the end, when nothing is left.
package guide_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/navvy-run/navvy/cluster/config"
	"github.com/navvy-run/navvy/internal/pause"
	"github.com/navvy-run/navvy/test/lifetest"
)

const (
	page   = "../../docs/cloudworker.md"
	script = "../../examples/cloudworker/guide.sh"
)

var (
	update = flag.Bool("update", false, "make "+script+" of "+page)
	navvy  string
)

func TestMain(m *testing.M) {
	os.Exit(lifetest.RunWithNavvy(m, func(path string) { navvy = path }))
}

// blocks are those of a language on the page, with the headings that they are under.
func blocks(t *testing.T, language string) (list []string, headings []string) {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	heading, inside := "", false
	for line := range strings.Lines(string(text)) {
		switch {
		case inside && line == "```\n":
			inside = false
		case inside:
			list[len(list)-1] += line
		case line == "```"+language+"\n":
			inside, list, headings = true, append(list, ""), append(headings, heading)
		case strings.HasPrefix(line, "## "):
			heading = strings.TrimSpace(line[3:])
		}
	}
	if len(list) == 0 || inside {
		t.Fatalf("%s: %d blocks of %s, the last one has no end: %v", page, len(list), language, inside)
	}
	return list, headings
}

// made is the script that the page's commands make.
func made(t *testing.T) []byte {
	t.Helper()
	list, headings := blocks(t, "sh")
	var b bytes.Buffer
	b.WriteString("#!/usr/bin/env bash\n# The commands of docs/cloudworker.md, to be run in an empty directory; made of it by\n" +
		"# go test ./test/guide -run TestScript -update\nset -euo pipefail\n")
	for i, block := range list {
		if i == 0 || headings[i] != headings[i-1] {
			fmt.Fprintf(&b, "\n# %s\n", headings[i])
		}
		b.WriteString("\n" + block)
	}
	return b.Bytes()
}

// The script has the commands of the page, and no others.
func TestScript(t *testing.T) {
	t.Parallel()
	want := made(t)
	if *update {
		if err := os.WriteFile(script, want, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(script)
	if diff := cmp.Diff(string(want), string(got)); err != nil || diff != "" {
		t.Errorf("it is not what the page makes: go test ./test/guide -run TestScript -update\n%v\n%s", err, diff)
	}
}

// The two files for Azure on the page are the same cluster.
func TestFiles(t *testing.T) {
	t.Parallel()
	older, _ := blocks(t, "json")
	ours, _ := blocks(t, "yaml")
	if len(older) != 1 || len(ours) != 1 {
		t.Fatalf("%d files of CloudWorker, %d of navvy", len(older), len(ours))
	}
	var got [2]*config.Cluster
	for i, text := range []string{older[0], ours[0]} {
		c, err := config.Parse("the page", []byte(text))
		if err != nil {
			t.Fatalf("%v:\n%s", err, text)
		}
		got[i] = config.Defaults(c)
	}
	if diff := cmp.Diff(got[0], got[1]); diff != "" {
		t.Error(diff)
	}
}

// Who follows the page on an empty machine gets every answer, and has nothing left.
func TestGuide(t *testing.T) {
	t.Parallel()
	home, dir := t.TempDir(), t.TempDir()
	path, err := filepath.Abs(script)
	if err != nil {
		t.Fatal(err)
	}
	env := []string{"HOME=" + home, "PATH=" + filepath.Dir(navvy) + ":/usr/local/bin:/usr/bin:/bin", "TMPDIR=" + t.TempDir()}
	run := func(name string, args ...string) ([]byte, error) {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, name, args...)
		cmd.Dir, cmd.Env = dir, env
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
		return cmd.CombinedOutput()
	}
	out, err := run("bash", path)
	if err != nil {
		t.Errorf("%v:\n%s", err, out)
		if out, err := run(navvy, "cluster", "destroy", "shop", "--yes"); err != nil {
			t.Logf("destroy: %v: %s", err, out)
		}
	}
	for name, want := range answers() {
		if got := lines(t, filepath.Join(dir, name)); !slices.Equal(got, want) {
			t.Errorf("%s has %d lines of %d: %s", name, len(got), len(want), cmp.Diff(want, got))
		}
	}
	nothing(t, home, dir)
}

// answers are what both services have to say, in order, by the files that have them.
func answers() map[string][]string {
	all := map[string][]string{}
	for i := 1; i <= 1000; i++ {
		all["echoed.txt"] = append(all["echoed.txt"], fmt.Sprintf("request %d", i))
		all["answers.txt"] = append(all["answers.txt"], fmt.Sprintf(`{"ExitCode":0,"Stdout":"item-%d costs %d\n","Stderr":"","Exception":null}`, i, 3*i))
	}
	for _, list := range all {
		slices.Sort(list)
	}
	return all
}

func lines(t *testing.T, path string) []string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
	}
	list := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	slices.Sort(list)
	return list
}

// nothing checks that no process and no file of the cluster is left, and in the directory only
// what the page's reader has made.
func nothing(t *testing.T, home, dir string) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); len(lifetest.Alive("HOME="+home)) > 0; {
		if time.Now().After(end) {
			for _, pid := range lifetest.Alive("HOME=" + home) {
				t.Errorf("process %d is left: %s", pid, lifetest.CommandOf(pid))
			}
			break
		}
		if err := pause.For(t.Context(), 20*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	for _, left := range files(t, home) {
		t.Errorf("%s is left", left)
	}
	want := []string{"answers.txt", "echoed.txt", "expected.txt", "files/price", "files/prices.csv", "ids.txt", "requests.txt", "shop.yaml"}
	if diff := cmp.Diff(want, files(t, dir)); diff != "" {
		t.Error(diff)
	}
}

// files are those below a directory; those that are none count, too.
func files(t *testing.T, dir string) (list []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			path, err = filepath.Rel(dir, path)
			list = append(list, path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return list
}
