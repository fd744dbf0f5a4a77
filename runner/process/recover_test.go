package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/runner/driver/drivertest"
)

// start starts a script that writes a line when all its processes are there,
// and waits for that line.
func start(t *testing.T, env []string, script string) *Process {
	t.Helper()
	r, w := io.Pipe()
	p, err := Start(&Config{Args: []string{"/bin/sh", "-c", script}, Env: append(env, "PATH=/usr/local/bin:/usr/bin:/bin"), Stdout: w})
	if err != nil {
		t.Fatal(err)
	}
	waited := make(chan struct{})
	go func() {
		defer close(waited)
		_, _ = p.Wait(context.Background())
	}()
	if _, err := r.Read(make([]byte, 100)); err != nil {
		t.Error(err)
	}
	t.Cleanup(func() {
		_ = p.Stop(true)
		_ = r.Close()
		<-waited
	})
	return p
}

// alive tells whether the group of p still has a process that has not ended.
func alive(t *testing.T, p *Process) bool {
	t.Helper()
	group, err := rosterOf(p.pid)
	if err != nil {
		t.Fatal(err)
	}
	return len(group.members) > 0
}

// TestRecoverOthers hands in handles that name a running process which is not
// the attempt's: an id that was used again. It must live.
func TestRecoverOthers(t *testing.T) {
	t.Parallel()
	boot, err := bootID()
	if err != nil {
		t.Fatal(err)
	}
	p := start(t, []string{EnvToken + "=its-own"}, "echo; sleep 1000")
	orphans := start(t, []string{EnvToken + "=its-own"}, "sleep 1000 & echo")
	for name, handle := range map[string][]byte{
		"born before":  appendHandle(nil, boot, Birth{PID: p.pid, After: 0, Before: p.birth.After - 1}),
		"born after":   appendHandle(nil, boot, Birth{PID: p.pid, After: p.birth.Before + 1, Before: p.birth.Before + 1e6}),
		"another boot": appendHandle(nil, "00000000-0000-0000-0000-000000000000", p.birth),
		"leaderless":   appendHandle(nil, boot, orphans.birth),
	} {
		if _, err := NewDriver(nil).Recover(t.Context(), handle, &driver.Task{Token: "not-its-own"}); !errors.Is(err, navvy.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
		if !alive(t, p) || !alive(t, orphans) {
			t.Fatalf("%s: a process was killed that is not the attempt's", name)
		}
	}
	if _, err := NewDriver(nil).Recover(t.Context(), appendHandle(nil, boot, p.birth), &driver.Task{Token: "not-its-own"}); !errors.Is(err, navvy.ErrNotFound) {
		t.Error(err)
	}
	if alive(t, p) {
		t.Error("the process that the handle names is alive")
	}
	if _, err := NewDriver(nil).Recover(t.Context(), appendHandle(nil, boot, orphans.birth), &driver.Task{Token: "its-own"}); !errors.Is(err, navvy.ErrNotFound) {
		t.Error(err)
	}
	if alive(t, orphans) {
		t.Error("the group whose leader has ended is alive")
	}
}

// TestRecoverOtherBoot has the handle of another boot, as a container's may be:
// what has the token is still the attempt's.
func TestRecoverOtherBoot(t *testing.T) {
	t.Parallel()
	p := start(t, []string{EnvToken + "=elsewhere"}, "sleep 1000 & echo; wait")
	handle := appendHandle(nil, "00000000-0000-0000-0000-000000000000", Birth{PID: p.pid, Before: p.birth.Before})
	if _, err := NewDriver(nil).Recover(t.Context(), handle, &driver.Task{Token: "elsewhere"}); !errors.Is(err, navvy.ErrNotFound) {
		t.Error(err)
	}
	if alive(t, p) {
		t.Error("the process with the attempt's token is alive")
	}
}

// TestGroupRecover has no handle, and a process without the token, which only
// its group tells to be the attempt's.
func TestGroupRecover(t *testing.T) {
	t.Parallel()
	p := start(t, []string{EnvToken + "=leads"}, "env -i sleep 1000 & echo; wait")
	if _, err := NewDriver(nil).Recover(t.Context(), nil, &driver.Task{Token: "leads"}); !errors.Is(err, navvy.ErrNotFound) {
		t.Error(err)
	}
	if alive(t, p) {
		t.Error("the group that the token leads to is alive")
	}
}

// TestBirth sees that the kernel's start time lies within the bounds.
func TestBirth(t *testing.T) {
	t.Parallel()
	p := start(t, nil, "echo; sleep 1000")
	s, err := readStat(p.Pid())
	if err != nil || !p.Birth().matches(s) || s.group != p.Pid() {
		t.Errorf("process %+v has stats %+v, %v", p.Birth(), s, err)
	}
	if p.birth.Before-p.birth.After > 10*ticksPerSecond {
		t.Errorf("the bounds %+v are wide", p.birth)
	}
}

// TestStopSweeps sees that a stop reaches what left the process group.
func TestStopSweeps(t *testing.T) {
	t.Parallel()
	for name, force := range map[string]bool{"asked": false, "forced": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const escapes = `
				setsid sh -c 'trap "" TERM; echo; sleep 1000' &
				setsid sleep 1000 &
				wait`
			r, w := io.Pipe()
			defer r.Close()
			d := NewDriver(nil)
			token := fmt.Sprintf("sweep-%s-%d", name, os.Getpid())
			spec := &navvy.Spec{Command: &navvy.Command{Args: []string{escapes}, Shell: true, Env: []string{"PATH=/usr/bin:/bin"}, Dir: "/"}}
			execution, err := d.Start(t.Context(), &driver.Task{Token: token, Spec: spec, Stdout: w})
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				if _, err := r.Read(make([]byte, 1)); err == nil {
					_ = execution.Stop(context.Background(), force)
				}
			}()
			ctx, cancel := context.WithTimeout(t.Context(), drivertest.Patience)
			defer cancel()
			if _, err := execution.Wait(ctx); err != nil {
				t.Error(err)
			}
			if p, err := count(); err != nil || len(p.bearers[token]) > 0 {
				t.Errorf("processes %v are left, %v", p, err)
			}
		})
	}
}

func TestEnvironment(t *testing.T) {
	t.Parallel()
	d := NewDriver(nil)
	spec := &navvy.Spec{Command: &navvy.Command{Env: []string{
		"A=1", EnvToken + "=outer", EnvAddr + "=unix:///forged", "PATH=/bin", EnvTaskToken + "=forged",
	}}}
	for i := range 2 { // the second from memory, which the first must not have changed
		task := &driver.Task{
			ID: navvy.TaskID{Job: "job", Index: int64(i)}, Attempt: navvy.AttemptID{Number: 3, Epoch: 9}, Slot: 4,
			Token: fmt.Sprint("inner", i), Spec: spec,
		}
		got := strings.Join(d.environment(task, "/there", ""), " ")
		want := fmt.Sprintf("NAVVY_JOB=job NAVVY_INDEX=%d NAVVY_ATTEMPT=3 NAVVY_SLOT=4 NAVVY_TOKEN=inner%d", i, i)
		if got != "A=1 PATH=/bin "+want {
			t.Errorf("environment %q, want %q", got, want)
		}
		task.API = &driver.API{Socket: "/data/sock", Token: fmt.Sprint("secret", i)}
		got = strings.Join(d.environment(task, "/there", "/seen"), " ")
		if api := fmt.Sprintf("NAVVY_ADDR=unix:///seen NAVVY_TASK_TOKEN=secret%d ", i); got != "A=1 PATH=/bin "+api+want {
			t.Errorf("environment %q, want it with %q", got, api)
		}
	}
}

func TestStdin(t *testing.T) {
	t.Parallel()
	r, w := io.Pipe()
	spec := &navvy.Spec{Command: &navvy.Command{Args: []string{"/bin/cat"}, Stdin: true, Dir: "/"}}
	input := []byte("one line, then spare room")[:8]
	execution, err := NewDriver(nil).Start(t.Context(), &driver.Task{Spec: spec, Input: input, Stdout: w})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		_, err := execution.Wait(context.Background())
		_ = w.CloseWithError(err)
	}()
	if got, err := io.ReadAll(r); err != nil || string(got) != "one line\n" {
		t.Errorf("the task read %q, %v", got, err)
	}
	if string(input[:cap(input)]) != "one line, then spare room" {
		t.Error("the input's array was written to")
	}
}

func TestRenderError(t *testing.T) {
	t.Parallel()
	d := NewDriver(&Options{Render: func(*driver.Task) ([]string, error) { return nil, errors.New("no column of that name") }})
	_, err := d.Start(t.Context(), &driver.Task{Spec: &navvy.Spec{Command: &navvy.Command{}}})
	refusal, ok := errors.AsType[*driver.Refusal](err)
	if !ok || refusal.Reason != navvy.ReasonInput || refusal.Message != "no column of that name" {
		t.Errorf("start: %v", err)
	}
}

// TestCensus sees that those who ask while a census is taken share the next.
func TestCensus(t *testing.T) {
	t.Parallel()
	p := start(t, []string{EnvToken + "=census"}, "sleep 1000 & echo; wait")
	var c census
	got := make(chan []int)
	for range 20 {
		go func() {
			found, err := c.take()
			if err != nil {
				t.Error(err)
			}
			got <- found.bearers["census"]
		}()
	}
	for range 20 {
		if pids := <-got; len(pids) != 2 { // in its exec, too, where a process has no environment for a moment
			t.Errorf("the census of group %d found %v", p.pid, pids)
		}
	}
	if p.Stop(true) == nil {
		for alive(t, p) {
			_ = unix.Kill(-p.pid, unix.SIGKILL)
		}
	}
	if found, err := c.take(); err != nil || len(found.bearers["census"]) > 0 {
		t.Errorf("after its end the census found %v, %v", found.bearers["census"], err)
	}
}

// TestCensusExec finds a process that does nothing but exec, at each count.
func TestCensusExec(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(program, []byte("#!/bin/sh\nexec \"$0\"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	p := start(t, []string{EnvToken + "=exec"}, "echo; exec "+program)
	var c census
	for i := range 200 {
		found, err := c.take()
		if err != nil || !slices.Equal(found.bearers["exec"], []int{p.pid}) {
			t.Fatalf("count %d found %v, %v; want %d", i, found.bearers["exec"], err, p.pid)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("12 (a) b) S 1 34 34 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 5678 0 0"))
	f.Fuzz(func(t *testing.T, line []byte) {
		if _, err := parseStat(line); err != nil && !errors.Is(err, navvy.ErrCorrupt) {
			t.Error(err)
		}
	})
}

func TestParseStat(t *testing.T) {
	t.Parallel()
	s, err := parseStat([]byte("12 (a) b) Z 1 34 35 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 5678 0 0\n"))
	if err != nil || s != (stat{state: 'Z', group: 34, start: 5678, bare: true}) || !s.ended() {
		t.Errorf("parsed %+v, %v", s, err)
	}
	line := "12 (a) S 1 34 35 0 -1 %d 1 0 0 0 0 0 0 0 20 0 1 0 5678" + strings.Repeat(" 0", 4) + " %d" + strings.Repeat(" 0", 22) + " %d %d 0"
	for name, c := range map[string]struct {
		flags, code, begin, end int
		want                    bool
	}{
		"some": {0x400000, 64, 4096, 5000, true}, "not yet": {0x400000, 0, 0, 0, true}, "not yet as long": {0x400000, 0, 4096, 4096, true},
		"none":         {0x400000, 64, 4096, 4096, false},
		"the kernel's": {0x208040, 0, 0, 0, false}, "about to end": {0x40000c, 0, 0, 0, false},
	} {
		if s, err := parseStat(fmt.Appendf(nil, line, c.flags, c.code, c.begin, c.end)); err != nil || s.inExec() != c.want {
			t.Errorf("%s: parsed %+v, %v", name, s, err)
		}
	}
}

// FuzzParseHandle sees that what parses is what was written.
func FuzzParseHandle(f *testing.F) {
	f.Add(appendHandle(nil, "boot", Birth{PID: 12, After: 34, Before: 56}))
	f.Add([]byte("1 boot 12 34"))
	f.Fuzz(func(t *testing.T, handle []byte) {
		boot, b, err := parseHandle(handle)
		if err != nil {
			if !errors.Is(err, navvy.ErrCorrupt) {
				t.Error(err)
			}
			return
		}
		boot2, b2, err := parseHandle(appendHandle(nil, boot, b))
		if err != nil || boot2 != boot || b2 != b {
			t.Errorf("%q became %q %+v, %v", handle, boot2, b2, err)
		}
	})
}
