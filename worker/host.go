package worker

import (
	"bufio"
	"bytes"
	"math"
	"os"
	"path"
	"runtime"
	"strconv"
	"strings"
)

// hostCPUs is how many processors this process may use, in thousandths.
func hostCPUs() int64 { return int64(runtime.NumCPU()) * 1000 }

// hostMemory is how much memory there is for this process, in bytes: the host's, or
// what its own control group allows if that is less. 0 if it cannot be found out.
func hostMemory() int64 {
	info, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	total := memTotal(info)
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return total
	}
	for _, file := range limitFiles(groups) {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // no such controller there, or the top of the hierarchy
		}
		limit, err := strconv.ParseInt(string(bytes.TrimSpace(text)), 10, 64)
		if err == nil && limit > 0 && (total == 0 || limit < total) {
			total = limit // else it is "max", or the huge number of version 1
		}
	}
	return total
}

// memTotal reads the line of that name in /proc/meminfo, as bytes; 0 if there is none.
func memTotal(info []byte) int64 {
	lines := bufio.NewScanner(bytes.NewReader(info))
	for lines.Scan() {
		text, ok := strings.CutPrefix(lines.Text(), "MemTotal:")
		if !ok {
			continue
		}
		kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(text, "kB")), 10, 64)
		if err != nil || kib < 0 || kib > math.MaxInt64>>10 {
			return 0
		}
		return kib << 10
	}
	return 0
}

// limitFiles are the files with the limits of memory that hold for a process whose
// /proc/PID/cgroup is given, each with those of the groups around it, where
// hierarchies are mounted as a rule.
func limitFiles(groups []byte) []string {
	var files []string
	lines := bufio.NewScanner(bytes.NewReader(groups))
	for lines.Scan() {
		number, rest, _ := strings.Cut(lines.Text(), ":")
		controllers, group, ok := strings.Cut(rest, ":")
		top, file := "/sys/fs/cgroup", "memory.max"
		switch {
		case !ok:
			continue
		case number == "0" && controllers == "":
		case strings.Contains(","+controllers+",", ",memory,"):
			top, file = "/sys/fs/cgroup/memory", "memory.limit_in_bytes"
		default:
			continue
		}
		for group = path.Clean("/" + group); ; group = path.Dir(group) {
			files = append(files, path.Join(top, group, file))
			if group == "/" {
				break
			}
		}
	}
	return files
}
