package boot

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy"
)

// ReportSize is the size of a report, in bytes.
const ReportSize = 16

// Kind says what a Report tells.
type Kind int

// The kinds of reports.
const (
	// Failed: a call has failed, and nothing runs.
	Failed Kind = iota + 1
	// Unstarted: the task's program cannot be executed, and nothing runs.
	Unstarted
	// Started: the task runs. Without Init there is no such report: the pipe is closed.
	Started
	// Ended: the main process has ended. Others of the task may run.
	Ended
)

// Report is what comes through the status pipe.
type Report struct {
	Kind   Kind
	Call   string          // with Failed: the name of the call
	Errno  unix.Errno      // with Failed and Unstarted
	Status unix.WaitStatus // with Ended
}

// What the first word of a report says: the phase of a call that has failed, or
// one of these. boot_*.s have the same.
const (
	wordBefore   = 0
	wordAfter    = 1
	wordSettle   = 2
	wordStarted  = 3
	wordEnded    = 4
	wordClone    = 5
	wordExec     = 6
	wordNotFirst = 7
)

// Parse reads a report of ReportSize bytes that a process of this image wrote:
// the first word, the index of the call in its phase, and an errno or a wait
// status of 64 bits. The error wraps navvy.ErrCorrupt.
func (m *Image) Parse(raw []byte) (Report, error) {
	if len(raw) != ReportSize {
		return Report{}, fmt.Errorf("boot: a report of %d bytes, not %d: %w", len(raw), ReportSize, navvy.ErrCorrupt)
	}
	what, index := binary.LittleEndian.Uint32(raw), binary.LittleEndian.Uint32(raw[4:])
	value := binary.LittleEndian.Uint64(raw[8:])
	switch what {
	case wordBefore, wordAfter, wordSettle:
		if names := m.names[what]; uint64(index) < uint64(len(names)) {
			return Report{Kind: Failed, Call: names[index], Errno: unix.Errno(value)}, nil
		}
	case wordStarted:
		return Report{Kind: Started}, nil
	case wordEnded:
		return Report{Kind: Ended, Status: unix.WaitStatus(value)}, nil
	case wordClone:
		return Report{Kind: Failed, Call: "clone", Errno: unix.Errno(value)}, nil
	case wordExec:
		return Report{Kind: Unstarted, Errno: unix.Errno(value)}, nil
	case wordNotFirst:
		return Report{Kind: Failed, Call: "be the first process of a PID namespace", Errno: unix.EINVAL}, nil
	}
	return Report{}, fmt.Errorf("boot: report %x: %w", raw, navvy.ErrCorrupt)
}
