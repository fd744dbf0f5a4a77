package isolate_test

import (
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/process/boot"
	"github.com/navvy-run/navvy/runner/process/isolate"
)

// BenchmarkStart compares, in one run and by turns, what it costs to start a
// program that ends at once and to wait for it: as it is; in the four namespaces
// of an isolated attempt; with an init there that does nothing else; in a box
// with limits only; and isolated, without and with a user of its own and with a
// network of its own. The figures are medians, as multiples of the first.
func BenchmarkStart(b *testing.B) {
	const program = "/bin/true"
	if _, err := os.Stat(program); err != nil {
		b.Skip(err)
	}
	const namespaces = unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS
	image, err := boot.NewImage(&boot.Program{Init: true, Status: isolate.StatusFD})
	if err != nil {
		b.Fatal(err)
	}
	defer image.Close()
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer null.Close()
	ulimit := []navvy.Ulimit{{Name: "core"}}
	variants := []struct {
		name  string
		start func() error
		times []time.Duration
	}{
		{name: "plain", start: func() error { return bare(program, []string{program}, 0, null.Fd(), null.Fd()) }},
		{name: "namespaces", start: func() error { return bare(program, []string{program}, namespaces, null.Fd(), null.Fd()) }},
		{name: "init", start: func() error {
			return bare(boot.Path(4), []string{program, program}, namespaces, null.Fd(), image.File())
		}},
		{name: "ulimit", start: boxed(b, isolate.Box{Ulimits: ulimit}, program)},
		{name: "isolated", start: boxed(b, isolate.Box{Isolate: true}, program)},
		{name: "user", start: boxed(b, isolate.Box{Isolate: true, UID: isolate.FirstUID}, program)},
		{name: "network", start: boxed(b, isolate.Box{Isolate: true, UID: isolate.FirstUID, Network: navvy.NetworkNone}, program)},
	}
	b.ResetTimer()
	for range b.N {
		for i := range variants {
			began := time.Now()
			if err := variants[i].start(); err != nil {
				b.Fatal(variants[i].name, err)
			}
			variants[i].times = append(variants[i].times, time.Since(began))
		}
	}
	var plain time.Duration
	for i, v := range variants {
		slices.Sort(v.times)
		median := v.times[len(v.times)/2]
		if i == 0 {
			plain = median
			b.ReportMetric(float64(plain.Microseconds()), "plain-µs")
			continue
		}
		b.ReportMetric(float64(median)/float64(plain), v.name+"/plain")
	}
	b.ReportMetric(0, "ns/op")
}

// bare starts a program and waits for it. null takes reports.
func bare(path string, args []string, flags uintptr, files ...uintptr) error {
	pid, err := syscall.ForkExec(path, args, &syscall.ProcAttr{
		Files: append([]uintptr{0, 1, 2}, files...), Sys: &syscall.SysProcAttr{Cloneflags: flags, Setpgid: true},
	})
	if err != nil {
		return err
	}
	return reap(pid)
}

func reap(pid int) error {
	for {
		if _, err := syscall.Wait4(pid, nil, 0, nil); err != syscall.EINTR {
			return err
		}
	}
}

// boxed starts a program in a box.
func boxed(b *testing.B, box isolate.Box, program string) func() error {
	box.Program = program
	p := plan(b, box)
	return func() error {
		s, err := p.Status()
		if err != nil {
			return err
		}
		defer s.Close()
		sys := &syscall.SysProcAttr{Setpgid: true}
		p.Set(sys)
		pid, err := syscall.ForkExec(p.Path(), p.Args(program, []string{program}), &syscall.ProcAttr{
			Files: append([]uintptr{0, 1, 2}, s.Files()...), Sys: sys,
		})
		if err != nil {
			return err
		}
		if err := s.Started(); err != nil {
			return err
		}
		if err := reap(pid); err != nil {
			return err
		}
		_, _, err = s.Exit()
		return err
	}
}
