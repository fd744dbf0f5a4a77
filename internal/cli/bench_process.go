package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy/internal/cli/format"
)

func fdatasync(f *os.File) error { return unix.Fdatasync(int(f.Fd())) }

// trueProgram is what the benchmarks of processes run.
const trueProgram = "/bin/true"

// race is navvy map beside others that start as many processes, and what it is to reach.
type race struct {
	flags           []string // of navvy map
	xargs, parallel float64  // at least so much of their speed
}

func benchProcesses(ctx context.Context, b *bench) (*figure, error) {
	return race{xargs: 1.2, parallel: 7}.run(ctx, b)
}

func benchIsolated(ctx context.Context, b *bench) (*figure, error) {
	return race{flags: []string{"--isolate", "--ulimit", "nofile=1024"}, xargs: 0.75, parallel: 4.5}.run(ctx, b)
}

// lap is how long each took for the same tasks; gnu is zero where there is no parallel.
type lap struct{ navvy, xargs, bare, gnu time.Duration }

func (r race) run(ctx context.Context, b *bench) (*figure, error) {
	n := b.n
	if n == 0 {
		n = 20_000
	}
	took, err := r.laps(ctx, b, n)
	if err != nil {
		return nil, err
	}
	f := &figure{goal: fmt.Sprintf("at least %g of xargs, %g of parallel", r.xargs, r.parallel)}
	f.add("tasks", float64(n), format.Count(int64(n)))
	rate := func(name string, took time.Duration) {
		f.add(name, float64(n)/took.Seconds(), format.Rate(float64(n)/took.Seconds()))
	}
	rate("xargs_per_second", took.xargs)
	rate("bare_exec_per_second", took.bare)
	rate("navvy_per_second", took.navvy)
	toXargs := took.xargs.Seconds() / took.navvy.Seconds()
	f.ok = toXargs >= r.xargs
	if took.gnu > 0 {
		rate("parallel_per_second", took.gnu)
		toParallel := took.gnu.Seconds() / took.navvy.Seconds()
		f.addRatio("ratio_to_parallel", toParallel)
		f.ok = f.ok && toParallel >= r.parallel
	}
	f.addRatio("bare_exec_to_xargs", took.xargs.Seconds()/took.bare.Seconds())
	f.addRatio("ratio_to_bare_exec", took.bare.Seconds()/took.navvy.Seconds())
	f.addRatio("ratio_to_xargs", toXargs)
	return f, nil
}

// laps runs all of them in turns, and takes the medians.
func (r race) laps(ctx context.Context, b *bench, n int) (lap, error) {
	var lines strings.Builder
	for i := range n {
		fmt.Fprintln(&lines, i)
	}
	inputs := []byte(lines.String())
	const rounds = 3
	var ours, xargs, bare []time.Duration
	for i := range rounds {
		took, err := b.command(ctx, inputs, []string{"xargs", "-P2", "-n1", trueProgram})
		if err != nil {
			return lap{}, err
		}
		xargs = append(xargs, took)
		command := slices.Concat([]string{b.self, "map", "--data", filepath.Join(b.dir, fmt.Sprint("map", i)), "-j", "2"}, r.flags, []string{"--", trueProgram})
		if took, err = b.command(ctx, inputs, command); err != nil {
			return lap{}, err
		}
		ours = append(ours, took)
		if took, err = bareExec(ctx, n); err != nil {
			return lap{}, err
		}
		bare = append(bare, took)
	}
	gnu, err := gnuParallel(ctx, b, inputs, n)
	return lap{navvy: median(ours), xargs: median(xargs), bare: median(bare), gnu: gnu}, err
}

// gnuParallel is how long GNU parallel takes; zero if it is not there.
func gnuParallel(ctx context.Context, b *bench, inputs []byte, n int) (time.Duration, error) {
	parallel, err := exec.LookPath("parallel")
	if err != nil {
		return 0, nil //nolint:nilerr // then there is nothing to compare with
	}
	// It is some times slower: a tenth of the inputs tells as much.
	tenth := inputs[:bytes.Index(inputs, fmt.Appendf(nil, "\n%d\n", n/10))+1]
	took, err := b.command(ctx, tenth, []string{parallel, "--will-cite", "-j2", trueProgram})
	return took * 10, err
}

// bareExec is the limit: the same processes, two at a time, their output
// captured by os/exec, and nothing else.
func bareExec(ctx context.Context, n int) (time.Duration, error) {
	var next atomic.Int64
	started := time.Now()
	g, ctx := errgroup.WithContext(ctx)
	for range 2 {
		g.Go(func() error {
			for i := next.Add(1); i <= int64(n); i = next.Add(1) {
				var output bytes.Buffer
				cmd := exec.CommandContext(ctx, trueProgram, strconv.FormatInt(i, 10))
				cmd.Stdout, cmd.Stderr = &output, &output
				if err := cmd.Run(); err != nil {
					return fmt.Errorf("%s: %w", trueProgram, err)
				}
			}
			return nil
		})
	}
	err := g.Wait()
	return time.Since(started), err
}

// command runs a whole command, and tells how long it took.
func (b *bench) command(ctx context.Context, stdin []byte, args []string) (time.Duration, error) {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Dir = bytes.NewReader(stdin), io.Discard, b.dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	cmd.Env = append(b.app.environ(), "PARALLEL_HOME="+b.dir)
	started := time.Now()
	if err := cmd.Run(); err != nil {
		return 0, fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, stderr.String())
	}
	return time.Since(started), nil
}

func benchStart(ctx context.Context, b *bench) (*figure, error) {
	n := b.n
	if n == 0 {
		n = 21
	}
	var times []time.Duration
	for i := range n {
		took, err := b.command(ctx, nil, []string{b.self, "run", "--data", filepath.Join(b.dir, fmt.Sprint("run", i)), "--", "true"})
		if err != nil {
			return nil, err
		}
		times = append(times, took)
	}
	took := median(times)
	f := &figure{goal: "at most 60 ms", ok: took <= 60*time.Millisecond}
	f.addTime("start_p50", took)
	return f, nil
}

func benchIdle(ctx context.Context, b *bench) (*figure, error) {
	seconds := b.n
	if seconds == 0 {
		seconds = 10
	}
	h, err := b.holdHere(ctx, "idle")
	if err != nil {
		return nil, err
	}
	f, err := idle(ctx, seconds, cpuTime)
	_, closeErr := h.Close(ctx, false)
	return f, errors.Join(err, closeErr)
}

// idle measures what is used while nothing happens.
func idle(ctx context.Context, seconds int, cpuTime func() (time.Duration, error)) (*figure, error) {
	before, err := cpuTime()
	if err != nil {
		return nil, err
	}
	select {
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-time.After(time.Duration(seconds) * time.Second):
	}
	after, err := cpuTime()
	if err != nil {
		return nil, err
	}
	share := (after - before).Seconds() / float64(seconds) * 100
	f := &figure{goal: "less than 0.2 % of a core", ok: share < 0.2}
	f.add("seconds", float64(seconds), fmt.Sprint(seconds))
	f.add("cpu_percent", share, fmt.Sprintf("%.4f %%", share))
	return f, nil
}

// cpuTime is what this process has used.
func cpuTime() (time.Duration, error) {
	var u syscall.Rusage
	err := syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), err
}
