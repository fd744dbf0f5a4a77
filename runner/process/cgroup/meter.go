package cgroup

import (
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy"
)

// Meter splits what a group uses among the pieces of work that a long-lived
// process in it does one after the other. One goroutine at a time may use it.
type Meter struct {
	group *Group
	last  navvy.Usage
	peak  *os.File // of version 2's memory, which then tells the peak since it was reset through it
	reset bool     // the peak of memory is one since the last lap
}

// Meter begins to measure. Close it when done.
func (g *Group) Meter() *Meter {
	m := &Meter{group: g}
	if dir, version := g.with("memory"); version == 2 {
		if fd, err := open(filepath.Join(dir, "memory.peak"), unix.O_RDWR); err == nil {
			m.peak = os.NewFile(uintptr(fd), "memory.peak")
		}
	}
	m.Lap()
	return m
}

// Lap returns what the group has used since the meter, or the last lap, began,
// and begins a new one. Peaks are those of the lap where the kernel can begin
// one anew (version 1, and version 2 since Linux 6.12), else zero unless the lap
// went beyond all before it.
func (m *Meter) Lap() navvy.Usage {
	now := m.group.Usage()
	lap := navvy.Usage{
		Read: now.Read - m.last.Read, Written: now.Written - m.last.Written,
		Throttled: now.Throttled - m.last.Throttled, OOMKills: now.OOMKills - m.last.OOMKills,
		MaxMemory: m.lapPeak(now.MaxMemory),
	}
	lap.User, lap.System = split(now.User-m.last.User, now.System-m.last.System)
	if now.MaxPIDs > m.last.MaxPIDs {
		lap.MaxPIDs = now.MaxPIDs
	}
	m.last = now
	m.reset = m.resetPeak()
	return lap
}

// split mends a difference of two times that the kernel divides anew whenever it
// is asked, so that one of them may seem to run backwards; their sum does not.
func split(user, system time.Duration) (time.Duration, time.Duration) {
	sum := max(user+system, 0)
	user = min(max(user, 0), sum)
	return user, sum - user
}

// lapPeak is the most memory since the last lap, if it can be told; whole is the
// most since the group was made.
func (m *Meter) lapPeak(whole int64) int64 {
	if m.reset && m.peak != nil {
		var buf [32]byte
		n, err := m.peak.ReadAt(buf[:], 0)
		if n == 0 && err != nil {
			return 0
		}
		peak, err := parseNumber(buf[:n])
		if err != nil {
			return 0
		}
		return peak
	}
	if m.reset || whole > m.last.MaxMemory {
		return whole
	}
	return 0
}

// resetPeak begins the peak of memory anew, if the kernel can.
func (m *Meter) resetPeak() bool {
	if m.peak != nil {
		_, err := m.peak.WriteAt([]byte("r"), 0)
		return err == nil
	}
	if dir, version := m.group.with("memory"); version == 1 {
		return write(dir, "memory.max_usage_in_bytes", "0") == nil
	}
	return false
}

// Close lets go of what the meter holds.
func (m *Meter) Close() error {
	if m.peak == nil {
		return nil
	}
	return m.peak.Close()
}
