package unit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/internal/pause"
)

// Supervised is the manager whose units navvy's own supervisor keeps up.
type Supervised struct {
	dir     string
	command []string
	env     []string
	one     sync.Mutex // starts a supervisor
}

var _ Manager = (*Supervised)(nil)

// OpenSupervised opens the units of a directory. command is what keeps them up, with
// arguments, to which the directory is added: a process that calls Supervise, started by
// whoever puts a unit when none runs, in a session of its own. It says "serving" and a
// newline on file descriptor 3 when it serves, or why it cannot; nothing if another one does.
// env is its environment. Nothing is made before a unit is put.
func OpenSupervised(dir string, command, env []string) (*Supervised, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("units: %w", err)
	}
	return &Supervised{dir: dir, command: command, env: env}, nil
}

// Close implements Manager.
func (m *Supervised) Close() error { return nil }

// List implements Manager. Where no supervisor runs it tells what is there without one.
func (m *Supervised) List(ctx context.Context) ([]State, error) {
	a, err := call(ctx, m.dir, &request{Op: opList})
	if err == nil {
		return a.Units, a.err()
	}
	if !errors.Is(err, errNobody) {
		return nil, fmt.Errorf("units: %w", err)
	}
	records, err := readUnits(m.dir)
	if err != nil {
		return nil, err
	}
	var list []State
	for i := range records {
		spec := &records[i].Spec
		s := spec.down(logFile(m.dir, spec.Name))
		if err := records[i].damaged; err != nil {
			s = State{Name: spec.Name, Phase: Down, Exit: err.Error()}
		}
		if p := adopt(readTrace(m.dir, spec.Name), false); p != nil {
			s.Phase, s.Pid, s.Since = Alone, p.Pid, p.began
			p.leave()
		}
		list = append(list, s)
	}
	return list, nil
}

// Put implements Manager.
func (m *Supervised) Put(ctx context.Context, spec *Spec) error {
	if err := spec.Validate(); err != nil {
		return err
	}
	return m.ask(ctx, &request{Op: opPut, Spec: *spec})
}

// Remove implements Manager. It starts a supervisor, if none runs and there is such a unit:
// that one adopts the unit and ends it.
func (m *Supervised) Remove(ctx context.Context, name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	if _, err := os.Stat(unitFile(m.dir, name)); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return m.ask(ctx, &request{Op: opRemove, Name: name})
}

// Wake starts a supervisor if there are units and none runs.
func (m *Supervised) Wake(ctx context.Context) error {
	list, err := readUnits(m.dir)
	if err != nil || len(list) == 0 {
		return err
	}
	return m.ask(ctx, &request{Op: opList})
}

// ask asks the supervisor, and starts one if none answers. A request may be made twice.
func (m *Supervised) ask(ctx context.Context, q *request) error {
	const most = 600 // tries, a tenth of a second apart
	wait := time.Millisecond
	for try := 0; ; try++ {
		a, err := call(ctx, m.dir, q)
		if err == nil && (a.err() == nil || !errors.Is(a.err(), navvy.ErrUnavailable)) {
			return a.err()
		}
		if err != nil && !errors.Is(err, errNobody) {
			return fmt.Errorf("units: %w", err)
		}
		if err := m.start(ctx); err != nil {
			return err
		}
		if err := pause.For(ctx, wait); err != nil {
			return fmt.Errorf("units: no supervisor answers in %s (see %s there): %w", m.dir, ownLog, err)
		}
		if try == most {
			return fmt.Errorf("units: no supervisor answers in %s (see %s there): %w", m.dir, ownLog, navvy.ErrUnavailable)
		}
		wait = min(2*wait, 100*time.Millisecond)
	}
}

// Serving is what a supervisor says once it can be asked.
const Serving = "serving\n"

// start starts a supervisor, and waits until it serves, or has left it to another one.
func (m *Supervised) start(ctx context.Context) error {
	m.one.Lock()
	defer m.one.Unlock()
	if _, err := call(ctx, m.dir, &request{Op: opList}); err == nil {
		return nil // somebody else was faster
	}
	if err := openDir(m.dir); err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(m.dir, ownLog), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("units: start a supervisor: %w", err)
	}
	defer log.Close()
	heard, tell, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("units: start a supervisor: %w", err)
	}
	defer heard.Close()
	cmd := exec.Command(m.command[0], append(m.command[1:len(m.command):len(m.command)], m.dir)...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = "/", m.env, log, log, []*os.File{tell}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := errors.Join(cmd.Start(), tell.Close()); err != nil {
		return fmt.Errorf("units: start a supervisor: %w", err)
	}
	go func() { _ = cmd.Wait() }() // if it ends before us
	stop := context.AfterFunc(ctx, func() { _ = heard.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	word, err := io.ReadAll(io.LimitReader(heard, 4096))
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("units: a supervisor is started: %w", context.Cause(ctx))
	case err != nil:
		return fmt.Errorf("units: a supervisor is started: %w", err)
	case string(word) != Serving && len(word) > 0:
		return fmt.Errorf("units: the supervisor of %s cannot start: %s", m.dir, strings.TrimSpace(string(word)))
	}
	return nil
}
