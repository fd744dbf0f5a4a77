package process

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
)

// startError tells what the kernel's answer to a start means: the task's fault
// is a *driver.Refusal that names the program or the directory, the rest the host's.
func startError(c *Config, program string, err error) error {
	refuse := func(reason navvy.Reason, format string, args ...any) error {
		return &driver.Refusal{Reason: reason, Message: fmt.Sprintf(format, args...)}
	}
	if refusal := dirError(c.Dir); refusal != nil {
		return refusal
	}
	path := inDir(c.Dir, program)
	var errno syscall.Errno
	errors.As(err, &errno)
	switch errno {
	case syscall.ENOENT:
		if interpreter := interpreterOf(path); interpreter != "" {
			return refuse(navvy.ReasonNotFound, "%s: its interpreter %s does not exist", program, interpreter)
		}
		if _, err := os.Stat(path); err == nil {
			return refuse(navvy.ReasonNotFound, "%s: the loader that it asks for does not exist", program)
		}
		return refuse(navvy.ReasonNotFound, "%s: no such program", program)
	case syscall.ENOTDIR, syscall.ELOOP, syscall.ENAMETOOLONG:
		return refuse(navvy.ReasonNotFound, "%s: %s", program, errno)
	case syscall.EACCES, syscall.EPERM, syscall.EISDIR:
		if info, err := os.Stat(path); err == nil && info.IsDir() {
			return refuse(navvy.ReasonPermission, "%s: is a directory, not a program", program)
		}
		return refuse(navvy.ReasonPermission, "%s: permission denied", program)
	case syscall.E2BIG:
		return refuse(navvy.ReasonInput, "%s: arguments and environment are too long for the kernel, %s", program, sizeOf(c))
	case syscall.ENOEXEC:
		return refuse(navvy.ReasonStart, "%s: neither a program for this machine nor a script that begins with #!", program)
	case syscall.ETXTBSY:
		return refuse(navvy.ReasonStart, "%s: is being written to", program)
	case syscall.EINVAL:
		if slices.ContainsFunc(slices.Concat(c.Args, c.Env, []string{c.Dir}), hasZero) {
			return zeroByte(program)
		}
	}
	return fmt.Errorf("process: start %s: %w", program, err)
}

func zeroByte(program string) error {
	return &driver.Refusal{
		Reason:  navvy.ReasonInput,
		Message: fmt.Sprintf("%q: an argument holds a zero byte, which no process can be given", program),
	}
}

func hasZero(s string) bool { return strings.IndexByte(s, 0) >= 0 }

// dirError tells why dir cannot be the working directory; nil if it can.
func dirError(dir string) error {
	if dir == "" || hasZero(dir) {
		return nil
	}
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, os.ErrPermission):
		return &driver.Refusal{Reason: navvy.ReasonPermission, Message: "working directory " + dir + ": permission denied"}
	case err != nil:
		return &driver.Refusal{Reason: navvy.ReasonNotFound, Message: "working directory " + dir + ": does not exist"}
	case !info.IsDir():
		return &driver.Refusal{Reason: navvy.ReasonNotFound, Message: "working directory " + dir + ": is not a directory"}
	case syscall.Access(dir, 1) != nil:
		return &driver.Refusal{Reason: navvy.ReasonPermission, Message: "working directory " + dir + ": permission denied"}
	}
	return nil
}

// interpreterOf names what a script's first line asks for; empty if it asks for nothing.
func interpreterOf(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	head := make([]byte, 256) // the kernel reads no more either
	n, _ := io.ReadFull(f, head)
	line, ok := bytes.CutPrefix(head[:n], []byte("#!"))
	if !ok {
		return ""
	}
	line, _, _ = bytes.Cut(line, []byte("\n"))
	if fields := strings.Fields(string(line)); len(fields) > 0 {
		return fields[0]
	}
	return ""
}

// sizeOf says how long the arguments of c are, and which is the longest.
func sizeOf(c *Config) string {
	total, longest := 0, 0
	for _, s := range slices.Concat(c.Args, c.Env) {
		total += len(s) + 1
		longest = max(longest, len(s))
	}
	return fmt.Sprintf("%d bytes in all, the longest %d", total, longest)
}
