package cgroup_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

// works are what a process of these tests may do.
var works = map[string]func(out io.Writer, argument string) error{
	"nothing": func(io.Writer, string) error { return nil },
	"sleep":   func(_ io.Writer, s string) error { pause(duration(s)); return nil },
	"groups": func(out io.Writer, _ string) error {
		raw, err := os.ReadFile("/proc/self/cgroup")
		_, _ = out.Write(raw)
		return err
	},
	"spin":  func(_ io.Writer, s string) error { spin(duration(s)); return nil },
	"eat":   eat,
	"child": child,
	"bomb":  bomb,
	"write": writeFile,
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

// eat uses so many bytes of memory.
func eat(_ io.Writer, s string) error {
	n, err := strconv.Atoi(s)
	if err != nil {
		return err
	}
	eaten := make([]byte, n)
	for i := 0; i < n; i += 4096 {
		eaten[i] = 1
	}
	runtime.KeepAlive(eaten)
	return nil
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
