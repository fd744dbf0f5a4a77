package isolate_test

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// view is what an attempt sees.
type view struct {
	Pid, Parent, Session int
	Args                 []string
	Host                 string
	Processes            []int
	Status               map[string]string // of /proc/self/status
	Dir, Home, Temp      string
	Files                map[string][]string // in directories
	Modes                map[string]string   // of them
	Interfaces           []string            // that are up
	Descriptors          []string            // what they lead to
	Ulimit               map[string]unix.Rlimit
	Queues               string // what /proc/sysvipc/msg shows
	Namespaces           map[string]string
	Writable             []string // of what user 0 could write to
	Ping                 string   // a connection over the loopback interface
}

// perform is the task of a test. Its output goes to descriptor 1.
func perform(act, arg string) int {
	switch act {
	case "exit":
		code, _ := strconv.Atoi(arg)
		return code
	case "look":
		if err := json.NewEncoder(os.Stdout).Encode(lookAround()); err != nil {
			return 97
		}
		return 0
	case "call":
		return callAll()
	case "hang":
		_, _ = fmt.Fprintln(os.Stdout, "hanging")
		_ = unix.Pause()
	case "foreign":
		return foreign()
	case "write": // a file, and tell how it went
		_, _ = fmt.Fprintln(os.Stdout, os.WriteFile(arg, []byte("x"), 0o600))
		return 0
	case "dial": // a socket, say a word there, and tell how it went
		conn, err := net.Dial("unix", arg)
		if err == nil {
			_, err = conn.Write([]byte("hello"))
		}
		_, _ = fmt.Fprintln(os.Stdout, err)
		return 0
	case "uid":
		return holdUsers(arg)
	}
	return 99
}

func lookAround() view {
	v := view{
		Pid: os.Getpid(), Parent: os.Getppid(), Args: os.Args, Home: os.Getenv("HOME"), Temp: os.Getenv("TMPDIR"),
		Status: map[string]string{}, Files: map[string][]string{}, Modes: map[string]string{},
		Ulimit: map[string]unix.Rlimit{}, Namespaces: map[string]string{},
	}
	v.Session, _ = unix.Getsid(0)
	v.Host, _ = os.Hostname()
	v.Dir, _ = os.Getwd()
	for _, dir := range []string{"/tmp", "/var/tmp", "/dev/shm", "/dev", "."} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		v.Files[dir] = []string{}
		for _, e := range entries {
			v.Files[dir] = append(v.Files[dir], e.Name())
		}
		if info, err := os.Stat(dir); err == nil {
			v.Modes[dir] = info.Mode().String()
		}
	}
	names, _ := filepath.Glob("/proc/[0-9]*")
	for _, name := range names {
		pid, _ := strconv.Atoi(filepath.Base(name))
		v.Processes = append(v.Processes, pid)
	}
	slices.Sort(v.Processes)
	raw, _ := os.ReadFile("/proc/thread-self/status")
	for line := range strings.Lines(string(raw)) {
		key, value, _ := strings.Cut(line, ":")
		v.Status[key] = strings.Join(strings.Fields(value), " ")
	}
	raw, _ = os.ReadFile("/proc/sysvipc/msg")
	v.Queues = string(raw)
	fds, _ := os.ReadDir("/proc/self/fd")
	for _, fd := range fds {
		link, _ := os.Readlink("/proc/self/fd/" + fd.Name())
		v.Descriptors = append(v.Descriptors, link)
	}
	for name, resource := range map[string]int{"nofile": unix.RLIMIT_NOFILE, "core": unix.RLIMIT_CORE, "nproc": unix.RLIMIT_NPROC} {
		var limit unix.Rlimit
		_ = unix.Getrlimit(resource, &limit)
		v.Ulimit[name] = limit
	}
	for _, ns := range []string{"pid", "mnt", "ipc", "uts", "net", "user"} {
		v.Namespaces[ns], _ = os.Readlink("/proc/self/ns/" + ns)
	}
	for _, path := range []string{"/proc/sys/kernel/hostname", "/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/sys/kernel/mm/ksm/run", "/sys/kernel/uevent_helper"} {
		if f, err := os.OpenFile(path, os.O_WRONLY, 0); err == nil {
			v.Writable = append(v.Writable, path)
			_ = f.Close()
		}
	}
	lookAtNetwork(&v)
	return v
}

func lookAtNetwork(v *view) {
	interfaces, _ := net.Interfaces()
	for _, i := range interfaces {
		if i.Flags&net.FlagUp != 0 {
			v.Interfaces = append(v.Interfaces, i.Name)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		v.Ping = err.Error()
		return
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		v.Ping = err.Error()
		return
	}
	_ = c.Close()
	v.Ping = "fine"
}
