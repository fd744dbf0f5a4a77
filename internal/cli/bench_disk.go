package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/quantity"
)

// median of measured times; it sorts them.
func median(times []time.Duration) time.Duration {
	slices.Sort(times)
	return times[len(times)/2]
}

func milliseconds(d time.Duration) float64 { return d.Seconds() * 1e3 }

func (f *figure) addTime(name string, d time.Duration) {
	f.add(name+"_ms", milliseconds(d), fmt.Sprintf("%.3f ms", milliseconds(d)))
}

func (f *figure) addRatio(name string, r float64) { f.add(name, r, fmt.Sprintf("%.2f", r)) }

// syncer writes a little to a file and waits until it is on disk: the least that
// one durable step can cost.
type syncer struct {
	file *os.File
	off  int64
}

func newSyncer(dir string) (*syncer, error) {
	file, err := os.Create(filepath.Join(dir, "fsync"))
	if err != nil {
		return nil, err
	}
	// Allocated beforehand, as a write-ahead log is: the sync then writes no metadata.
	if _, err := file.Write(make([]byte, 8<<20)); err != nil {
		return nil, err
	}
	return &syncer{file: file}, file.Sync()
}

func (s *syncer) once() (time.Duration, error) {
	started := time.Now()
	_, err := s.file.WriteAt(make([]byte, 512), s.off)
	if err == nil {
		err = fdatasync(s.file)
	}
	s.off = (s.off + 512) % (8 << 20)
	return time.Since(started), err
}

func benchLatency(ctx context.Context, b *bench) (*figure, error) {
	n := b.n
	if n == 0 {
		n = 1000
	}
	h, err := b.holdHere(ctx, "latency")
	if err != nil {
		return nil, err
	}
	f, err := b.measureLatency(ctx, client.New(h.Conn()), n, "p50 at most 2 fsyncs + 0.3 ms",
		func(sync time.Duration) time.Duration { return 2*sync + 300*time.Microsecond })
	if err != nil {
		return nil, err
	}
	_, err = h.Close(ctx, false)
	return f, err
}

// measureLatency runs n tasks one after the other, each beside an fsync, and compares
// the median with the limit that the median fsync sets.
func (b *bench) measureLatency(ctx context.Context, c *client.Client, n int, goal string, limitOf func(sync time.Duration) time.Duration) (*figure, error) {
	s, err := newSyncer(b.dir)
	if err != nil {
		return nil, err
	}
	defer s.file.Close()
	var tasks, syncs []time.Duration
	for range n {
		took, err := roundTrip(ctx, c)
		if err != nil {
			return nil, err
		}
		tasks = append(tasks, took)
		if took, err = s.once(); err != nil {
			return nil, err
		}
		syncs = append(syncs, took)
	}
	task, sync := median(tasks), median(syncs)
	limit := limitOf(sync)
	f := &figure{goal: goal, ok: task <= limit}
	f.addTime("fsync_p50", sync)
	f.addTime("limit", limit)
	f.addTime("task_p50", task)
	f.addTime("task_p99", tasks[len(tasks)*99/100])
	return f, nil
}

// roundTrip runs one task and reads its answer.
func roundTrip(ctx context.Context, c *client.Client) (time.Duration, error) {
	started := time.Now()
	job := noopJob(1)
	job.Detached = false
	sub, err := c.Submit(ctx, job, client.SubmitOptions{})
	if err != nil {
		return 0, err
	}
	defer sub.Close()
	if err := sub.Send([][]byte{[]byte("x")}); err != nil {
		return 0, err
	}
	if err := sub.Seal(); err != nil {
		return 0, err
	}
	id, _, err := sub.Accepted(ctx)
	if err != nil {
		return 0, err
	}
	for a, err := range c.Results(ctx, id, client.ResultsOptions{Follow: true}) {
		if err != nil {
			return 0, err
		}
		if a.State != navvy.Succeeded {
			return 0, fmt.Errorf("task %s: %s", a.Task, a.Message)
		}
	}
	return time.Since(started), nil
}

// outputSize is how much the one task writes.
const outputSize = 1 << 30

func benchOutput(ctx context.Context, b *bench) (*figure, error) {
	size := int64(outputSize)
	if b.n > 0 {
		size = int64(b.n) << 20
	}
	rounds := 3
	var ours, copies []time.Duration
	for i := range rounds {
		took, err := b.copyPipe(ctx, size)
		if err != nil {
			return nil, err
		}
		copies = append(copies, took)
		if took, err = b.captureOutput(ctx, size, i); err != nil {
			return nil, err
		}
		ours = append(ours, took)
	}
	mine, plain := median(ours), median(copies)
	ratio := plain.Seconds() / mine.Seconds()
	f := &figure{goal: "at least 0.8 of the copy's speed", ok: ratio >= 0.8}
	f.add("bytes", float64(size), quantity.Size(size))
	f.addTime("copy_and_sync", plain)
	f.addTime("navvy", mine)
	f.addRatio("ratio", ratio)
	return f, nil
}

// writer is the command that writes size bytes to its standard output.
func writer(size int64) []string { return []string{"head", "-c", fmt.Sprint(size), "/dev/zero"} }

// copyPipe copies what the command writes to a file, and syncs that.
func (b *bench) copyPipe(ctx context.Context, size int64) (took time.Duration, err error) {
	args := writer(size)
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	path := filepath.Join(b.dir, "copy")
	file, err := os.Create(path)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.Remove(path)) }()
	defer file.Close()
	started := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	if _, err := io.CopyBuffer(struct{ io.Writer }{file}, struct{ io.Reader }{pipe}, make([]byte, 256<<10)); err != nil {
		return 0, err
	}
	if err := cmd.Wait(); err != nil {
		return 0, err
	}
	if err := file.Sync(); err != nil {
		return 0, err
	}
	return time.Since(started), nil
}

// captureOutput runs the same command as a task.
func (b *bench) captureOutput(ctx context.Context, size int64, round int) (took time.Duration, err error) {
	name := fmt.Sprintf("output%d", round)
	h, err := b.holdHere(ctx, name)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(filepath.Join(b.dir, name))) }()
	job := navvy.Job{Detached: true, Parallelism: 1, Spec: navvy.Spec{Command: &navvy.Command{
		Args: writer(size), Literal: true, Env: b.app.environ(), Dir: "/",
	}}}
	c := client.New(h.Conn())
	started := time.Now()
	id, err := submitAll(ctx, c, job, [][]byte{{}})
	if err != nil {
		return 0, err
	}
	st, err := c.Wait(ctx, id)
	took = time.Since(started)
	if err == nil && st.Counts.Succeeded != 1 {
		err = fmt.Errorf("the task failed")
	}
	if _, closeErr := h.Close(ctx, false); err == nil {
		err = closeErr
	}
	return took, err
}
