package unit_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/cluster/unit"
)

// open opens units of a new directory, which are removed at the end of the test.
func open(t *testing.T) (*unit.Supervised, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "units")
	return reopen(t, dir), dir
}

func reopen(t *testing.T, dir string) *unit.Supervised {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	m, err := unit.OpenSupervised(dir, []string{self, supervise}, []string{"PATH=/usr/bin:/bin"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		list, err := m.List(ctx)
		for _, s := range list {
			err = errors.Join(err, m.Remove(ctx, s.Name))
		}
		if err = errors.Join(err, unit.Clear(ctx, dir)); err != nil {
			log, _ := os.ReadFile(filepath.Join(dir, "supervisor.log"))
			t.Errorf("%v\n%s", err, log)
		}
	})
	return m
}

// patience is for slow machines; nothing takes as long.
const patience = 2 * time.Minute

// eventually waits until what is asked for is so.
func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !so(); time.Sleep(5 * time.Millisecond) { //nolint:forbidigo // other processes are waited for
		if time.Now().After(end) {
			t.Fatalf("it never is so: %s", what)
		}
	}
}

func state(t *testing.T, m unit.Manager, name string) unit.State {
	t.Helper()
	list, err := m.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range list {
		if s.Name == name {
			return s
		}
	}
	return unit.State{}
}

func put(t *testing.T, m unit.Manager, spec *unit.Spec) {
	t.Helper()
	if err := m.Put(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
}

func script(name, text string, args ...string) *unit.Spec {
	return &unit.Spec{Name: name, Args: append([]string{"/bin/sh", "-c", text, "sh"}, args...), Env: map[string]string{"PATH": "/usr/bin:/bin"}}
}

// runs tells whether a process runs, and is not a dead one that nobody has asked about.
func runs(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !bytes.Contains(text, []byte(") Z "))
}

// supervisorOf is the process that supervises a directory.
func supervisorOf(t *testing.T, dir string) int {
	t.Helper()
	for _, pid := range processes(func(cmdline string) bool { return strings.HasSuffix(cmdline, supervise+"\x00"+dir+"\x00") }) {
		return pid
	}
	t.Fatal("there is no supervisor")
	return 0
}

func processes(wanted func(cmdline string) bool) (list []int) {
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range all {
		text, err := os.ReadFile(path)
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err == nil && wanted(string(text)) && runs(pid) {
			list = append(list, pid)
		}
	}
	return list
}

// with lists the processes that have a text in their arguments.
func with(text string) []int {
	return processes(func(cmdline string) bool { return strings.Contains(cmdline, text) })
}

func kill(t *testing.T, pid int, s syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(pid, s); err != nil {
		t.Fatal(err)
	}
	if s == syscall.SIGKILL {
		eventually(t, "it is dead", func() bool { return !runs(pid) })
	}
}

// A unit has what its spec says, and nothing else; it stays as it is when it is put once
// more, and becomes another one when its spec is another one.
func TestPut(t *testing.T) {
	t.Parallel()
	m, dir := open(t)
	out := filepath.Join(t.TempDir(), "out")
	spec := script("one", `env > "$1.new"; pwd >> "$1.new"; mv "$1.new" "$1"; echo said; exec sleep 1000`, out)
	spec.Env["SECRET"], spec.Dir, spec.Notes = "p a=\"s\ns", filepath.Dir(out), map[string]string{"count": "1"}
	put(t, m, spec)
	eventually(t, "it has begun", func() bool { _, err := os.Stat(out); return err == nil })
	text, _ := os.ReadFile(out)
	for _, want := range []string{"SECRET=p a=\"s\ns\n", "PATH=/usr/bin:/bin\n", "\n" + spec.Dir + "\n"} {
		if !strings.Contains("\n"+string(text), want) {
			t.Errorf("there is no %q in %q", want, text)
		}
	}
	if strings.Contains(string(text), "HOME=") {
		t.Errorf("it has inherited: %q", text)
	}
	first := state(t, m, "one")
	if first.Phase != unit.Up || first.Pid == 0 || first.Digest != spec.Digest() || first.Notes["count"] != "1" || first.Since.IsZero() {
		t.Errorf("%+v", first)
	}
	eventually(t, "its log has what it said", func() bool {
		log, err := os.ReadFile(first.Log)
		return err == nil && string(log) == "said\n"
	})
	testPutAgain(t, m, dir, spec, first)
}

func testPutAgain(t *testing.T, m unit.Manager, dir string, spec *unit.Spec, first unit.State) {
	t.Helper()
	put(t, m, spec)
	if again := state(t, m, "one"); again.Pid != first.Pid {
		t.Errorf("it was started again: %d, then %d", first.Pid, again.Pid)
	}
	spec.Env["SECRET"] = "other"
	put(t, m, spec)
	again := state(t, m, "one")
	if again.Pid == first.Pid || runs(first.Pid) || again.Digest == first.Digest {
		t.Errorf("it is still what it was: %+v", again)
	}
	for path, mode := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, "one.json"): 0o600, again.Log: 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
}

// One that ends is started again, and given up in the end; a put begins anew.
func TestRestart(t *testing.T) {
	t.Parallel()
	m, _ := open(t)
	count := filepath.Join(t.TempDir(), "count")
	put(t, m, script("fails", `echo . >> "$1"; exit 3`, count))
	starts := func() int { text, _ := os.ReadFile(count); return bytes.Count(text, []byte("\n")) }
	eventually(t, "it is given up", func() bool { return state(t, m, "fails").Phase == unit.GaveUp })
	if s := state(t, m, "fails"); s.Starts != 4 || starts() != 5 || s.Exit != "exit status 3" || s.Pid != 0 {
		t.Errorf("%+v after %d starts", s, starts())
	}
	put(t, m, script("fails", `echo . >> "$1"; exit 3`, count))
	eventually(t, "it is tried again", func() bool { return starts() == 10 })

	put(t, m, script("dies", "exec sleep 1000"))
	was := state(t, m, "dies")
	kill(t, was.Pid, syscall.SIGKILL)
	eventually(t, "it is up again", func() bool { s := state(t, m, "dies"); return s.Phase == unit.Up && s.Pid != was.Pid })
	if s := state(t, m, "dies"); s.Starts != 1 || s.Exit != "signal: killed" {
		t.Errorf("%+v", s)
	}
}

// What is removed has ended, with what it has started in its session, also if it does not
// want to; then the supervisor has nothing left to do and ends, and nothing is left.
func TestRemove(t *testing.T) {
	t.Parallel()
	m, dir := open(t)
	mark := "of-" + strconv.Itoa(os.Getpid()) + filepath.Base(t.TempDir()) + t.Name()
	stubborn := script("stubborn", `trap "" TERM; sh -c 'while :; do sleep 1000; done' `+mark+` & while :; do sleep 1000; done`, mark)
	stubborn.Grace = 50 * time.Millisecond
	polite := script("polite", `trap 'echo bye > "$1"; exit 0' TERM; echo ready; sleep 1000 & wait`, filepath.Join(t.TempDir(), "bye"))
	put(t, m, stubborn)
	put(t, m, polite)
	log := state(t, m, "polite").Log
	eventually(t, "both are there", func() bool {
		text, _ := os.ReadFile(log)
		return len(with(mark)) >= 2 && string(text) == "ready\n"
	})
	supervisor := supervisorOf(t, dir)
	for _, name := range []string{"stubborn", "polite", "nobody"} {
		if err := m.Remove(t.Context(), name); err != nil {
			t.Error(err)
		}
	}
	if left := with(mark); len(left) > 0 {
		t.Errorf("processes are left: %v", left)
	}
	if text, err := os.ReadFile(polite.Args[4]); string(text) != "bye\n" {
		t.Errorf("it was not asked to end: %q, %v", text, err)
	}
	if err := unit.Clear(t.Context(), dir); err != nil {
		t.Error(err)
	}
	eventually(t, "the supervisor has ended", func() bool { return !runs(supervisor) })
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory is left: %v", err)
	}
}

// A supervisor that is killed, or told to end, leaves its units running, and the next one
// has the same processes: none is started twice.
func TestAdopt(t *testing.T) {
	t.Parallel()
	for _, signal := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM} {
		t.Run(signal.String(), func(t *testing.T) {
			t.Parallel()
			testAdopt(t, signal)
		})
	}
}

func testAdopt(t *testing.T, signal syscall.Signal) {
	t.Helper()
	m, dir := open(t)
	mark := fmt.Sprintf("adopt-%d-%d", os.Getpid(), signal)
	pids := map[string]int{}
	for i := range 5 {
		name := fmt.Sprintf("u%d", i)
		put(t, m, script(name, "while :; do sleep 1000; done", mark))
		pids[name] = state(t, m, name).Pid
	}
	supervisor := supervisorOf(t, dir)
	kill(t, supervisor, signal)
	eventually(t, "it has ended", func() bool { return !runs(supervisor) })
	kill(t, pids["u0"], syscall.SIGKILL)
	if s := state(t, m, "u1"); s.Phase != unit.Alone || s.Pid != pids["u1"] {
		t.Errorf("without a supervisor: %+v", s)
	}
	if s := state(t, m, "u0"); s.Phase != unit.Down || s.Pid != 0 {
		t.Errorf("without a supervisor: %+v", s)
	}
	if err := m.Wake(t.Context()); err != nil {
		t.Fatal(err)
	}
	allUp(t, m, 5)
	for name, pid := range pids {
		if now := state(t, m, name).Pid; name != "u0" && now != pid || name == "u0" && now == pid {
			t.Errorf("%s was %d, and is %d", name, pid, now)
		}
	}
	// A shell that has just forked is seen twice, until its child begins another program.
	eventually(t, "each runs once", func() bool { return len(with(mark)) == 5 })
	testAdopted(t, m, pids)
}

// testAdopted checks that those that were adopted are looked after.
func testAdopted(t *testing.T, m unit.Manager, pids map[string]int) {
	t.Helper()
	kill(t, pids["u1"], syscall.SIGKILL)
	eventually(t, "it is up again", func() bool { s := state(t, m, "u1"); return s.Phase == unit.Up && s.Pid != pids["u1"] })
	if err := m.Remove(t.Context(), "u2"); err != nil || runs(pids["u2"]) {
		t.Errorf("one that was adopted is not removed: %v", err)
	}
}

// allUp waits until so many units are up.
func allUp(t *testing.T, m unit.Manager, units int) {
	t.Helper()
	eventually(t, "all are up", func() bool {
		list, err := m.List(t.Context())
		return err == nil && len(list) == units && !slices.ContainsFunc(list, func(s unit.State) bool { return s.Phase != unit.Up })
	})
}

// Supervisors that are killed at any moment never leave two processes of one unit, nor
// forget one that they have taken.
func TestKilledSupervisors(t *testing.T) {
	t.Parallel()
	m, dir := open(t)
	mark := fmt.Sprintf("storm-%d", os.Getpid())
	const units, rounds = 6, 8
	for round := range rounds {
		var all sync.WaitGroup
		for i := range units {
			all.Go(func() {
				spec := script(fmt.Sprintf("u%d", i), "while :; do sleep 1000; done", fmt.Sprintf("%s-%d", mark, i))
				spec.Notes = map[string]string{"round": strconv.Itoa(round / 2 * (i % 2))} // some change, some do not
				if err := m.Put(t.Context(), spec); err != nil {
					t.Error(err)
				}
			})
		}
		all.Go(func() {
			for range round { // later each time
				_, _ = m.List(t.Context())
			}
			for _, pid := range processes(func(cmdline string) bool { return strings.HasSuffix(cmdline, supervise+"\x00"+dir+"\x00") }) {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		})
		all.Wait()
		if err := m.Wake(t.Context()); err != nil {
			t.Fatal(err)
		}
		allUp(t, m, units)
		for i := range units {
			eventually(t, "each runs once", func() bool {
				one := with(fmt.Sprintf("%s-%d", mark, i))
				return len(one) == 1 && state(t, m, fmt.Sprintf("u%d", i)).Pid == one[0]
			})
		}
	}
}

// Logs are bounded, and lose nothing of what is kept where the file system can cut.
func TestLogs(t *testing.T) {
	t.Parallel()
	m, _ := open(t)
	spec := script("writes", `i=0; while [ $i -lt 20000 ]; do echo "line $i"; i=$((i+1)); done; echo over; exec sleep 1000`)
	spec.LogSize = 16 << 10
	put(t, m, spec)
	path := state(t, m, "writes").Log
	size := func(path string) int64 {
		info, err := os.Stat(path)
		if err != nil {
			return 0
		}
		return info.Size()
	}
	eventually(t, "it was cut", func() bool {
		text, _ := os.ReadFile(path)
		return (bytes.HasSuffix(text, []byte("over\n")) || len(text) == 0) && int64(len(text)) <= spec.LogSize && size(path+".1") > 0
	})
	if n := size(path + ".1"); n > spec.LogSize {
		t.Errorf("%d bytes of old ones are kept", n)
	}
}

// Hundreds of units are put at once, and removed.
func TestMany(t *testing.T) {
	t.Parallel()
	m, dir := open(t)
	begun := time.Now()
	var all sync.WaitGroup
	for i := range 200 {
		all.Go(func() { put(t, m, script(fmt.Sprintf("u%d", i), "exec sleep 1000")) })
	}
	all.Wait()
	t.Logf("200 units after %s", time.Since(begun))
	list, err := m.List(t.Context())
	if err != nil || len(list) != 200 || slices.ContainsFunc(list, func(s unit.State) bool { return s.Phase != unit.Up }) {
		t.Errorf("%d units, %v", len(list), err)
	}
	if n := len(processes(func(cmdline string) bool { return strings.HasSuffix(cmdline, supervise+"\x00"+dir+"\x00") })); n != 1 {
		t.Errorf("%d supervisors", n)
	}
}

// A directory may have a name that no socket could have.
func TestLongPath(t *testing.T) {
	t.Parallel()
	m := reopen(t, filepath.Join(t.TempDir(), strings.Repeat("long", 60), "units"))
	put(t, m, script("one", "exec sleep 1000"))
	if s := state(t, m, "one"); s.Phase != unit.Up {
		t.Errorf("%+v", s)
	}
}

// A record that is damaged is told, holds up no other unit, and can be put anew or removed;
// what it was of ends.
func TestDamaged(t *testing.T) {
	t.Parallel()
	m, dir := open(t)
	for _, name := range []string{"good", "bad", "worse"} {
		put(t, m, script(name, "exec sleep 1000"))
	}
	was := map[string]int{"good": state(t, m, "good").Pid, "bad": state(t, m, "bad").Pid, "worse": state(t, m, "worse").Pid}
	kill(t, supervisorOf(t, dir), syscall.SIGKILL)
	for _, name := range []string{"bad", "worse"} {
		if err := os.WriteFile(filepath.Join(dir, name+".json"), []byte(`{"version":1,"spec":{"na`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if s := state(t, m, "bad"); s.Phase != unit.Alone || s.Pid != was["bad"] || !strings.Contains(s.Exit, "corrupt") {
		t.Errorf("%+v", s)
	}
	if err := m.Wake(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := state(t, m, "good"); s.Pid != was["good"] {
		t.Errorf("%+v", s)
	}
	if s := state(t, m, "bad"); s.Phase != unit.Down || !strings.Contains(s.Exit, "corrupt") {
		t.Errorf("%+v", s)
	}
	put(t, m, script("bad", "exec sleep 1000"))
	if s := state(t, m, "bad"); s.Phase != unit.Up {
		t.Errorf("%+v", s)
	}
	if err := m.Remove(t.Context(), "worse"); err != nil || runs(was["worse"]) {
		t.Errorf("it is not removed: %v", err)
	}
}

// A directory that others may enter is refused, and so is what cannot be a unit.
func TestRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	m, err := unit.OpenSupervised(dir, []string{"/bin/false"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Put(t.Context(), script("one", "true")); !errors.Is(err, navvy.ErrDenied) {
		t.Errorf("%v", err)
	}
	good := script("one", "true")
	for name, change := range map[string]func(*unit.Spec){
		"no name":       func(s *unit.Spec) { s.Name = "" },
		"a path":        func(s *unit.Spec) { s.Name = "../x" },
		"no program":    func(s *unit.Spec) { s.Args = nil },
		"relative":      func(s *unit.Spec) { s.Args = []string{"sh"} },
		"zero byte":     func(s *unit.Spec) { s.Args = []string{"/bin/sh", "a\x00"} },
		"no variable":   func(s *unit.Spec) { s.Env = map[string]string{"A=B": ""} },
		"directory":     func(s *unit.Spec) { s.Dir = "here" },
		"signal":        func(s *unit.Spec) { s.Stop = "SIGNONE" },
		"grace":         func(s *unit.Spec) { s.Grace = -1 },
		"a short log":   func(s *unit.Spec) { s.LogSize = 1 },
		"far too large": func(s *unit.Spec) { s.Notes = map[string]string{"a": strings.Repeat("a", 2<<20)} },
	} {
		bad := *good
		change(&bad)
		if err := m.Put(t.Context(), &bad); !errors.Is(err, navvy.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	text, err := json.Marshal(good)
	if err != nil || bytes.Contains(text, []byte("grace")) {
		t.Errorf("%s, %v", text, err)
	}
}
