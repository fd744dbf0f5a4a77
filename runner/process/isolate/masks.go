package isolate

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy/runner/process/boot"
)

// An attempt that runs as the host's user 0, because nobody gave it a user of
// its own, could harm the host through files although it has no capabilities:
// they are its own. It gets what container engines give: a /dev without disks,
// and parts of /proc and /sys that are hidden or can only be read. Other users
// cannot write to any of it, and are spared the mounts, which would cost more
// than all else.

// devices are the devices that any program may need.
func devices() []kept {
	var list []kept
	for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
		path := "/dev/" + name
		if _, err := os.Stat(path); err == nil {
			list = append(list, kept{name: "device " + path, source: path, target: path, file: true})
		}
	}
	return list
}

// privateDev is a /dev of its own. The devices are put there later.
func (h *Host) privateDev() []boot.Call {
	at := unix.AT_FDCWD
	calls := []boot.Call{call("mount /dev", unix.SYS_MOUNT, boot.Text("tmpfs"), boot.Text("/dev"), boot.Text("tmpfs"),
		boot.Int(unix.MS_NOSUID|unix.MS_NOEXEC), boot.Text("mode=755,size=64k"))}
	dirs := []string{"/dev/pts", "/dev/shm"}
	if h.mqueue {
		dirs = append(dirs, "/dev/mqueue")
	}
	for _, dir := range dirs {
		calls = append(calls, call("make "+dir, unix.SYS_MKDIRAT, boot.Int(at), boot.Text(dir), boot.Int(0o755)))
	}
	for link, to := range map[string]string{"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2", "ptmx": "pts/ptmx"} {
		calls = append(calls, call("make /dev/"+link, unix.SYS_SYMLINKAT, boot.Text(to), boot.Int(at), boot.Text("/dev/"+link)))
	}
	if !h.hides("/dev/shm") {
		calls = append(calls, call("mount /dev/shm", unix.SYS_MOUNT, boot.Text("tmpfs"), boot.Text("/dev/shm"), boot.Text("tmpfs"),
			boot.Int(unix.MS_NOSUID|unix.MS_NODEV), boot.Text("mode=1777,size="+memoryShare)))
	}
	return append(calls, call("mount /dev/pts", unix.SYS_MOUNT, boot.Text("devpts"), boot.Text("/dev/pts"), boot.Text("devpts"),
		boot.Int(unix.MS_NOSUID|unix.MS_NOEXEC), boot.Text("newinstance,ptmxmode=0666,mode=0620")))
}

// masks hides parts of /proc and /sys, or protects them from being written to.
func masks() []boot.Call {
	var calls []boot.Call
	add := func(name, source, target, kind string, flags uintptr, options string) {
		calls = append(calls, ignoring(unix.ENOENT, call(name+" "+target, unix.SYS_MOUNT,
			boot.Text(source), boot.Text(target), boot.Text(kind), boot.Int(flags), boot.Text(options))))
	}
	for _, file := range []string{"kcore", "keys", "timer_list", "latency_stats", "sched_debug", "kmsg", "interrupts"} {
		add("hide", "/dev/null", "/proc/"+file, "", unix.MS_BIND, "")
	}
	const sealed = unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	for _, dir := range []string{"/proc/acpi", "/proc/asound", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap"} {
		add("hide", "tmpfs", dir, "tmpfs", sealed, "size=0")
	}
	protected := []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
	for _, path := range protected {
		add("protect", path, path, "", unix.MS_BIND|unix.MS_REC, "")
	}
	for _, path := range append(protected, "/sys") {
		calls = append(calls, ignoring(unix.ENOENT, protect(path)))
	}
	return calls
}

// protect keeps what is mounted at a path, and below, from being written to.
func protect(path string) boot.Call {
	readOnly := boot.Words(boot.Int(unix.MOUNT_ATTR_RDONLY), boot.Int(0), boot.Int(0), boot.Int(0)) // struct mount_attr
	const sizeofAttr = 32
	at := unix.AT_FDCWD
	return call("protect "+path, unix.SYS_MOUNT_SETATTR, boot.Int(at), boot.Text(path), boot.Int(unix.AT_RECURSIVE), readOnly, boot.Int(sizeofAttr))
}
