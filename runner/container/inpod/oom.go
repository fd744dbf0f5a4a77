package inpod

import (
	"bufio"
	"bytes"
	"os"
	"strconv"
	"strings"
)

// killed counts the processes of this control group that the kernel has killed for want of
// memory; 0 if it does not say.
func killed() int64 {
	for _, file := range []string{"/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"} {
		if text, err := os.ReadFile(file); err == nil {
			return killedIn(text)
		}
	}
	return 0
}

// killedIn reads memory.events of control groups version 2, or memory.oom_control of version 1.
func killedIn(text []byte) int64 {
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		if number, ok := strings.CutPrefix(lines.Text(), "oom_kill "); ok {
			n, _ := strconv.ParseInt(number, 10, 64)
			return n
		}
	}
	return 0
}
