package unit

import (
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/navvy-run/navvy"
)

var update = flag.Bool("update", false, "write the golden files")

// awkward is a spec in which all has to be quoted that can be.
func awkward() *Spec {
	return &Spec{
		Name: "worker-1", Args: []string{"/opt/na vvy/navvy", "worker", "$HOME", "100%", `a "b" \c`, "two\nlines", ""},
		Env: map[string]string{"PLAIN": "value", "ODD": "a \"b\" $c `d` \\e\nnext", "EMPTY": ""},
		Dir: "/var/100% sure", Grace: 1500e6, Notes: map[string]string{"labels": "a=b"},
	}
}

// fakeSystemd notes what systemctl would be asked to do, and can fail; see real_test.go for what
// systemd does with it.
func fakeSystemd(t *testing.T) (m *Systemd, called *[]string) {
	t.Helper()
	root := t.TempDir()
	m, err := OpenSystemd(filepath.Join(root, "own"), "navvy-try", &SystemdOptions{ConfigDir: root})
	if err != nil {
		t.Fatal(err)
	}
	called = new([]string)
	m.ctl = func(_ context.Context, args ...string) (string, error) {
		*called = append(*called, strings.Join(args, " "))
		switch args[0] {
		case "--version":
			return "systemd 255 (255.4-1)\n+PAM\n", nil
		case "enable":
			return "", errors.Join(os.MkdirAll(filepath.Dir(m.wanted("worker-1")), 0o700), os.RemoveAll(m.wanted("worker-1")), os.Symlink(m.unit("worker-1"), m.wanted("worker-1")))
		case "show":
			return "Id=navvy-try-worker-1.service\nActiveState=activating\nSubState=auto-restart\nMainPID=0\nNRestarts=3\nResult=exit-code\nExecMainStatus=1\n", nil
		}
		return "", nil
	}
	return m, called
}

func TestSystemdText(t *testing.T) {
	t.Parallel()
	m, err := OpenSystemd("/home/me/units", "navvy-try", &SystemdOptions{ConfigDir: "/home/me/.config"})
	if err != nil {
		t.Fatal(err)
	}
	for name, got := range map[string]string{"unit": m.text(awkward(), true), "unit-252": m.text(awkward(), false), "env": environmentFile(awkward().Env)} {
		path := filepath.Join("testdata", name+".golden")
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestSystemd(t *testing.T) {
	t.Parallel()
	m, called := fakeSystemd(t)
	spec := awkward()
	if err := m.Put(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	const service = "navvy-try-worker-1.service"
	changes := slices.DeleteFunc(slices.Clone(*called), func(call string) bool { return strings.HasPrefix(call, "show ") })
	want := []string{"--version", "daemon-reload", "reset-failed " + service, "enable " + service, "restart " + service}
	if diff := cmp.Diff(want, changes); diff != "" {
		t.Error(diff)
	}
	if info, err := os.Stat(m.env("worker-1")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("others can read the environment: %v, %v", info, err)
	}
	if text, err := os.ReadFile(m.unit("worker-1")); err != nil || strings.Contains(string(text), "next") {
		t.Errorf("the environment is in the unit: %s, %v", text, err)
	}
	*called = nil
	if err := m.Put(t.Context(), spec); err != nil || slices.Contains(*called, "restart "+service) {
		t.Errorf("put once more: %q, %v", *called, err)
	}
	testSystemdState(t, m, spec)
}

// What systemd has not read is no reason to start a unit again, unless it was the unit's own.
func TestSystemdUnread(t *testing.T) {
	t.Parallel()
	m, called := fakeSystemd(t)
	spec, ctl, more := awkward(), m.ctl, ""
	m.ctl = func(ctx context.Context, args ...string) (string, error) {
		out, err := ctl(ctx, args...)
		if args[0] == "daemon-reload" {
			more = ""
		}
		if args[0] == "show" {
			out += more
		}
		return out, err
	}
	if err := m.Put(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	own := func() error { return os.Chtimes(m.unit(spec.Name), time.Time{}, time.Now().Add(time.Hour)) }
	for _, one := range []struct {
		more   string
		change func() error
		again  bool
	}{
		{"", func() error { return nil }, false},
		{"DropInPaths=/etc/systemd/user/service.d/any.conf\n", func() error { return os.Remove(m.wanted(spec.Name)) }, false},
		{"DropInPaths=" + m.edits(spec.Name) + "/override.conf\n", func() error { return nil }, true},
		{"", own, true},
	} {
		if err := one.change(); err != nil {
			t.Fatal(err)
		}
		more, *called = "NeedDaemonReload=yes\n"+one.more, nil
		if err := m.Put(t.Context(), spec); err != nil || more != "" || slices.Contains(*called, "restart "+m.service(spec.Name)) != one.again {
			t.Errorf("%q: %q, %v", one.more, *called, err)
		}
	}
}

func testSystemdState(t *testing.T, m *Systemd, spec *Spec) {
	t.Helper()
	list, err := m.List(t.Context())
	if err != nil || len(list) != 1 {
		t.Fatalf("%+v, %v", list, err)
	}
	if s := list[0]; s.Phase != Waiting || s.Digest != spec.Digest() || s.Starts != 3 || s.Exit != "exit-code, status 1" || s.Notes["labels"] != "a=b" {
		t.Errorf("%+v", s)
	}
	if err := os.WriteFile(m.unit("worker-1"), []byte(m.mark()+"changed"), 0o600); err != nil {
		t.Fatal(err)
	}
	if list, err = m.List(t.Context()); err != nil || list[0].Digest != "" {
		t.Errorf("a unit that was changed: %+v, %v", list, err)
	}
	if err := m.Remove(t.Context(), "worker-1"); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(m.units, "*.service"))
	if list, err2 := m.List(t.Context()); len(list)+len(left) > 0 || errors.Join(err, err2) != nil {
		t.Errorf("it is left: %+v %q, %v, %v", list, left, err, err2)
	}
}

// A change that was interrupted anywhere is seen, and made by the next put.
func TestSystemdInterrupted(t *testing.T) {
	t.Parallel()
	for _, at := range []string{"daemon-reload", "enable", "restart"} {
		m, called := fakeSystemd(t)
		spec, ctl := awkward(), m.ctl
		if err := m.Put(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
		m.ctl = func(ctx context.Context, args ...string) (string, error) {
			if args[0] == at {
				return "", errors.New("killed")
			}
			return ctl(ctx, args...)
		}
		spec.Args = append(spec.Args, "more")
		if err := m.Put(t.Context(), spec); err == nil {
			t.Errorf("at %s: no error", at)
		}
		m.ctl, *called = ctl, nil
		if list, err := m.List(t.Context()); err != nil || list[0].Digest == spec.Digest() {
			t.Errorf("at %s: it is not seen: %+v, %v", at, list, err)
		}
		if err := m.Put(t.Context(), spec); err != nil || !slices.Contains(*called, "daemon-reload") || !slices.Contains(*called, "restart "+m.service(spec.Name)) {
			t.Errorf("at %s: put once more: %q, %v", at, *called, err)
		}
		if list, err := m.List(t.Context()); err != nil || list[0].Digest != spec.Digest() {
			t.Errorf("at %s: it is not over: %+v, %v", at, list, err)
		}
	}
}

// What somebody has taken from systemd is ended, too, if it still runs.
func TestSystemdLost(t *testing.T) {
	t.Parallel()
	for state, stops := range map[string]bool{"active": true, "activating": true, "inactive": false, "failed": false} {
		m, called := fakeSystemd(t)
		ctl := m.ctl
		m.ctl = func(ctx context.Context, args ...string) (string, error) {
			out, err := ctl(ctx, args...)
			if args[0] == "show" {
				out = strings.Replace(out, "ActiveState=activating", "ActiveState="+state, 1)
			}
			return out, err
		}
		if err := m.Put(t.Context(), awkward()); err != nil {
			t.Fatal(err)
		}
		link := filepath.Join(m.units, "default.target.wants", m.service("worker-1"))
		if err := os.Remove(m.unit("worker-1")); err != nil {
			t.Fatal(err)
		}
		if err := m.Remove(t.Context(), "worker-1"); err != nil || slices.Contains(*called, "stop "+m.service("worker-1")) != stops {
			t.Errorf("%s: it called %q, %v", state, *called, err)
		}
		if _, err := os.Lstat(link); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: its link is left: %v", state, err)
		}
		if list, err := readUnits(m.dir); len(list) > 0 || err != nil {
			t.Errorf("%s: left: %v, %v", state, list, err)
		}
	}
}

// A unit of that name that is somebody else's is left alone.
func TestSystemdForeign(t *testing.T) {
	t.Parallel()
	m, called := fakeSystemd(t)
	if err := os.MkdirAll(m.units, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(m.unit("worker-1"), []byte("[Unit]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := m.Put(t.Context(), awkward()); !errors.Is(err, navvy.ErrExists) {
		t.Errorf("put: %v", err)
	}
	if err := m.Remove(t.Context(), "worker-1"); !errors.Is(err, navvy.ErrExists) {
		t.Errorf("remove: %v", err)
	}
	if text, err := os.ReadFile(m.unit("worker-1")); string(text) != "[Unit]\n" || len(*called) > 0 {
		t.Errorf("it was touched: %q, %v, %q", text, err, *called)
	}
}

// A supervisor that cannot watch logs keeps units up all the same.
func TestUnwatchedLogs(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "units")
	if err := errors.Join(openDir(dir), os.Remove(filepath.Join(dir, logDir))); err != nil {
		t.Fatal(err)
	}
	s := &supervisor{dir: dir, o: (*Options)(nil).withDefaults(), leaving: make(chan struct{}), moved: make(chan struct{}, 1)}
	s.log = s.o.Logger
	ctx, cancel := context.WithCancel(t.Context())
	served := false
	err := s.run(ctx, func() error {
		served = true
		cancel()
		return nil
	})
	if err != nil || !served {
		t.Errorf("it served: %v, %v", served, err)
	}
}

func FuzzUnit(f *testing.F) {
	f.Add([]byte(`{"version":1,"spec":{"name":"a","args":["/a"]}}`))
	f.Add([]byte(`{"version":2}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := parseUnit(text)
		if err != nil && !errors.Is(err, navvy.ErrCorrupt) || err == nil && r.Spec.Validate() != nil {
			t.Errorf("%+v, %v", r, err)
		}
	})
}

func FuzzStat(f *testing.F) {
	f.Add([]byte("7 (a) b) S 1 7 5 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 99 1"))
	f.Add([]byte(") "))
	f.Fuzz(func(t *testing.T, text []byte) {
		if s, err := parseStat(text); err == nil && s.state == 0 {
			t.Errorf("%q: %+v", text, s)
		}
	})
}
