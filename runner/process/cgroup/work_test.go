package cgroup_test

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// work is what a process of these tests does, by name.
func work(out io.Writer, name, argument string) error {
	switch name {
	case "nothing":
		return nil
	case "sleep":
		pause(duration(argument))
		return nil
	case "spin":
		spin(duration(argument))
		return nil
	case "compete":
		return compete()
	case "eat":
		return eat(argument)
	case "child":
		return child(out, argument)
	case "bomb":
		return bomb(out, argument)
	case "write":
		return disk(out, argument, os.O_CREATE|os.O_WRONLY|os.O_TRUNC|syscall.O_DSYNC, (*os.File).Write)
	case "read":
		return disk(out, argument, os.O_RDONLY|syscall.O_DIRECT, (*os.File).Read)
	case "host":
		return host(os.Stdin, out)
	}
	return fmt.Errorf("there is no work %q", name)
}

func duration(s string) time.Duration {
	d, err := time.ParseDuration(s)
	if err != nil {
		panic(err)
	}
	return d
}

func pause(d time.Duration) { time.Sleep(d) } //nolint:forbidigo // that is the work

// spin keeps two cores busy.
func spin(d time.Duration) {
	end := time.Now().Add(d)
	done := make(chan bool)
	for range 2 {
		go func() {
			for time.Now().Before(end) {
			}
			done <- true
		}()
	}
	<-done
	<-done
}

// compete keeps one core busy, the same as any other that does, until it is ended.
func compete() error {
	runtime.LockOSThread()
	var own, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &own); err != nil {
		return err
	}
	for cpu := 0; one.Count() == 0; cpu++ {
		if own.IsSet(cpu) {
			one.Set(cpu)
		}
	}
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		return err
	}
	for end := time.Now().Add(patience); time.Now().Before(end); {
	}
	return nil
}

// eat uses so many bytes of memory, of which the race detector keeps no shadow.
func eat(s string) error {
	n, err := strconv.Atoi(s)
	if err != nil {
		return err
	}
	eaten, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return err
	}
	for i := 0; i < n; i += 4096 {
		eaten[i] = 1
	}
	return unix.Munmap(eaten)
}

// child runs this binary again, with other work, waits for it, and then stays
// whatever became of it.
func child(out io.Writer, work string) error {
	if err := command(work).Run(); err != nil {
		_, _ = fmt.Fprintln(out, "child:", err)
	}
	pause(time.Minute)
	return nil
}

// bomb starts processes until it can't, and says how many it could.
func bomb(out io.Writer, s string) error {
	most, err := strconv.Atoi(s)
	if err != nil {
		return err
	}
	started := 0
	for range most {
		if err := command("sleep 1m").Start(); err != nil {
			break
		}
		started++
	}
	_, _ = fmt.Fprintln(out, started)
	pause(time.Minute)
	return nil
}

// disk reads or writes a file, so many times so many bytes, each from or to the disk
// itself, and says how many milliseconds that took.
func disk(out io.Writer, argument string, flags int, do func(f *os.File, b []byte) (int, error)) error {
	var times, size int
	var path string
	if _, err := fmt.Sscan(argument, &times, &size, &path); err != nil {
		return err
	}
	// Memory that begins with a page, as direct reads want it.
	buf, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, flags, 0o600)
	if err != nil {
		return err
	}
	start := time.Now()
	for range times {
		if _, err := do(f, buf); err != nil {
			return err
		}
	}
	_, _ = fmt.Fprintln(out, time.Since(start).Milliseconds())
	return f.Close()
}
