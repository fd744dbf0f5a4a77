package inpod

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy"
)

// process is the program of a task, in a process group of its own.
type process struct {
	pid     int
	timeout time.Duration
	late    bool // its time is up
	gone    chan struct{}
	status  unix.WaitStatus // after gone, and the next one
	used    unix.Rusage
	streams [2]*os.File
	copying sync.WaitGroup
}

// start begins a task; without a process, the end says why.
func (r *run) start(t *Task) (*process, *End) {
	path, err := exec.LookPath(t.Argv[0])
	if err != nil {
		return nil, refused(t.Argv[0], err)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, refused(t.Argv[0], err)
	}
	defer func() { _ = null.Close() }()
	p := &process{timeout: r.load.Timeout, gone: make(chan struct{})}
	files := []uintptr{null.Fd()}
	var theirs []int
	defer func() {
		for _, fd := range theirs {
			_ = unix.Close(fd)
		}
	}()
	for i := range p.streams {
		var fds [2]int
		if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
			p.closeStreams()
			return nil, refused(t.Argv[0], err)
		}
		_ = unix.SetNonblock(fds[0], true) // so that closing it ends a read
		p.streams[i] = os.NewFile(uintptr(fds[0]), "output")
		theirs, files = append(theirs, fds[1]), append(files, uintptr(fds[1]))
	}
	p.pid, err = syscall.ForkExec(path, t.Argv, &syscall.ProcAttr{
		Env: environment(r.env, t.Env), Files: files, Sys: &syscall.SysProcAttr{Setpgid: true},
	})
	if err != nil {
		p.closeStreams()
		return nil, refused(t.Argv[0], err)
	}
	for i, kind := range []Kind{KindStdout, KindStderr} {
		p.copying.Go(func() { copyOut(r.out, kind, t.Index, p.streams[i]) })
	}
	go p.reap()
	return p, nil
}

// environment is env with changes.
func environment(env, changes []string) []string {
	list := make([]string, 0, len(env)+len(changes))
	changed := map[string]bool{}
	for _, pair := range changes {
		name, _, _ := strings.Cut(pair, "=")
		changed[name] = true
	}
	for _, pair := range env {
		if name, _, _ := strings.Cut(pair, "="); !changed[name] {
			list = append(list, pair)
		}
	}
	return append(list, changes...)
}

// refused says why a program cannot be run.
func refused(program string, err error) *End {
	e := &End{Reason: navvy.ReasonStart, Message: fmt.Sprintf("%s: %s", program, err)}
	switch {
	case errors.Is(err, fs.ErrPermission):
		e.Reason = navvy.ReasonPermission
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, exec.ErrNotFound):
		e.Reason = navvy.ReasonNotFound
	case errors.Is(err, unix.E2BIG), errors.Is(err, unix.EINVAL):
		e.Reason = navvy.ReasonInput
	}
	return e
}

// copyOut makes frames of what is written to a pipe.
func copyOut(to *Writer, kind Kind, index int64, from *os.File) {
	b := make([]byte, maxData)
	for {
		n, err := from.Read(b)
		if n > 0 {
			_ = to.Write(kind, index, b[:n]) // a reader who is gone is seen by whoever writes the end
		}
		if err != nil {
			return
		}
	}
}

// reap waits for all children, those that others have left us among them, until the program
// has ended.
func (p *process) reap() {
	defer close(p.gone)
	for {
		var status unix.WaitStatus
		var used unix.Rusage
		pid, err := unix.Wait4(-1, &status, 0, &used)
		switch {
		case err != nil && !errors.Is(err, unix.EINTR):
			return // there is no such child, which cannot be
		case err == nil && pid == p.pid:
			p.status, p.used = status, used
			return
		}
	}
}

// signal sends a signal to all of the group.
func (p *process) signal(s unix.Signal) { _ = unix.Kill(-p.pid, s) }

// kill ends the group, and whoever has left it.
func (p *process) kill() {
	p.signal(unix.SIGKILL)
	for _, child := range children(os.Getpid()) {
		_ = unix.Kill(child, unix.SIGKILL)
	}
}

// leftPatience bounds the wait for the end of output that something holds open which cannot
// be killed.
const leftPatience = 10 * time.Second

// close ends what the program has left behind, and waits for the rest of the output.
func (p *process) close() {
	killChildren()
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		p.copying.Wait()
	}()
	timer := time.NewTimer(leftPatience)
	defer timer.Stop()
	select {
	case <-copied:
	case <-timer.C:
	}
	p.closeStreams()
	<-copied
}

func (p *process) closeStreams() {
	for _, f := range p.streams {
		if f != nil {
			_ = f.Close()
		}
	}
}

// end is how it ended.
func (p *process) end() *End {
	e := &End{
		User: time.Duration(p.used.Utime.Nano()), System: time.Duration(p.used.Stime.Nano()),
	}
	// Before it became its program it was this one, and counts as that.
	var own unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &own); err == nil && p.used.Maxrss > own.Maxrss {
		e.Memory = p.used.Maxrss << 10
	}
	switch {
	case p.late:
		e.Reason, e.Message = navvy.ReasonTimeout, fmt.Sprintf("ran longer than %s", p.timeout)
	case p.status.Signaled():
		e.Signal = int(p.status.Signal())
	default:
		e.Code = p.status.ExitStatus()
	}
	return e
}

// killChildren kills all children until there are none: those of a process that is killed
// become ours. What may not be killed is left.
func killChildren() {
	for {
		pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
		if pid > 0 || errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return // there are none
		}
		any := false
		for _, child := range children(os.Getpid()) {
			any = unix.Kill(child, unix.SIGKILL) == nil || any
		}
		if !any {
			return
		}
		_, _ = unix.Wait4(-1, nil, 0, nil)
	}
}

// children are the processes whose parent is pid.
func children(pid int) []int {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer func() { _ = dir.Close() }()
	names, _ := dir.Readdirnames(-1)
	var list []int
	for _, name := range names {
		child, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		text, err := os.ReadFile("/proc/" + name + "/stat")
		if err == nil && parent(text) == pid {
			list = append(list, child)
		}
	}
	return list
}

// parent reads the parent from a process's stat: the second field behind the name, which is in
// brackets and may hold anything.
func parent(stat []byte) int {
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 2 {
		return 0
	}
	pid, _ := strconv.Atoi(string(fields[1]))
	return pid
}
