package process

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"unicode/utf8"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/runner/process/isolate"
)

// startError tells what the kernel's answer to a start means: the task's fault
// is a *driver.Refusal that names the program or the directory, the rest the host's.
func startError(c *Config, program string, err error) error {
	if refusal, ok := errors.AsType[*driver.Refusal](err); ok {
		return refusal
	}
	if call, ok := errors.AsType[*isolate.CallError](err); ok {
		return fmt.Errorf("process: start %s: %w", short(program), call)
	}
	if refusal := dirError(c.Dir); refusal != nil {
		return refusal
	}
	return errnoError(c, program, err)
}

// errnoError tells what the kernel's errno means.
func errnoError(c *Config, program string, err error) error {
	refuse := func(reason navvy.Reason, format string, args ...any) error {
		return &driver.Refusal{Reason: reason, Message: fmt.Sprintf(format, args...)}
	}
	path := inDir(c.Dir, program)
	program = short(program)
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
		return refuse(navvy.ReasonInput, "%s: arguments and environment are too long for the kernel: %s", program, sizeOf(c))
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
		Message: fmt.Sprintf("%s: an argument holds a zero byte, which no process can be given", short(program)),
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

// shown is how much of a program's name a message holds, in bytes.
const shown = 200

// short is the name of a program for a message, which is kept with the task:
// quoted, if it is not plain, and cut, if it is long.
func short(name string) string {
	whole := len(name)
	if whole > shown {
		name = strings.ToValidUTF8(name[:shown], "")
	}
	if strings.ContainsFunc(name, func(r rune) bool { return r == ' ' || !strconv.IsPrint(r) }) || !utf8.ValidString(name) {
		name = strconv.Quote(name)
	}
	if whole > shown {
		name += fmt.Sprintf("… (%d bytes)", whole)
	}
	return name
}

// maxArgument is how long one argument may be, or one variable with its name, in
// bytes: the kernel's MAX_ARG_STRLEN, 32 pages, less the zero byte at the end.
var maxArgument = 32*os.Getpagesize() - 1

// sizeOf says how long the arguments of c are, which limit that breaks, and what
// to do.
func sizeOf(c *Config) string {
	for _, pair := range c.Env {
		if len(pair) > maxArgument {
			return fmt.Sprintf("a variable of the environment has %d bytes, and %d is the most", len(pair), maxArgument)
		}
	}
	total, longest := 0, 0
	for _, s := range slices.Concat(c.Args, c.Env) {
		total += len(s) + 1
		longest = max(longest, len(s))
	}
	size := fmt.Sprintf("%d bytes in all", total)
	if longest > maxArgument {
		size = fmt.Sprintf("one argument has %d bytes, and %d is the most", longest, maxArgument)
	}
	return size + "; give the input on standard input instead (--stdin)"
}
