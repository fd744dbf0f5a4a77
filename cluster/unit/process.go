package unit

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// gate is what becomes the program of a unit once it is told to: its number is on disk by
// then. If whoever has started it is dead before, it reads an end, and nothing has begun. So
// no process of a unit runs that is not known.
const gate = `read -r go <&3 || exit 75; exec 3<&-; exec "$@"`

// process is one of a unit.
type process struct {
	trace
	began time.Time
	cmd   *exec.Cmd // nil if somebody else has started it
	fd    *os.File  // a pidfd
	ended chan struct{}
	exit  string // how, once ended is closed
	// sweep says that what is left of its session is killed when it has ended.
	sweep bool
	left  atomic.Bool // it is watched no more
}

// start starts the program of a unit. Its process is on disk before the program begins.
func start(dir string, spec *Spec) (*process, error) {
	log, err := os.OpenFile(logFile(dir, spec.Name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	wait, open, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer open.Close()
	cmd := exec.Command("/bin/sh", append([]string{"-c", gate, "navvy-unit"}, spec.Args...)...)
	cmd.Env, cmd.Dir = spec.environ(), spec.Dir
	if cmd.Dir == "" {
		cmd.Dir = "/"
	}
	if cmd.Env == nil {
		cmd.Env = []string{}
	}
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = log, log, []*os.File{wait}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	_ = wait.Close() // it is the child's
	if err != nil {
		return nil, err
	}
	p, err := watch(cmd.Process.Pid, cmd, nil, true)
	if err == nil {
		p.Digest = spec.Digest()
		if err = writeTrace(dir, spec.Name, p.trace); err == nil {
			_, err = open.WriteString("go\n")
		}
		if err != nil { // it reads an end, and ends
			_ = open.Close()
			<-p.ended
		}
		return p, err
	}
	_ = open.Close()
	return nil, errors.Join(err, cmd.Wait())
}

// adopt finds the process of a unit that somebody else has started; nil if it has ended.
func adopt(t trace, sweep bool) *process {
	if !t.now() {
		return nil
	}
	p, err := watch(t.Pid, nil, &t, sweep)
	if err != nil {
		return nil
	}
	p.Digest = t.Digest
	return p
}

// watch has a process watched until it ends: cmd, or the one that t says.
func watch(pid int, cmd *exec.Cmd, t *trace, sweep bool) (*process, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("pidfd_open", err)
	}
	p := &process{cmd: cmd, sweep: sweep, fd: os.NewFile(uintptr(fd), "pidfd"), ended: make(chan struct{})}
	stat, err := readStat(pid)
	if err != nil || cmd == nil && (stat.state == 'Z' || stat.start != t.Start) { // or another one has its number
		return nil, errors.Join(err, p.fd.Close(), os.ErrProcessDone)
	}
	p.trace = trace{Pid: pid, Start: stat.start, Boot: bootID()}
	p.began = time.Now()
	if cmd == nil {
		p.began = bootTime().Add(time.Duration(stat.start) * (time.Second / ticks))
	}
	go p.wait()
	return p, nil
}

// wait waits until the process has ended, without a thread of its own.
func (p *process) wait() {
	defer close(p.ended)
	if raw, err := p.fd.SyscallConn(); err == nil {
		_ = raw.Read(func(fd uintptr) bool {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
			return n > 0 || err != nil && !errors.Is(err, unix.EINTR)
		}) // an error is that of leave
	}
	if p.left.Load() {
		return
	}
	if p.sweep {
		killSession(p.trace) // before its number is free
	}
	p.exit = "it has ended; nobody saw how"
	if p.cmd != nil {
		_ = p.cmd.Wait() // its state says it
		p.exit = p.cmd.ProcessState.String()
	}
	_ = p.fd.Close()
}

// leave lets go of a process, which goes on. Nothing else may be asked of it then.
func (p *process) leave() {
	p.left.Store(true)
	_ = p.fd.Close()
	<-p.ended
	if p.cmd != nil {
		_ = p.cmd.Process.Release()
	}
}

// signal sends one to the process itself, and to no other that has its number later.
func (p *process) signal(s syscall.Signal) {
	if raw, err := p.fd.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { _ = unix.PidfdSendSignal(int(fd), s, nil, 0) })
	}
}

// killSession ends what is left of the session that a process was the leader of.
func killSession(leader trace) {
	if now, err := readStat(leader.Pid); err == nil && now.start != leader.Start {
		return // another process has its number, so nothing was left
	}
	for range 10 { // what it starts meanwhile is found the next time
		var left []int
		all, _ := filepath.Glob("/proc/[0-9]*") // the pattern is good
		for _, path := range all {
			pid, _ := strconv.Atoi(filepath.Base(path))
			if stat, err := readStat(pid); err == nil && stat.session == leader.Pid && pid != leader.Pid && stat.state != 'Z' {
				left = append(left, pid)
			}
		}
		if len(left) == 0 {
			return
		}
		for _, pid := range left {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// processStat is what stat in /proc/PID tells; see proc_pid_stat(5).
type processStat struct {
	state   byte
	session int
	start   uint64
}

// ticks is how many of them a second has in /proc: USER_HZ.
const ticks = 100

func readStat(pid int) (s processStat, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return s, err
	}
	return parseStat(text)
}

func parseStat(text []byte) (s processStat, err error) {
	_, rest, ok := bytes.Cut(text[max(0, bytes.LastIndexByte(text, ')')):], []byte(") "))
	fields := strings.Fields(string(rest)) // from the third on
	if !ok || len(fields) < 20 || len(fields[0]) != 1 {
		return s, errors.New("stat of a process: too few fields")
	}
	s.state = fields[0][0]
	var bad [2]error
	s.session, bad[0] = strconv.Atoi(fields[3])
	s.start, bad[1] = strconv.ParseUint(fields[19], 10, 64)
	return s, errors.Join(bad[:]...)
}

// bootID names the time that the machine has been up since.
var bootID = sync.OnceValue(func() string {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(text))
})

// bootTime is when the machine came up.
var bootTime = sync.OnceValue(func() time.Time {
	var up unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &up); err != nil {
		return time.Time{}
	}
	return time.Now().Add(-time.Duration(up.Nano()))
})
