package isolate

import (
	"bytes"
	"encoding/binary"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy/runner/process/boot"
)

// Bits of PR_SET_SECUREBITS, capabilities(7): user 0 has no capabilities by
// being user 0, and none of this can be taken back.
const (
	secureNoRoot            = 1 << 0
	secureNoRootLocked      = 1 << 1
	secureKeepCapsLocked    = 1 << 5
	secureNoAmbient         = 1 << 6
	secureNoAmbientLocked   = 1 << 7
	secureBits              = secureNoRoot | secureNoRootLocked | secureKeepCapsLocked | secureNoAmbient | secureNoAmbientLocked
	mostCapabilities        = 63
	capabilityVersion3      = 0x20080522
	capabilitySetsPerThread = 2
)

// dropRights are the calls by which a task gives up all rights that its program
// does not need, for good. The filter of system calls comes last.
func (h *Host) dropRights(uid int) []boot.Call {
	var calls []boot.Call
	// The bounding set makes no difference once no_new_privs is set, but it is
	// where people look.
	for c := range h.capabilities {
		calls = append(calls, ignoring(unix.EINVAL, call("drop a capability", unix.SYS_PRCTL, boot.Int(unix.PR_CAPBSET_DROP), boot.Int(c))))
	}
	calls = append(calls, call("secure bits", unix.SYS_PRCTL, boot.Int(unix.PR_SET_SECUREBITS), boot.Int(secureBits)))
	if uid != 0 {
		calls = append(calls,
			call("leave all groups", unix.SYS_SETGROUPS, boot.Int(0), boot.Int(0)),
			call("set the group", unix.SYS_SETRESGID, boot.Int(uid), boot.Int(uid), boot.Int(uid)),
			call("set the user", unix.SYS_SETRESUID, boot.Int(uid), boot.Int(uid), boot.Int(uid)))
	}
	return append(calls,
		call("clear ambient capabilities", unix.SYS_PRCTL, boot.Int(unix.PR_CAP_AMBIENT), boot.Int(unix.PR_CAP_AMBIENT_CLEAR_ALL), boot.Int(0), boot.Int(0), boot.Int(0)),
		capset("drop capabilities", 0),
		noNewPrivileges())
}

// initRights are the calls by which the init gives up all rights, but to signal
// processes of another user than its own if there are such.
func initRights(uid int) []boot.Call {
	var kept uint32
	if uid != 0 {
		kept = 1 << unix.CAP_KILL
	}
	return []boot.Call{
		call("clear ambient capabilities", unix.SYS_PRCTL, boot.Int(unix.PR_CAP_AMBIENT), boot.Int(unix.PR_CAP_AMBIENT_CLEAR_ALL), boot.Int(0), boot.Int(0), boot.Int(0)),
		capset("drop capabilities", kept),
		noNewPrivileges(),
	}
}

func noNewPrivileges() boot.Call {
	return call("no new privileges", unix.SYS_PRCTL, boot.Int(unix.PR_SET_NO_NEW_PRIVS), boot.Int(1), boot.Int(0), boot.Int(0), boot.Int(0))
}

// capset makes kept, a bit each, the effective and permitted capabilities, and
// none inheritable.
func capset(name string, kept uint32) boot.Call {
	var head, sets []byte
	head = binary.LittleEndian.AppendUint32(head, capabilityVersion3)
	head = binary.LittleEndian.AppendUint32(head, 0)
	for range capabilitySetsPerThread {
		for _, set := range [3]uint32{kept, kept, 0} {
			sets = binary.LittleEndian.AppendUint32(sets, set)
		}
		kept = 0 // the second half has the numbers from 32
	}
	return call(name, unix.SYS_CAPSET, boot.Bytes(head), boot.Bytes(sets))
}

// countCapabilities is how many capabilities the kernel knows.
func countCapabilities() int {
	raw, err := os.ReadFile("/proc/sys/kernel/cap_last_cap")
	if err != nil {
		return mostCapabilities
	}
	last, err := strconv.Atoi(string(bytes.TrimSpace(raw)))
	if err != nil || last < 0 || last > mostCapabilities {
		return mostCapabilities
	}
	return last + 1
}

// umaskOf is the umask of this process, without changing it as umask(2) does.
func umaskOf() int {
	raw, _ := os.ReadFile("/proc/self/status")
	for line := range bytes.Lines(raw) {
		if octal, ok := bytes.CutPrefix(line, []byte("Umask:")); ok {
			if mask, err := strconv.ParseUint(string(bytes.TrimSpace(octal)), 8, 9); err == nil {
				return int(mask)
			}
		}
	}
	return usualUmask
}

const usualUmask = 0o022
