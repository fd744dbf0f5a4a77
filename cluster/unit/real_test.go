package unit_test

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/cluster/unit"
	"github.com/navvy-run/navvy/cluster/unit/systemdtest"
)

// world is a systemd of the user, with units in it.
type world struct {
	*testing.T
	*unit.Systemd
	dir, units string
}

const prefix = "navvy-try"

func newWorld(t *testing.T) *world {
	t.Helper()
	o := systemdtest.Options()
	if !unit.HasSystemd(o) {
		t.Fatal("systemd runs, and is not found")
	}
	// What there may be in the path of a home.
	w := &world{T: t, dir: filepath.Join(t.TempDir(), `un its $HOME 100% "q" 'q' \t {a,b}[c]* ü;`), units: filepath.Join(o.ConfigDir, "systemd", "user")}
	var err error
	if w.Systemd, err = unit.OpenSystemd(w.dir, prefix, o); err != nil {
		t.Fatal(err)
	}
	return w
}

func service(name string) string { return prefix + "-" + name + ".service" }

// ctl calls systemctl as somebody else does it.
func (w *world) ctl(args ...string) string {
	w.Helper()
	out, err := exec.Command("systemctl", append([]string{"--user", "--no-pager"}, args...)...).CombinedOutput()
	if err != nil {
		w.Fatalf("systemctl %q: %v: %s", args, err, out)
	}
	return string(out)
}

func (w *world) put(spec *unit.Spec) {
	w.Helper()
	if err := w.Put(w.Context(), spec); err != nil {
		w.Fatal(err)
	}
}

func (w *world) state(name string) unit.State {
	w.Helper()
	return state(w.T, w, name)
}

// is waits for a phase, and gives what there is then.
func (w *world) is(name string, p unit.Phase) (s unit.State) {
	w.Helper()
	eventually(w.T, string(p), func() bool { s = w.state(name); return s.Phase == p })
	return s
}

// drifts checks that a change is seen, and that putting the unit once more undoes it.
func (w *world) drifts(spec *unit.Spec, what string, anew bool) {
	w.Helper()
	before := w.state(spec.Name)
	if before.Digest != "" || !strings.Contains(before.Exit, what) {
		w.Errorf("%s: it is not seen: %+v", what, before)
	}
	w.put(spec)
	after := w.is(spec.Name, unit.Up)
	if after.Digest != spec.Digest() {
		w.Errorf("%s: it is not undone: %+v", what, after)
	}
	if started := after.Pid != before.Pid; started != anew {
		w.Errorf("%s: it was process %d, and is %d", what, before.Pid, after.Pid)
	}
}

// empty removes units, and checks that nothing of them is left.
func (w *world) empty(names ...string) {
	w.Helper()
	for _, name := range names {
		if err := w.Remove(w.Context(), name); err != nil {
			w.Error(err)
		}
	}
	var files []string
	for _, dir := range []string{w.units, w.dir} {
		_ = filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
			if err == nil && !e.IsDir() || strings.HasSuffix(path, ".d") {
				files = append(files, path)
			}
			return nil
		})
	}
	if listed := w.ctl("list-units", "--all") + w.ctl("list-unit-files"); len(files) > 0 || strings.Contains(listed, prefix) {
		w.Errorf("there is left %q, and of systemd\n%s", files, listed)
	}
	if list, err := w.List(w.Context()); len(list) > 0 || err != nil {
		w.Errorf("it still lists %+v, %v", list, err)
	}
}

// shell is a unit that runs a script of the shell.
func shell(name, text string, more ...string) *unit.Spec {
	return &unit.Spec{Name: name, Args: append([]string{"/bin/sh", "-c", text, "sh"}, more...), Grace: 30 * time.Second}
}

// A unit's program gets all that was written of it, whatever is in it.
func TestSystemdWords(t *testing.T) {
	t.Parallel()
	if !systemdtest.Within(t) {
		return
	}
	w := newWorld(t)
	bin := filepath.Join(t.TempDir(), `b$HOME in 100% {a,b}[c]*`)
	if err := os.MkdirAll(bin, 0o700); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(bin, "out")
	program := filepath.Join(bin, "program $a")
	const text = "#!/usr/bin/python3\nimport json, os, sys, time\nwith open('out.new', 'w') as f: json.dump([sys.argv[1:], dict(os.environ), os.getcwd()], f)\nos.rename('out.new', 'out')\ntime.sleep(3600)\n"
	if err := os.WriteFile(program, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	args := []string{"$HOME", "${HOME}", "100%", "%h", `a "b" 'c' \d`, "two\nlines\tand\x01more", "", ";", "ü", " ", "-x", "#", `\`}
	env := map[string]string{"PATH": os.Getenv("PATH"), "ODD": "a \"b\" 'x' $c ${d} `e` \\f\\\nnext # \t%h", "EMPTY": "", "EDGE": "  both \n", "UMLAUT": "ü", "END": `\`}
	spec := &unit.Spec{Name: "words", Args: append([]string{program}, args...), Env: env, Dir: bin}
	w.put(spec)
	var got struct {
		args []string
		env  map[string]string
		dir  string
	}
	eventually(t, "it has told what it was given", func() bool {
		text, err := os.ReadFile(out)
		return err == nil && json.Unmarshal(text, &[]any{&got.args, &got.env, &got.dir}) == nil
	})
	if diff := cmp.Diff(args, got.args); diff != "" {
		t.Error("arguments:", diff)
	}
	for name, value := range env {
		if is, ok := got.env[name]; !ok || is != value {
			t.Errorf("%s: %q, want %q", name, is, value)
		}
	}
	if got.dir != bin {
		t.Errorf("it runs in %q", got.dir)
	}
	if s := w.state("words"); s.Digest != spec.Digest() || s.Phase != unit.Up || s.Exit != "" {
		t.Errorf("%+v", s)
	}
	w.empty("words")
}

// What somebody does with a unit by hand is seen and undone.
func TestSystemdDrift(t *testing.T) {
	t.Parallel()
	if !systemdtest.Within(t) {
		return
	}
	w := newWorld(t)
	spec := shell("a", "exec sleep 3600")
	w.put(spec)
	first := w.is("a", unit.Up)
	w.put(spec)
	if s := w.state("a"); s.Pid != first.Pid || s.Digest != spec.Digest() {
		t.Errorf("put once more: it was %+v, and is %+v", first, s)
	}
	file := filepath.Join(w.units, service("a"))

	w.ctl("disable", service("a"))
	w.drifts(spec, "disabled", false)
	if is := strings.TrimSpace(w.ctl("is-enabled", service("a"))); is != "enabled" {
		t.Error(is)
	}

	w.ctl("stop", service("a"))
	if s := w.state("a"); s.Phase != unit.Down || !strings.Contains(s.Exit, "stopped") || s.Pid != 0 {
		t.Errorf("stopped by hand: %+v", s)
	}
	w.put(spec)
	w.is("a", unit.Up)

	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(text), "3600", "7200", 1)
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(file, changed)
	w.ctl("daemon-reload")
	w.ctl("restart", service("a"))
	w.drifts(spec, "not what navvy has written", true)

	write(file, changed)
	w.ctl("daemon-reload")
	w.ctl("restart", service("a"))
	write(file, string(text)) // and nobody has told systemd
	if err := os.Chtimes(file, time.Time{}, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	w.drifts(spec, "not read", true)

	if err := os.Mkdir(file+".d", 0o700); err != nil {
		t.Fatal(err)
	}
	write(filepath.Join(file+".d", "override.conf"), "[Service]\nNice=5\n")
	w.ctl("daemon-reload")
	w.drifts(spec, "changes it", true)

	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	w.drifts(spec, "not what navvy has written", true)

	if err := os.Remove(file); err != nil { // and then it is to go
		t.Fatal(err)
	}
	pid := w.state("a").Pid
	w.empty("a")
	if syscall.Kill(pid, 0) == nil {
		t.Errorf("process %d is left", pid)
	}
}

// What is there for all services and systemd has not read is read, and nothing starts again for it.
func TestSystemdShared(t *testing.T) {
	t.Parallel()
	if !systemdtest.Within(t) {
		return
	}
	w := newWorld(t)
	spec := shell("a", "exec sleep 3600")
	w.put(spec)
	w.is("a", unit.Up)
	all := filepath.Join(w.units, "service.d", "any.conf") // as a package brings it for all services
	if err := os.Mkdir(filepath.Dir(all), 0o700); err != nil {
		t.Fatal(err)
	}
	w.ctl("daemon-reload") // it looks there from now on
	if err := os.WriteFile(all, []byte("[Service]\nNice=5\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.drifts(spec, "not read", false)
	w.ctl("disable", "--no-reload", service("a"))
	if err := os.Remove(all); err != nil {
		t.Fatal(err)
	}
	w.drifts(spec, "not read", false)
	if err := os.Remove(filepath.Dir(all)); err != nil {
		t.Fatal(err)
	}
	w.empty("a")
}

// What ends is started again after a pause, and given up at last.
func TestSystemdRestarts(t *testing.T) {
	t.Parallel()
	if !systemdtest.Within(t) {
		return
	}
	w := newWorld(t)
	w.put(shell("a", "exec sleep 3600"))
	before := w.is("a", unit.Up)
	if err := syscall.Kill(before.Pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	if s := w.is("a", unit.Waiting); s.Exit != "signal, status 9" {
		t.Errorf("%+v", s)
	}
	after := w.is("a", unit.Up)
	if after.Starts != 1 || after.Pid == before.Pid || time.Since(begun) < 100*time.Millisecond {
		t.Errorf("after %s: %+v", time.Since(begun), after)
	}

	// One that ends at once waits, too, and a put tries it now.
	failing := shell("fails", "exit 3")
	for range 10 { // now and then systemd says that it was not started
		w.put(failing)
		w.put(shell("fails", "kill -9 $$"))
	}
	w.put(failing)
	if s := w.is("fails", unit.Waiting); s.Exit != "exit-code, status 3" || s.Digest != failing.Digest() {
		t.Errorf("%+v", s)
	}
	w.put(failing)
	w.put(shell("fails", "exec sleep 3600"))
	w.is("fails", unit.Up)
	absent := &unit.Spec{Name: "fails", Args: []string{"/nonexistent/program"}}
	if err := w.Put(t.Context(), absent); err == nil || !strings.Contains(err.Error(), "unit fails") {
		t.Errorf("a program that is not there: %v", err)
	}

	// One that systemd has given up goes without a trace.
	w.put(shell("lost", "exit 3"))
	w.is("lost", unit.Waiting)
	service := filepath.Join(w.units, service("lost"))
	text, err := os.ReadFile(service)
	if err != nil {
		t.Fatal(err)
	}
	for _, setting := range []string{"Burst=60", "Burst=20"} {
		text = []byte(strings.Replace(string(text), setting, "Burst=1", 1))
	}
	if err := os.WriteFile(service, text, 0o600); err != nil {
		t.Fatal(err)
	}
	w.ctl("daemon-reload")
	w.is("lost", unit.GaveUp)
	w.empty("a", "fails", "lost")
}

// A unit gets the time it was granted, then it is killed with all that it has started.
func TestSystemdStops(t *testing.T) {
	t.Parallel()
	if !systemdtest.Within(t) {
		return
	}
	w := newWorld(t)
	said := filepath.Join(t.TempDir(), "said")
	wait := func() {
		t.Helper()
		eventually(t, "it is ready", func() bool { _, err := os.Stat(said); return err == nil })
	}
	kind := shell("kind", `trap 'sleep 0.5; echo bye >"$1.bye"; exit 0' INT; : >"$1"; while :; do sleep 0.1; done`, said)
	kind.Stop = "SIGINT"
	w.put(kind)
	wait()
	w.empty("kind")
	if text, err := os.ReadFile(said + ".bye"); string(text) != "bye\n" {
		t.Errorf("it got no time: %q, %v", text, err)
	}
	if err := os.Remove(said); err != nil {
		t.Fatal(err)
	}

	stubborn := shell("stubborn", `trap '' TERM; setsid sleep 7777 & echo $! >"$1.new"; mv "$1.new" "$1"; while :; do sleep 0.1; done`, said)
	stubborn.Grace = 700 * time.Millisecond
	w.put(stubborn)
	wait()
	begun := time.Now()
	w.empty("stubborn")
	if took := time.Since(begun); took < stubborn.Grace {
		t.Errorf("it was killed after %s", took)
	}
	if out, err := exec.Command("pgrep", "-f", "sleep 7777").CombinedOutput(); err == nil {
		t.Errorf("a process that it has started is left: %s", out)
	}
}

// What systemd would refuse, or would leave out without a word, is refused.
func TestSystemdRefuses(t *testing.T) {
	t.Parallel()
	m, err := unit.OpenSystemd(t.TempDir(), prefix, &unit.SystemdOptions{ConfigDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*unit.Spec){
		"a program with quotes":     func(s *unit.Spec) { s.Args[0] = `/a"b` },
		"a directory with a space":  func(s *unit.Spec) { s.Dir = "/a " },
		"a directory that goes on":  func(s *unit.Spec) { s.Dir = `/a\` },
		"a variable with a dash":    func(s *unit.Spec) { s.Env = map[string]string{"A-B": "c"} },
		"a value with an escape":    func(s *unit.Spec) { s.Env = map[string]string{"A": "\x1b[0m"} },
		"a value with a return":     func(s *unit.Spec) { s.Env = map[string]string{"A": "\r\n"} },
		"a value that is no text":   func(s *unit.Spec) { s.Env = map[string]string{"A": "\xff"} },
		"a value of no characters":  func(s *unit.Spec) { s.Env = map[string]string{"A": "\ufffe"} },
		"an argument that is none":  func(s *unit.Spec) { s.Args = append(s.Args, "a\xff") },
		"a directory that is none":  func(s *unit.Spec) { s.Dir = "/a\xff/b" },
		"a program with a new line": func(s *unit.Spec) { s.Args[0] = "/a\nb" },
	} {
		spec := shell("a", "exit 0")
		change(spec)
		if err := m.Put(t.Context(), spec); !errors.Is(err, navvy.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if list, err := m.List(t.Context()); len(list) > 0 || err != nil {
		t.Errorf("something was made: %+v, %v", list, err)
	}
}

// What a unit writes is where its state says.
func TestSystemdLogs(t *testing.T) {
	t.Parallel()
	if !systemdtest.Within(t) {
		return
	}
	w := newWorld(t)
	w.put(shell("a", "echo to out; echo to err >&2; exec sleep 3600"))
	s := w.is("a", unit.Up)
	var out []byte
	eventually(t, "the journal has it", func() bool {
		var err error
		out, err = exec.Command("sh", "-c", s.Log).CombinedOutput()
		return err == nil && strings.Contains(string(out), "to out") && strings.Contains(string(out), "to err")
	})
	t.Logf("%s: %s", s.Log, out)
	w.empty("a")
}
