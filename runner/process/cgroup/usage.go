package cgroup

import (
	"bytes"
	"math"
	"strconv"
	"time"

	"github.com/navvy-run/navvy"
)

// Usage tells what all processes of the group have used since it was made, as
// far as its controllers count it; what they don't is zero.
func (g *Group) Usage() navvy.Usage {
	var u navvy.Usage
	for _, p := range g.parts {
		if p.version == 2 {
			p.usageV2(&u)
		} else {
			p.usageV1(&u)
		}
	}
	return u
}

func (p part) usageV2(u *navvy.Usage) {
	// These times are there without any controller.
	if raw, err := read(p.dir, "cpu.stat"); err == nil && u.User == 0 {
		u.User, u.System = micros(raw, "user_usec"), micros(raw, "system_usec")
		u.Throttled = max(u.Throttled, micros(raw, "throttled_usec"))
	}
	if p.serves("memory") {
		u.MaxMemory, _ = number(p.dir, "memory.peak") // since Linux 5.19
		if raw, err := read(p.dir, "memory.events"); err == nil {
			u.OOMKills, _ = field(raw, "oom_kill")
		}
	}
	if p.serves("pids") {
		u.MaxPIDs, _ = number(p.dir, "pids.peak") // since Linux 6.1
	}
	if p.serves("io") {
		if raw, err := read(p.dir, "io.stat"); err == nil {
			u.Read, u.Written = parseIOStat(raw)
		}
	}
}

func (p part) usageV1(u *navvy.Usage) {
	if p.serves("cpuacct") {
		user, _ := number(p.dir, "cpuacct.usage_user") // nanoseconds
		system, _ := number(p.dir, "cpuacct.usage_sys")
		u.User, u.System = time.Duration(user), time.Duration(system)
	}
	if p.serves("cpu") {
		if raw, err := read(p.dir, "cpu.stat"); err == nil {
			throttled, _ := field(raw, "throttled_time")
			u.Throttled = time.Duration(throttled)
		}
	}
	if p.serves("memory") {
		u.MaxMemory, _ = number(p.dir, "memory.max_usage_in_bytes")
		if raw, err := read(p.dir, "memory.oom_control"); err == nil {
			u.OOMKills, _ = field(raw, "oom_kill") // since Linux 4.13
		}
	}
	if p.serves("pids") {
		u.MaxPIDs, _ = number(p.dir, "pids.peak")
	}
	if p.serves("blkio") {
		if raw, err := read(p.dir, "blkio.throttle.io_service_bytes_recursive"); err == nil {
			u.Read, u.Written = parseServiceBytes(raw)
		}
	}
}

func micros(raw []byte, name string) time.Duration {
	n, _ := field(raw, name)
	return time.Duration(n) * time.Microsecond
}

// parseIOStat adds up the bytes of lines "8:0 rbytes=1 wbytes=2 rios=3 …".
func parseIOStat(raw []byte) (read, written int64) {
	for line := range bytes.Lines(raw) {
		for word := range bytes.FieldsSeq(line) {
			key, value, _ := bytes.Cut(word, []byte("="))
			switch string(key) {
			case "rbytes":
				read = add(read, value)
			case "wbytes":
				written = add(written, value)
			}
		}
	}
	return read, written
}

// parseServiceBytes adds up the bytes of lines "8:0 Read 1"; "Total 3" has no disk.
func parseServiceBytes(raw []byte) (read, written int64) {
	for line := range bytes.Lines(raw) {
		words := bytes.Fields(line)
		if len(words) != 3 {
			continue
		}
		switch string(words[1]) {
		case "Read":
			read = add(read, words[2])
		case "Write":
			written = add(written, words[2])
		}
	}
	return read, written
}

// add adds a number in decimal digits; what is none, or would not fit, adds nothing.
func add(sum int64, digits []byte) int64 {
	n, err := strconv.ParseInt(string(digits), 10, 64)
	if err != nil || n < 0 || sum > math.MaxInt64-n {
		return sum
	}
	return sum + n
}
