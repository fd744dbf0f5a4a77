package cgroup

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// mount is a mounted hierarchy, as this process sees it.
type mount struct {
	version     int      // 1 or 2
	point       string   // where it is mounted
	root        string   // which of its directories is visible there
	controllers []string // of version 1; nil for version 2
}

// mounts lists the hierarchies that are mounted. A later mount of the same one
// is another way to the same directories and is left out.
func mounts() ([]mount, error) {
	raw, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("cgroup: which hierarchies are mounted: %w", err)
	}
	return parseMounts(raw), nil
}

// controllersV1 are those controllers of version 1 that we know how to use.
var controllersV1 = []string{"cpu", "cpuacct", "memory", "pids", "blkio"}

// parseMounts reads lines of proc(5)'s mountinfo:
// "36 35 98:0 /root /point rw,noatime master:1 - type source options".
func parseMounts(raw []byte) []mount {
	var list []mount
	for line := range bytes.Lines(raw) {
		before, after, ok := strings.Cut(strings.TrimSuffix(string(line), "\n"), " - ")
		fields, kind := strings.Fields(before), strings.Fields(after)
		if !ok || len(fields) < 5 || len(kind) < 3 {
			continue
		}
		m := mount{root: unescape(fields[3]), point: unescape(fields[4])}
		switch kind[0] {
		case "cgroup2":
			m.version = 2
		case "cgroup":
			m.version = 1
			options := strings.Split(kind[2], ",")
			for _, c := range controllersV1 {
				if slices.Contains(options, c) {
					m.controllers = append(m.controllers, c)
				}
			}
			if len(m.controllers) == 0 {
				continue // named, as systemd's, or for what we don't use
			}
		default:
			continue
		}
		if !slices.ContainsFunc(list, m.same) {
			list = append(list, m)
		}
	}
	return list
}

func (m mount) same(o mount) bool {
	return m.version == o.version && slices.Equal(m.controllers, o.controllers)
}

// unescape undoes the kernel's \ooo for white space in a path.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) && isOctal(s[i+1:i+4]) {
			b.WriteByte((s[i+1]-'0')<<6 | (s[i+2]-'0')<<3 | (s[i+3] - '0'))
			i += 3
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func isOctal(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '7' {
			return false
		}
	}
	return s[0] <= '3'
}

// places tells in which directory of each hierarchy a process is: the key is a
// controller of version 1, or empty for version 2.
func places(pid string) (map[string]string, error) {
	raw, err := os.ReadFile("/proc/" + pid + "/cgroup")
	if err != nil {
		return nil, fmt.Errorf("cgroup: in which groups %s is: %w", pid, err)
	}
	return parsePlaces(raw), nil
}

// parsePlaces reads lines of /proc/PID/cgroup: "4:memory:/path", "0::/path".
func parsePlaces(raw []byte) map[string]string {
	in := make(map[string]string)
	lines := bufio.NewScanner(bytes.NewReader(raw))
	for lines.Scan() {
		id, rest, ok := strings.Cut(lines.Text(), ":")
		names, path, ok2 := strings.Cut(rest, ":")
		if !ok || !ok2 || !strings.HasPrefix(path, "/") {
			continue
		}
		if id == "0" && names == "" {
			in[""] = path
			continue
		}
		for name := range strings.SplitSeq(names, ",") {
			in[name] = path
		}
	}
	return in
}

// dir is where the group at path of the hierarchy is to be seen. A path outside
// of what is mounted, as in a container that shows only its own part, is taken
// for the top of that part.
func (m mount) dir(path string) string {
	inside, err := filepath.Rel(m.root, path)
	if err != nil || inside == ".." || strings.HasPrefix(inside, "../") {
		return m.point
	}
	return filepath.Join(m.point, inside)
}

// place is the directory of this process.
func (m mount) place(in map[string]string) string {
	key := ""
	if m.version == 1 {
		key = m.controllers[0]
	}
	return m.dir(in[key])
}
