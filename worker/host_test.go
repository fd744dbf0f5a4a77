package worker

import (
	"slices"
	"testing"
)

func TestMemTotal(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{
		"MemTotal:       16384 kB\nMemFree: 1 kB\n": 16 << 20,
		"MemFree: 1 kB\nMemTotal: 1 kB":             1024,
		"":                                          0,
		"MemTotal: many kB":                         0,
		"MemTotal: -5 kB":                           0,
		"MemTotal: 9223372036854775807 kB":          0,
	} {
		if got := memTotal([]byte(text)); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}

func TestLimitFiles(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		"0::/a/b\n": {"/sys/fs/cgroup/a/b/memory.max", "/sys/fs/cgroup/a/memory.max", "/sys/fs/cgroup/memory.max"},
		"5:cpu,cpuacct:/x\n4:memory:/y\n1:name=systemd:/z\n0::/\n": {
			"/sys/fs/cgroup/memory/y/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory.max",
		},
		"nonsense\n\n": nil,
	} {
		if got := limitFiles([]byte(text)); !slices.Equal(got, want) {
			t.Errorf("%q: %q", text, got)
		}
	}
}

// Wherever this test runs, there is a host.
func TestHost(t *testing.T) {
	t.Parallel()
	if cpus, memory := hostCPUs(), hostMemory(); cpus < 1000 || memory < 1<<20 {
		t.Errorf("%d thousandths of a core, %d bytes", cpus, memory)
	}
}
