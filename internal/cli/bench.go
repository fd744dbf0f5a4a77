package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/internal/cli/format"
	"github.com/navvy-run/navvy/internal/holder"
)

// figure is what a benchmark measured.
type figure struct {
	values []value // in the order in which they are printed
	goal   string  // what was to be reached, in words
	ok     bool
}

// value is one number of a figure; name is its key in JSON.
type value struct {
	name string
	n    float64
	text string // for people
}

func (f *figure) add(name string, n float64, text string) {
	f.values = append(f.values, value{name, n, text})
}

// MarshalJSON writes the values as one flat object, and whether the goal was reached.
func (f *figure) MarshalJSON() ([]byte, error) {
	b := []byte("{")
	for _, v := range f.values {
		b = append(strconv.AppendQuote(b, v.name), ':', ' ')
		if v.n == float64(int64(v.n)) {
			b = strconv.AppendInt(b, int64(v.n), 10)
		} else {
			b = strconv.AppendFloat(b, v.n, 'f', 6, 64)
		}
		b = append(b, ", "...)
	}
	goal, err := json.Marshal(f.goal)
	if err != nil {
		return nil, err
	}
	b = append(append(b, `"goal": `...), goal...)
	return append(strconv.AppendBool(append(b, `, "reached": `...), f.ok), '}'), nil
}

// benchmark is one row of navvy bench.
type benchmark struct {
	name, about string
	run         func(ctx context.Context, b *bench) (*figure, error)
}

// bench is one call of navvy bench.
type bench struct {
	app  *app
	dir  string // an empty directory on the disk that is measured
	n    int    // how many tasks, rounds or jobs; 0 for the benchmark's own choice
	self string // our own program
}

func benchmarks() []benchmark {
	return []benchmark{
		{"tasks", "no-op tasks through the API, durable: submit to all results on disk", benchTasks},
		{"latency", "one task at a time on an idle system: submit to result", benchLatency},
		{"processes", "map -j 2 -- /bin/true beside xargs and GNU parallel", benchProcesses},
		{"isolated", "the same with --isolate and a ulimit", benchIsolated},
		{"submit", "submit of a million inputs from a file", benchSubmit},
		{"queued", "five million queued tasks in one job: restart and memory", benchQueued},
		{"jobs", "five million queued jobs of one task: restart, memory, next start", benchJobs},
		{"output", "one task writing 1 GiB, beside a copy of the same pipe to a file", benchOutput},
		{"start", "navvy run -- true with an empty data directory", benchStart},
		{"idle", "what a holder with nothing to do uses", benchIdle},
		{"fn-map", "50,000 calls of a Python function in batches, durable, beside Python's own pool", benchFnMap},
		{"fn-latency", "one call of a Python function at a time: submit to value", benchFnLatency},
		{"fn-idle", "what a holder with a warm pool of Python uses", benchFnIdle},
		{"services", "requests to a program that answers line by line, as tasks, durable, beside the same without tasks", benchServices},
		{"team", "no-op tasks through a server and a worker over mTLS, durable", benchTeam},
		{"team-latency", "one task at a time through an idle server and worker", benchTeamLatency},
		{"team-submit", "200 submitters of single tasks: submit to result", benchTeamSubmit},
		{"team-output", "one task writing 1 GiB through worker and server to a client", benchTeamOutput},
		{"team-readers", "1,000 readers of one task's live output: how late each line is", benchTeamReaders},
		{"team-idle", "1,000 connected workers with nothing to do: the server's memory and processor time", benchTeamIdle},
	}
}

func newBench(a *app) *cobra.Command {
	f := &listFlags{}
	var in, profile, heap string
	var n int
	cmd := &cobra.Command{
		Use: "bench [flags] [FIGURE…]", Short: "measure navvy on this machine, beside what it is compared with",
		Example: `  navvy bench
  navvy bench tasks -o json
  navvy bench processes output`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return err
			}
			if n < 0 {
				return usagef("-n %d: want a positive number", n)
			}
			stop, err := profileTo(profile, heap)
			if err != nil {
				return err
			}
			return errors.Join(a.bench(cmd.Context(), f, in, n, args), stop())
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&in, "in", "", "measure the disk of this directory (default: the one of the data directory)")
	cmd.Flags().IntVarP(&n, "count", "n", 0, "how many tasks, jobs or rounds (default: as the goal says)")
	cmd.Flags().StringVar(&profile, "cpuprofile", "", "write a CPU profile to this file")
	cmd.Flags().StringVar(&heap, "memprofile", "", "write a profile of allocations to this file")
	var long strings.Builder
	long.WriteString("bench measures, each beside what it is compared with, in one run:\n")
	for _, b := range benchmarks() {
		cmd.ValidArgs = append(cmd.ValidArgs, b.name)
		fmt.Fprintf(&long, "  %-12s %s\n", b.name, b.about)
	}
	cmd.Long = long.String() + "Other work on the machine shows in the figures: compare ratios."
	return cmd
}

// profileTo begins the profiles that are asked for; stop writes them.
func profileTo(cpu, heap string) (stop func() error, err error) {
	var stops []func() error
	if cpu != "" {
		file, err := os.Create(cpu)
		if err != nil {
			return nil, err
		}
		if err := pprof.StartCPUProfile(file); err != nil {
			return nil, err
		}
		stops = append(stops, func() error {
			pprof.StopCPUProfile()
			return file.Close()
		})
	}
	if heap != "" {
		file, err := os.Create(heap)
		if err != nil {
			return nil, err
		}
		stops = append(stops, func() error { return errors.Join(pprof.Lookup("allocs").WriteTo(file, 0), file.Close()) })
	}
	return func() error {
		var errs []error
		for _, s := range stops {
			errs = append(errs, s())
		}
		return errors.Join(errs...)
	}, nil
}

func (a *app) bench(ctx context.Context, f *listFlags, in string, n int, names []string) error {
	if in == "" {
		dir, err := a.dir()
		if err != nil {
			return err
		}
		in = dir.Path()
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	chosen, err := choose(names)
	if err != nil {
		return err
	}
	var rows [][]string
	for _, c := range chosen {
		dir, err := os.MkdirTemp(in, "bench-")
		if err != nil {
			return err
		}
		fig, err := c.run(ctx, &bench{app: a, dir: dir, n: n, self: self})
		if rmErr := os.RemoveAll(dir); err == nil {
			err = rmErr
		}
		if err != nil {
			return fmt.Errorf("bench %s: %w", c.name, err)
		}
		if f.output != "table" {
			if err := f.one(a.out, fig); err != nil {
				return err
			}
			continue
		}
		rows = append(rows, fig.rows(c.name)...)
	}
	if f.output != "table" {
		return nil
	}
	return format.Table(a.out, []string{"FIGURE", "", "MEASURED", "GOAL", ""}, rows)
}

func choose(names []string) ([]benchmark, error) {
	if len(names) == 0 {
		return benchmarks(), nil
	}
	var chosen []benchmark
	for _, name := range names {
		found := false
		for _, b := range benchmarks() {
			if b.name == name {
				chosen, found = append(chosen, b), true
			}
		}
		if !found {
			return nil, usagef("bench: there is no figure %q; see navvy bench --help", name)
		}
	}
	return chosen, nil
}

func (f *figure) rows(name string) [][]string {
	var rows [][]string
	for i, v := range f.values {
		row := []string{"", v.name, v.text, "", ""}
		if i == 0 {
			row[0] = name
		}
		if i == len(f.values)-1 {
			row[3] = f.goal
			row[4] = map[bool]string{true: "reached", false: "MISSED"}[f.ok]
		}
		rows = append(rows, row)
	}
	return rows
}

// holdHere makes this process the holder of a fresh data directory.
func (b *bench) holdHere(ctx context.Context, name string) (*holder.Holder, error) {
	return b.hold(ctx, name, true)
}

// hold is holdHere, with a worker or without: then nothing runs.
func (b *bench) hold(ctx context.Context, name string, worker bool) (*holder.Holder, error) {
	dir, err := holder.OpenDir(filepath.Join(b.dir, name))
	if err != nil {
		return nil, err
	}
	lock, _, err := dir.TryLock()
	if err != nil || lock == nil {
		return nil, fmt.Errorf("hold %s: %w", dir.Path(), err)
	}
	cfg, err := b.app.holderConfig(dir, b.app.logger())
	if err != nil {
		return nil, err
	}
	if !worker {
		cfg.Runners = nil
	}
	return holder.Start(ctx, lock, cfg)
}

// noopJob is a job of tasks that do nothing.
func noopJob(parallelism int) navvy.Job {
	return navvy.Job{Name: "bench", Detached: true, Parallelism: parallelism, Spec: navvy.Spec{Noop: &navvy.Noop{}}}
}

// submitAll submits a job with all its inputs.
func submitAll(ctx context.Context, c *client.Client, job navvy.Job, inputs [][]byte) (navvy.JobID, error) {
	sub, err := c.Submit(ctx, job, client.SubmitOptions{})
	if err != nil {
		return "", err
	}
	defer sub.Close()
	const batch = 1000
	for len(inputs) > 0 {
		n := min(batch, len(inputs))
		if err := sub.Send(inputs[:n]); err != nil {
			return "", err
		}
		inputs = inputs[n:]
	}
	if err := sub.Seal(); err != nil {
		return "", err
	}
	id, _, err := sub.Accepted(ctx)
	return id, err
}

func benchTasks(ctx context.Context, b *bench) (*figure, error) {
	n := b.n
	if n == 0 {
		n = 200_000
	}
	h, err := b.holdHere(ctx, "tasks")
	if err != nil {
		return nil, err
	}
	inputs := make([][]byte, n)
	for i := range inputs {
		inputs[i] = fmt.Appendf(nil, "%-100d", i)
	}
	c := client.New(h.Conn())
	started := time.Now()
	id, err := submitAll(ctx, c, noopJob(noopParallelism), inputs)
	if err != nil {
		return nil, err
	}
	st, err := c.Wait(ctx, id)
	took := time.Since(started)
	if _, closeErr := h.Close(ctx, false); err == nil {
		err = closeErr
	}
	if err == nil && st.Counts.Succeeded != int64(n) {
		err = fmt.Errorf("%d of %d tasks succeeded", st.Counts.Succeeded, n)
	}
	if err != nil {
		return nil, err
	}
	rate := float64(n) / took.Seconds()
	f := &figure{goal: "at least 250,000 tasks/s on 2 cores", ok: rate >= 250_000}
	f.add("tasks", float64(n), format.Count(int64(n)))
	f.add("seconds", took.Seconds(), format.Duration(took))
	f.add("tasks_per_second", rate, format.Rate(rate))
	return f, nil
}

// noopParallelism is how many no-ops are under way at once: enough to fill messages and commits.
const noopParallelism = 8192
