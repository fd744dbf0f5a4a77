package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/internal/cli/format"
	"github.com/navvy-run/navvy/internal/input"
	"github.com/navvy-run/navvy/quantity"
)

// part is what a process of its own measured, so that its memory is its own.
type part struct {
	First   navvy.JobID `json:"first"` // the job that is served first
	Seconds float64     `json:"seconds"`
	Next    float64     `json:"next_seconds"` // from the start to the first answer
	Peak    int64       `json:"peak"`         // resident memory, in bytes
	Now     int64       `json:"now"`
}

// newBenchPart is the hidden verb that measures a part in a process of its own.
func newBenchPart(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "bench-part NAME DIR FILE|JOB", Hidden: true, Args: cobra.ExactArgs(3),
		RunE: func(cmd *cobra.Command, args []string) error {
			b := &bench{app: a, dir: args[1]}
			var p part
			var err error
			switch args[0] {
			case "submit":
				p, err = b.submitPart(cmd.Context(), args[2])
			case "restart":
				p, err = b.restartPart(cmd.Context(), navvy.JobID(args[2]))
			default:
				err = usagef("bench-part %s: there is no such part", args[0])
			}
			if err != nil {
				return err
			}
			return json.NewEncoder(a.out).Encode(p)
		},
	}
}

// part runs a part in a process of its own.
func (b *bench) part(ctx context.Context, args ...string) (part, error) {
	var p part
	cmd := exec.CommandContext(ctx, b.self, append([]string{"bench-part"}, args...)...)
	cmd.Env = b.app.environ()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return p, fmt.Errorf("%w: %s", err, stderr.String())
	}
	return p, json.Unmarshal(out, &p)
}

// memory is the resident memory of this process now, and at its highest.
func memory() (now, peak int64, err error) { return memoryOf("self") }

// memoryOf is that of a process, as /proc names it.
func memoryOf(pid string) (now, peak int64, err error) {
	b, err := os.ReadFile("/proc/" + pid + "/status")
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(b)) {
		if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &now); err == nil {
			continue
		}
		_, _ = fmt.Sscanf(line, "VmHWM: %d kB", &peak) // most lines are others
	}
	if now == 0 || peak == 0 {
		return 0, 0, fmt.Errorf("/proc/%s/status does not tell the resident memory", pid)
	}
	return now << 10, peak << 10, nil
}

func benchSubmit(ctx context.Context, b *bench) (*figure, error) {
	n := b.n
	if n == 0 {
		n = 1_000_000
	}
	path := filepath.Join(b.dir, "inputs")
	if err := writeInputs(path, n); err != nil {
		return nil, err
	}
	p, err := b.part(ctx, "submit", b.dir, path)
	if err != nil {
		return nil, err
	}
	f := &figure{goal: "at most 1.5 s and 150 MB", ok: p.Seconds <= 1.5 && p.Peak <= 150e6}
	f.add("inputs", float64(n), format.Count(int64(n)))
	f.add("seconds", p.Seconds, fmt.Sprintf("%.2f s", p.Seconds))
	f.add("peak_bytes", float64(p.Peak), quantity.Size(p.Peak))
	return f, nil
}

func writeInputs(path string, n int) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(file)
	for i := range n {
		if _, err := fmt.Fprintf(w, "input number %d of the file\n", i); err != nil {
			return err
		}
	}
	return errors.Join(w.Flush(), file.Close())
}

// submitPart submits the lines of a file, and ends when the job is accepted.
func (b *bench) submitPart(ctx context.Context, path string) (part, error) {
	h, err := b.hold(ctx, "store", false)
	if err != nil {
		return part{}, err
	}
	started := time.Now()
	in, err := input.Open([]input.Source{{File: path}}, nil)
	if err != nil {
		return part{}, err
	}
	defer in.Close()
	sub, err := client.New(h.Conn()).Submit(ctx, noopJob(1), client.SubmitOptions{})
	if err != nil {
		return part{}, err
	}
	at := &attachment{input: in}
	if err := at.feed(ctx, sub); err != nil {
		return part{}, err
	}
	id, _, err := sub.Accepted(ctx)
	if err != nil {
		return part{}, err
	}
	took := time.Since(started)
	now, peak, err := memory()
	if err != nil {
		return part{}, err
	}
	sub.Close()
	_, err = h.Close(ctx, false)
	return part{First: id, Seconds: took.Seconds(), Now: now, Peak: peak}, err
}

func benchQueued(ctx context.Context, b *bench) (*figure, error) {
	n := b.n
	if n == 0 {
		n = 5_000_000
	}
	path := filepath.Join(b.dir, "inputs")
	if err := writeInputs(path, n); err != nil {
		return nil, err
	}
	submitted, err := b.part(ctx, "submit", b.dir, path)
	if err != nil {
		return nil, err
	}
	p, err := b.part(ctx, "restart", b.dir, string(submitted.First))
	if err != nil {
		return nil, err
	}
	f := &figure{goal: "restart at most 1 s, 100 MB resident", ok: p.Seconds <= 1 && p.Now <= 100e6}
	f.add("tasks", float64(n), format.Count(int64(n)))
	f.add("restart_seconds", p.Seconds, fmt.Sprintf("%.3f s", p.Seconds))
	f.add("first_answer_seconds", p.Next, fmt.Sprintf("%.3f s", p.Next))
	f.add("resident_bytes", float64(p.Now), quantity.Size(p.Now))
	return f, nil
}

func benchJobs(ctx context.Context, b *bench) (*figure, error) {
	n := b.n
	if n == 0 {
		n = 5_000_000
	}
	first, took, err := b.fillJobs(ctx, n)
	if err != nil {
		return nil, err
	}
	p, err := b.part(ctx, "restart", b.dir, string(first))
	if err != nil {
		return nil, err
	}
	f := &figure{goal: "restart at most 3 s, 150 MB resident", ok: p.Seconds <= 3 && p.Now <= 150e6}
	f.add("jobs", float64(n), format.Count(int64(n)))
	f.add("submits_per_second", float64(n)/took.Seconds(), format.Rate(float64(n)/took.Seconds()))
	f.add("restart_seconds", p.Seconds, fmt.Sprintf("%.3f s", p.Seconds))
	f.add("first_answer_seconds", p.Next, fmt.Sprintf("%.3f s", p.Next))
	f.add("resident_bytes", float64(p.Now), quantity.Size(p.Now))
	return f, nil
}

// fillJobs submits n jobs of one task, which do not run now, and names the first.
func (b *bench) fillJobs(ctx context.Context, n int) (first navvy.JobID, took time.Duration, err error) {
	h, err := b.hold(ctx, "store", false)
	if err != nil {
		return "", 0, err
	}
	c := client.New(h.Conn())
	if first, err = submitAll(ctx, c, noopJob(1), [][]byte{[]byte("x")}); err != nil {
		return "", 0, err
	}
	started := time.Now()
	const submitters = 256
	errs := make(chan error, submitters)
	for i := range submitters {
		go func() { errs <- submitJobs(ctx, c, (n-1+i)/submitters) }()
	}
	for range submitters {
		err = errors.Join(err, <-errs)
	}
	took = time.Since(started)
	_, closeErr := h.Close(ctx, false)
	return first, took, errors.Join(err, closeErr)
}

func submitJobs(ctx context.Context, c *client.Client, n int) error {
	for range n {
		if _, err := submitAll(ctx, c, noopJob(1), [][]byte{[]byte("x")}); err != nil {
			return err
		}
	}
	return nil
}

// restartPart becomes the holder of what is there, without a worker, and tells
// how long that took and what it weighs; then once more with one, and tells how
// long it takes until the first job has an answer.
func (b *bench) restartPart(ctx context.Context, first navvy.JobID) (part, error) {
	started := time.Now()
	h, err := b.hold(ctx, "store", false)
	if err != nil {
		return part{}, err
	}
	if _, err := client.New(h.Conn()).Get(ctx, first); err != nil {
		return part{}, err
	}
	took := time.Since(started)
	now, peak, err := memory()
	if err != nil {
		return part{}, err
	}
	if _, err := h.Close(ctx, false); err != nil {
		return part{}, err
	}
	started = time.Now()
	if h, err = b.hold(ctx, "store", true); err != nil {
		return part{}, err
	}
	for _, err := range client.New(h.Conn()).Results(ctx, first, client.ResultsOptions{Follow: true, Limit: 1}) {
		if err != nil {
			return part{}, err
		}
	}
	next := time.Since(started)
	ending, cancel := context.WithTimeout(ctx, time.Second) // there is no end of them
	defer cancel()
	_, err = h.Close(ending, true)
	return part{Seconds: took.Seconds(), Next: next.Seconds(), Now: now, Peak: peak}, err
}
