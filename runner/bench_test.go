package runner_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner"
	"github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/runner/noop"
	"github.com/navvy-run/navvy/runner/process"
)

// twoStarters makes n calls of f from two goroutines and returns how long that took.
func twoStarters(n int64, f func(i int64)) time.Duration {
	var next atomic.Int64
	var starters sync.WaitGroup
	begun := time.Now()
	for range 2 {
		starters.Go(func() {
			for i := next.Add(1); i <= n; i = next.Add(1) {
				f(i)
			}
		})
	}
	starters.Wait()
	return time.Since(begun)
}

func benchTask(spec *navvy.Spec, i int64) *runner.Task {
	return &runner.Task{Task: driver.Task{
		ID: navvy.TaskID{Job: "0123456789ab", Index: i}, Attempt: navvy.AttemptID{Number: 1, Epoch: 1},
		Token: fmt.Sprintf("0123456789ab:%d:1.1", i), Slot: 1, Spec: spec,
	}}
}

// benchRunner is a runner of processes with a journal, and a function that runs
// one task on it.
func benchRunner(b *testing.B, args ...string) func(i int64) {
	b.Helper()
	journal, err := runner.OpenJournal(filepath.Join(b.TempDir(), "journal"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = journal.Close() })
	r := runner.New(process.NewDriver(nil), &runner.Options{Journal: journal})
	spec := &navvy.Spec{Command: &navvy.Command{Args: args, Env: os.Environ(), Dir: "/"}}
	return func(i int64) {
		if a := r.Prepare(benchTask(spec, i)).Do(); a.Outcome != navvy.OutcomeSucceeded {
			b.Errorf("%+v", a)
		}
	}
}

// ownCPU is what this process has used, without its children.
func ownCPU(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkTrue compares what a task costs that does nothing: os/exec with its
// output captured, and the runner with a journal. The two take turns, because a
// shared machine is not the same from one second to the next; "ratio" is how
// many times as many tasks a second the runner does, "own" what a task costs
// this process, without its child.
func BenchmarkTrue(b *testing.B) {
	run := benchRunner(b, "/bin/true", "1")
	bare := func(int64) {
		c := exec.CommandContext(context.Background(), "/bin/true", "1")
		var stdout, stderr bytes.Buffer
		c.Stdout, c.Stderr = &stdout, &stderr
		if err := c.Run(); err != nil {
			b.Error(err)
		}
	}
	const turn = 200
	var tookBare, tookRun, ownBare, ownRun time.Duration
	turns := 0
	for b.Loop() {
		own := ownCPU(b)
		tookBare += twoStarters(turn, bare)
		ownBare += ownCPU(b) - own
		own = ownCPU(b)
		tookRun += twoStarters(turn, run)
		ownRun += ownCPU(b) - own
		turns++
	}
	b.ReportMetric(float64(turns*turn)/tookBare.Seconds(), "os-exec/s")
	b.ReportMetric(float64(turns*turn)/tookRun.Seconds(), "runner/s")
	b.ReportMetric(ownBare.Seconds()*1e6/float64(turns*turn), "os-exec-own-µs")
	b.ReportMetric(ownRun.Seconds()*1e6/float64(turns*turn), "runner-own-µs")
	b.ReportMetric(tookBare.Seconds()/tookRun.Seconds(), "ratio")
}

// BenchmarkProcess is the runner alone, for profiles.
func BenchmarkProcess(b *testing.B) {
	run := benchRunner(b, "/bin/true", "1")
	b.ReportAllocs()
	twoStarters(int64(b.N), run)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tasks/s")
}

func BenchmarkNoop(b *testing.B) {
	r := runner.New(noop.Driver{}, nil)
	task := benchTask(&navvy.Spec{Noop: &navvy.Noop{}}, 1)
	b.ReportAllocs()
	twoStarters(int64(b.N), func(int64) {
		if a := r.Prepare(task).Do(); a.Outcome != navvy.OutcomeSucceeded {
			b.Errorf("%+v", a)
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tasks/s")
}

// fileSink writes frames to a file, as the log of an output does.
type fileSink struct{ file *os.File }

func (s fileSink) Upload(frames []byte) error {
	_, err := s.file.Write(frames)
	return err
}

// BenchmarkLongOutput compares the capture of a long output with a plain loop
// that copies a pipe to a file in pieces of 256 KiB and flushes it at the end.
// The two take turns; "ratio" is how many times as fast the capture is.
func BenchmarkLongOutput(b *testing.B) {
	const size = 1 << 30
	args := []string{"dd", "if=/dev/zero", "bs=1M", fmt.Sprintf("count=%d", size>>20), "status=none"}
	toFile := func(fill func(file *os.File)) time.Duration {
		file, err := os.CreateTemp(b.TempDir(), "")
		if err != nil {
			b.Fatal(err)
		}
		defer func() { _ = os.Remove(file.Name()) }()
		begun := time.Now()
		fill(file)
		if err := errors.Join(file.Sync(), file.Close()); err != nil {
			b.Fatal(err)
		}
		return time.Since(begun)
	}
	plain := func(file *os.File) {
		c := exec.CommandContext(context.Background(), args[0], args[1:]...)
		pipe, err := c.StdoutPipe()
		if err != nil {
			b.Fatal(err)
		}
		if err := c.Start(); err != nil {
			b.Fatal(err)
		}
		_, copyErr := io.CopyBuffer(struct{ io.Writer }{file}, struct{ io.Reader }{pipe}, make([]byte, 256<<10))
		if err := errors.Join(copyErr, c.Wait()); err != nil {
			b.Fatal(err)
		}
	}
	r := runner.New(process.NewDriver(nil), nil)
	captured := func(file *os.File) {
		task := newTask(&navvy.Spec{Command: &navvy.Command{Args: args, Env: os.Environ(), Dir: "/"}}, fileSink{file})
		if a := r.Run(b.Context(), task); a.Outcome != navvy.OutcomeSucceeded || a.Output.Stdout != size {
			b.Fatalf("%+v", a)
		}
	}
	var tookPlain, tookCaptured time.Duration
	for b.Loop() {
		tookPlain += toFile(plain)
		tookCaptured += toFile(captured)
	}
	mb := float64(b.N) * size / 1e6
	b.ReportMetric(mb/tookPlain.Seconds(), "plain-MB/s")
	b.ReportMetric(mb/tookCaptured.Seconds(), "captured-MB/s")
	b.ReportMetric(tookPlain.Seconds()/tookCaptured.Seconds(), "ratio")
}
