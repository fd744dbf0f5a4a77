package process

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy"
)

// Birth is what tells a process from a later one with the same id: bounds of its
// start time, in the kernel's clock ticks since boot (field 22 of
// /proc/PID/stat, proc(5)), both inclusive.
type Birth struct {
	PID           int
	After, Before uint64
}

// matches tells whether a process with these stats can be the one that was born then.
func (b Birth) matches(s stat) bool { return b.After <= s.start && s.start <= b.Before }

// ticksPerSecond is USER_HZ, which is the same on each architecture that Go runs on.
const ticksPerSecond = 100

// ticks is the time since boot, in clock ticks, on the clock of start times.
func ticks() uint64 {
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &now) != nil {
		return 0
	}
	return uint64(now.Nano()) / (1e9 / ticksPerSecond)
}

// bootID names this boot of the machine.
var bootID = sync.OnceValues(func() (string, error) {
	raw, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("process: which boot this is: %w", err)
	}
	return string(bytes.TrimSpace(raw)), nil
})

// stat is what /proc says about a process.
type stat struct {
	state byte // Z and X: it has ended
	group int
	start uint64 // clock ticks since boot
	// bare: it was given no environment at all, or has no memory: it is about to end, or one
	// of the kernel's own.
	bare bool
}

func (s stat) ended() bool { return s.state == 'Z' || s.state == 'X' }

// inExec tells whether a process whose environment reads as empty was in the middle of its
// exec, and has one by now or will have.
func (s stat) inExec() bool { return !s.bare && !s.ended() }

// readStat reads /proc/PID/stat. The error wraps os.ErrNotExist if there is no
// such process.
func readStat(pid int) (stat, error) {
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return stat{}, err
	}
	return parseStat(raw)
}

// parseStat parses a line of /proc/PID/stat. The second field, a name in
// parentheses, may hold anything, parentheses too.
func parseStat(raw []byte) (stat, error) {
	fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
	const state, group, flags, start, codeEnd, environ, environEnd = 0, 2, 6, 19, 24, 47, 48 // of the fields after the name
	if len(fields) <= start || len(fields[state]) != 1 {
		return stat{}, fmt.Errorf("process: %q is not what proc(5) describes: %w", raw, navvy.ErrCorrupt)
	}
	g, errGroup := strconv.Atoi(fields[group])
	t, errStart := strconv.ParseUint(fields[start], 10, 64)
	if errGroup != nil || errStart != nil {
		return stat{}, fmt.Errorf("process: %q is not what proc(5) describes: %w", raw, navvy.ErrCorrupt)
	}
	s := stat{state: fields[state][0], group: g, start: t, bare: true}
	if len(fields) > environEnd && !hasNoMemory(fields[flags]) {
		// An exec first makes the environment one of no bytes, then as long as it is, and then
		// says where the program ends.
		s.bare = fields[environ] != "0" && fields[environ] == fields[environEnd] && fields[codeEnd] != "0"
	}
	return s, nil
}

// hasNoMemory tells from the flags of a process whether it is about to end, or one of the
// kernel's own (PF_EXITING and PF_KTHREAD of linux/sched.h).
func hasNoMemory(flags string) bool {
	const exiting, kernelThread = 0x00000004, 0x00200000
	bits, err := strconv.ParseUint(flags, 10, 64)
	return err == nil && bits&(exiting|kernelThread) != 0
}

// pids lists the processes that /proc shows.
func pids() ([]int, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	list := make([]int, 0, len(names))
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			list = append(list, pid)
		}
	}
	return list, nil
}

// roster is what one look at /proc finds of a process group.
type roster struct {
	members []int          // have not ended
	ended   map[int]uint64 // zombies, by their start time
	missed  bool           // somebody, of whatever group, was listed and then gone
}

// rosterOf looks at a process group.
func rosterOf(pgid int) (roster, error) {
	all, err := pids()
	if err != nil {
		return roster{}, err
	}
	r := roster{members: all[:0], ended: make(map[int]uint64)}
	for _, pid := range all {
		switch s, err := readStat(pid); {
		case err != nil:
			r.missed = true
		case s.group != pgid:
		case s.ended():
			r.ended[pid] = s.start
		default:
			r.members = append(r.members, pid)
		}
	}
	return r, nil
}
