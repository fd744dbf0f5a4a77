package cli

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/internal/cli/format"
)

// serviceParallelism is how many requests are with the service at once.
const serviceParallelism = 2048

// benchServices has a program that answers line by line answer the inputs of a job, and
// then the same without a job around them.
func benchServices(ctx context.Context, b *bench) (*figure, error) {
	n := b.n
	if n == 0 {
		n = 200_000
	}
	cat, err := exec.LookPath("cat")
	if err != nil {
		return nil, err
	}
	inputs := make([][]byte, n)
	for i := range inputs {
		inputs[i] = fmt.Appendf(nil, "%-100d", i)
	}
	form := "lines:" + cat
	took, err := b.serviceJob(ctx, form, inputs)
	if err != nil {
		return nil, err
	}
	bare, err := b.bareService(ctx, form, inputs)
	if err != nil {
		return nil, err
	}
	rate := func(d time.Duration) float64 { return float64(n) / d.Seconds() }
	f := &figure{goal: "at least 50,000 bare invocations/s on 2 cores", ok: rate(bare) >= 50_000}
	f.add("tasks", float64(n), format.Count(int64(n)))
	f.add("tasks_per_second", rate(took), format.Rate(rate(took)))
	f.add("invocations_per_second", rate(bare), format.Rate(rate(bare)))
	f.addRatio("of_bare_invocations", rate(took)/rate(bare))
	return f, nil
}

// serviceJob is how long a service takes for a job: from its submit to all answers on disk.
func (b *bench) serviceJob(ctx context.Context, form string, inputs [][]byte) (time.Duration, error) {
	h, err := b.holdHere(ctx, "services")
	if err != nil {
		return 0, err
	}
	c := client.New(h.Conn())
	started := time.Now()
	id, err := submitAll(ctx, c, navvy.Job{
		Name: "bench", Detached: true, Parallelism: serviceParallelism,
		Spec: navvy.Spec{Service: &navvy.Service{Form: form, Dir: b.dir}},
	}, inputs)
	var st navvy.Status
	if err == nil {
		st, err = c.Wait(ctx, id)
	}
	took := time.Since(started)
	_, closeErr := h.Close(ctx, false)
	if err == nil && st.Counts.Succeeded != int64(len(inputs)) {
		err = fmt.Errorf("%d of %d tasks succeeded", st.Counts.Succeeded, len(inputs))
	}
	return took, errors.Join(err, closeErr)
}

// bareService is how long as many invocations take of a service that nobody manages.
func (b *bench) bareService(ctx context.Context, form string, inputs [][]byte) (time.Duration, error) {
	s, err := openBare(ctx, form, filepath.Join(b.dir, "bare"), b.dir)
	if err != nil {
		return 0, err
	}
	var all sync.WaitGroup
	var next, failed atomic.Int64
	started := time.Now()
	for range serviceParallelism {
		all.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(inputs)); i = next.Add(1) - 1 {
				if answer, err := s.ask(ctx, inputs[i]); err != nil || len(answer) != len(inputs[i]) {
					failed.Add(1)
				}
			}
		})
	}
	all.Wait()
	took := time.Since(started)
	if n := failed.Load(); n > 0 {
		err = fmt.Errorf("%d of %d invocations failed", n, len(inputs))
	}
	return took, errors.Join(err, s.Close(ctx))
}
