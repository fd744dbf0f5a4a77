package cgroup

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy"
)

// write gives a control file its value, in one call as the kernel wants it.
func write(dir, file, value string) error {
	fd, err := open(filepath.Join(dir, file), unix.O_WRONLY)
	if err != nil {
		return err
	}
	_, err = unix.Write(fd, []byte(value))
	_ = unix.Close(fd)
	if err != nil {
		return &fs.PathError{Op: "write " + strconv.Quote(value) + " to", Path: filepath.Join(dir, file), Err: err}
	}
	return nil
}

func open(path string, flags int) (int, error) {
	for {
		fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
		if err == nil {
			return fd, nil
		}
		if err != unix.EINTR {
			return -1, &fs.PathError{Op: "open", Path: path, Err: err}
		}
	}
}

// read returns what a control file says.
func read(dir, file string) ([]byte, error) {
	fd, err := open(filepath.Join(dir, file), unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd) //nolint:errcheck // it was only read
	buf := make([]byte, 0, 512)
	for {
		n, err := unix.Read(fd, buf[len(buf):cap(buf)])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, &fs.PathError{Op: "read", Path: filepath.Join(dir, file), Err: err}
		}
		if n == 0 {
			return buf, nil
		}
		if buf = buf[:len(buf)+n]; len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
	}
}

// number reads a file that holds one number; "max" is the largest.
func number(dir, file string) (int64, error) {
	raw, err := read(dir, file)
	if err != nil {
		return 0, err
	}
	return parseNumber(raw)
}

func parseNumber(raw []byte) (int64, error) {
	raw = bytes.TrimSpace(raw)
	if string(raw) == "max" {
		return 1<<63 - 1, nil
	}
	n, err := strconv.ParseInt(string(raw), 10, 64)
	if err != nil || n < 0 {
		return 0, corrupt(raw)
	}
	return n, nil
}

// field finds the number behind a name in a file of lines "name number".
func field(raw []byte, name string) (int64, bool) {
	for line := range bytes.Lines(raw) {
		key, value, ok := bytes.Cut(line, []byte(" "))
		if !ok || string(key) != name {
			continue
		}
		n, err := parseNumber(value)
		return n, err == nil
	}
	return 0, false
}

// pidsOf lists the processes that are in the group itself, not below it.
func pidsOf(dir string) ([]int, error) {
	raw, err := read(dir, "cgroup.procs")
	if err != nil {
		return nil, err
	}
	return parsePIDs(raw)
}

func parsePIDs(raw []byte) ([]int, error) {
	var pids []int
	for line := range bytes.FieldsSeq(raw) {
		pid, err := strconv.Atoi(string(line))
		if err != nil || pid < 0 {
			return nil, corrupt(line)
		}
		if pid > 0 { // 0: of another PID namespace
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

func corrupt(raw []byte) error {
	return fmt.Errorf("cgroup: %.100q is not what cgroups(7) describes: %w", raw, navvy.ErrCorrupt)
}

// below lists dir and the groups in it, the deepest first.
func below(dir string) []string {
	var list []string
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if e.IsDir() {
			list = append(list, below(filepath.Join(dir, e.Name()))...)
		}
	}
	return append(list, dir)
}

// exists tells whether a group or a file of one is there.
func exists(path string) bool {
	return unix.Access(path, unix.F_OK) == nil
}

// gone tells whether an error says that a group is not there any more.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV)
}
