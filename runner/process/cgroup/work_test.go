package cgroup_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
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
	case "eat":
		return eat(argument)
	case "child":
		return child(out, argument)
	case "bomb":
		return bomb(out, argument)
	case "write":
		return writeFile(out, argument)
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

// writeFile writes 8 MiB to the file, each through to the disk, and says how
// many milliseconds that took.
func writeFile(out io.Writer, path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC|syscall.O_DSYNC, 0o600)
	if err != nil {
		return err
	}
	start := time.Now()
	for range 8 {
		if _, err := f.Write(bytes.Repeat([]byte("x"), 1<<20)); err != nil {
			return err
		}
	}
	_, _ = fmt.Fprintln(out, time.Since(start).Milliseconds())
	return f.Close()
}
