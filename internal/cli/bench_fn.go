package cli

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/internal/cli/format"
)

// noopFunction is a function of Python's own that gives its argument back.
const noopFunction = "operator:pos"

// withFunctions calls fn with a holder whose pool of Python is warm. Where there is no
// Python nothing is measured.
func (b *bench) withFunctions(ctx context.Context, fn func(c *client.Client) (*figure, error)) (*figure, error) {
	py, err := b.app.pythonOptions()
	if err != nil {
		return nil, err
	}
	if why := noPython(py.exe); why != nil {
		f := &figure{goal: "none: " + why.Error(), ok: true}
		f.add("calls", 0, "0")
		return f, nil
	}
	h, err := b.holdHere(ctx, "functions")
	if err != nil {
		return nil, err
	}
	c := client.New(h.Conn())
	_, err = c.Register(ctx, &navvy.FunctionVersion{Name: "noop", Form: navvy.FormReference, Entry: noopFunction})
	var f *figure
	if err == nil {
		err = callBatches(ctx, c, 64, 1)
	}
	if err == nil {
		f, err = fn(c)
	}
	_, closeErr := h.Close(ctx, false)
	return f, errors.Join(err, closeErr)
}

// callBatches makes so many calls in batches, and returns when all have their values.
func callBatches(ctx context.Context, c *client.Client, calls, batch int) error {
	var inputs [][]byte
	for from := 0; from < calls; from += batch {
		inputs = append(inputs, pickledCalls(from, min(batch, calls-from)))
	}
	job := navvy.Job{Name: "bench", Detached: true, Parallelism: runtime.NumCPU(), Spec: navvy.Spec{
		Function: &navvy.Function{Name: "noop", Encoding: navvy.EncodingPickle, Batch: true},
	}}
	id, err := submitAll(ctx, c, job, inputs)
	if err != nil {
		return err
	}
	st, err := c.Wait(ctx, id)
	if err == nil && st.Counts.Succeeded != int64(len(inputs)) {
		err = fmt.Errorf("%d of %d batches succeeded", st.Counts.Succeeded, len(inputs))
	}
	return err
}

// pickledCalls is a pickle, of protocol 4, of a list of calls with one number each.
func pickledCalls(from, n int) []byte {
	b := []byte("\x80\x04](") // a list, and a mark
	for i := range n {
		b = append(b, 'J') // a number of four bytes
		b = binary.LittleEndian.AppendUint32(b, uint32(from+i))
		b = append(b, "\x85}\x86"...) // a tuple of it, an empty dict, a tuple of both
	}
	return append(b, "e."...) // append all since the mark; the end
}

// batchCalls is how many calls a batch has: large enough that what a task costs is little
// beside them, small enough that both cores are busy to the end.
const batchCalls = 500

func benchFnMap(ctx context.Context, b *bench) (*figure, error) {
	n := b.n
	if n == 0 {
		n = 50_000
	}
	return b.withFunctions(ctx, func(c *client.Client) (*figure, error) {
		started := time.Now()
		if err := callBatches(ctx, c, n, batchCalls); err != nil {
			return nil, err
		}
		took := time.Since(started)
		pool, err := poolMap(ctx, b, n)
		if err != nil {
			return nil, err
		}
		rate, ratio := float64(n)/took.Seconds(), pool.Seconds()/took.Seconds()
		f := &figure{goal: "at least 0.5 times the rate of multiprocessing.Pool(2).map(chunksize=1)", ok: ratio >= 0.5}
		f.add("calls", float64(n), format.Count(int64(n)))
		f.add("calls_per_second", rate, format.Rate(rate))
		f.add("pool_calls_per_second", float64(n)/pool.Seconds(), format.Rate(float64(n)/pool.Seconds()))
		f.addRatio("of_the_pool", ratio)
		return f, nil
	})
}

// poolScript is the same with what Python has itself, its processes started beforehand.
const poolScript = `
import multiprocessing, operator, sys, time
if __name__ == "__main__":
    n = int(sys.argv[1])
    with multiprocessing.Pool(2) as pool:
        pool.map(operator.pos, range(64), chunksize=1)
        started = time.perf_counter()
        pool.map(operator.pos, range(n), chunksize=1)
        print(time.perf_counter() - started)
`

// poolMap measures Python's own pool.
func poolMap(ctx context.Context, b *bench, n int) (time.Duration, error) {
	options, err := b.app.pythonOptions()
	if err != nil {
		return 0, err
	}
	cmd := exec.CommandContext(ctx, options.exe, "-c", poolScript, strconv.Itoa(n))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.Output()
	if err != nil {
		return 0, fmt.Errorf("multiprocessing.Pool: %w", err)
	}
	seconds, err := strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
	return time.Duration(seconds * float64(time.Second)), err
}

func benchFnLatency(ctx context.Context, b *bench) (*figure, error) {
	n := b.n
	if n == 0 {
		n = 1000
	}
	return b.withFunctions(ctx, func(c *client.Client) (*figure, error) {
		job := navvy.Job{Name: "bench", Spec: navvy.Spec{Function: &navvy.Function{Name: "noop", Encoding: navvy.EncodingJSON}}}
		times := make([]time.Duration, n)
		for i := range times {
			started := time.Now()
			r, err := c.Run(ctx, job, []byte(`{"args":[1]}`))
			if err != nil {
				return nil, err
			}
			if times[i] = time.Since(started); r.State != navvy.Succeeded {
				return nil, fmt.Errorf("call %d: %s", i, r.Message)
			}
		}
		p50 := median(times)
		f := &figure{goal: "p50 at most 1.5 ms", ok: p50 <= 1500*time.Microsecond}
		f.addTime("call_p50", p50)
		f.addTime("call_p99", times[len(times)*99/100])
		return f, nil
	})
}

func benchFnIdle(ctx context.Context, b *bench) (*figure, error) {
	seconds := b.n
	if seconds == 0 {
		seconds = 10
	}
	return b.withFunctions(ctx, func(*client.Client) (*figure, error) {
		return idle(ctx, seconds, func() (time.Duration, error) { return familyTime(os.Getpid()) })
	})
}

// familyTime is what a process and all that it has started, and that is there, have used.
func familyTime(pid int) (time.Duration, error) {
	used, err := cpuOf(pid)
	if err != nil {
		return 0, err
	}
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return 0, err
	}
	for _, list := range lists {
		text, err := os.ReadFile(list)
		if errors.Is(err, fs.ErrNotExist) {
			continue // that thread has ended
		} else if err != nil {
			return 0, err
		}
		for word := range strings.FieldsSeq(string(text)) {
			child, err := strconv.Atoi(word)
			if err != nil {
				return 0, err
			}
			more, err := familyTime(child)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return 0, err
			}
			used += more
		}
	}
	return used, nil
}
