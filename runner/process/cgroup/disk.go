package cgroup

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy"
)

// disksOf lists the disks that a directory's files are on, as numbers of whole
// disks: the kernel bounds those, not partitions. A file system without a disk,
// as tmpfs or NFS, wraps navvy.ErrUnsupported.
func disksOf(dir string) (disks, error) {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return nil, fmt.Errorf("cgroup: disk of %s: %w", dir, err)
	}
	if id, ok := wholeDisk(st.Dev); ok {
		return disks{id}, nil
	}
	// btrfs and its like show a number that is no disk's; the mount names the disk.
	kind, source := sourceOf(fmt.Sprintf("%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev)))
	if strings.HasPrefix(source, "/dev/") && unix.Stat(source, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFBLK {
		if id, ok := wholeDisk(st.Rdev); ok {
			return disks{id}, nil
		}
	}
	if kind == "" {
		kind = "a file system"
	}
	return nil, fmt.Errorf("cgroup: working directory %s is on %s, which has no disk of this host to limit; use a directory on a disk: %w",
		dir, kind, navvy.ErrUnsupported)
}

// wholeDisk is MAJOR:MINOR of the disk that a device number belongs to.
func wholeDisk(dev uint64) (string, bool) {
	id := fmt.Sprintf("%d:%d", unix.Major(dev), unix.Minor(dev))
	// A link into the tree of devices, where a partition lies below its disk.
	device, err := filepath.EvalSymlinks("/sys/dev/block/" + id)
	if err != nil {
		return "", false
	}
	if !exists(filepath.Join(device, "partition")) {
		return id, true
	}
	raw, err := os.ReadFile(filepath.Join(filepath.Dir(device), "dev"))
	return strings.TrimSpace(string(raw)), err == nil
}

// sourceOf tells what is mounted with a device number: the type and the source.
func sourceOf(id string) (kind, source string) {
	raw, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", ""
	}
	for line := range strings.Lines(string(raw)) {
		before, after, ok := strings.Cut(line, " - ")
		fields, what := strings.Fields(before), strings.Fields(after)
		if ok && len(fields) > 2 && fields[2] == id && len(what) > 1 {
			return what[0], unescape(what[1])
		}
	}
	return "", ""
}
