package isolate_test

import (
	"os"
	"runtime"
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
// network of its own. The last two are what could be saved by keeping things from one
// attempt to the next: the PID namespace with its init, and all namespaces with
// their mounts, so that only rights, user and filter are new. The figures are
// medians, as multiples of the first.
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
		{name: "kept-pid", start: kept(b, isolate.Box{Isolate: true, UID: isolate.FirstUID}, program, false)},
		{name: "kept-whole", start: kept(b, isolate.Box{Isolate: true, UID: isolate.FirstUID}, program, true)},
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
		return begin(p, program, true, func(fork func() (int, error)) (int, error) { return fork() })
	}
}

// begin starts a program by a plan and waits for it.
func begin(p *isolate.Plan, program string, group bool, around func(fork func() (int, error)) (int, error), files ...uintptr) error {
	s, err := p.Status()
	if err != nil {
		return err
	}
	defer s.Close()
	sys := &syscall.SysProcAttr{Setpgid: group}
	p.Set(sys)
	pid, err := around(func() (int, error) {
		return syscall.ForkExec(p.Path(), p.Args(program, []string{program}), &syscall.ProcAttr{
			Files: slices.Concat([]uintptr{0, 1, 2}, s.Files(), files), Sys: sys,
		})
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

// kept starts a program in a PID namespace that stays, and with whole in all
// namespaces of it. Only root can.
func kept(b *testing.B, box isolate.Box, program string, whole bool) func() error {
	b.Helper()
	if os.Getuid() != 0 {
		return func() error { return nil }
	}
	first := start(b, box, "hang") // whose init keeps them
	b.Cleanup(func() {
		_ = unix.Kill(first.pid, unix.SIGKILL)
		first.wait()
	})
	pidfd, err := unix.PidfdOpen(first.pid, 0)
	if err != nil {
		b.Fatal(err)
	}
	home, err := unix.Open("/proc/self/ns/pid", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		b.Fatal(err)
	}
	p, err := isolate.Open().Kept(box, whole)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _, _, _ = p.Close(), unix.Close(pidfd), unix.Close(home) })
	inside := func(fork func() (int, error)) (int, error) {
		runtime.LockOSThread()
		if err := unix.Setns(pidfd, unix.CLONE_NEWPID); err != nil {
			b.Fatal(err)
		}
		pid, err := fork()
		if back := unix.Setns(home, unix.CLONE_NEWPID); back != nil {
			b.Fatal(back)
		}
		runtime.UnlockOSThread()
		return pid, err
	}
	return func() error { return begin(p, program, false, inside, uintptr(pidfd)) }
}
