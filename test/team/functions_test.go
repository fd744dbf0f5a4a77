package team

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	domain "github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/internal/pythontest"
	"github.com/navvy-run/navvy/output"
	"github.com/navvy-run/navvy/test/lifetest"
)

// score is the function that is called while everybody dies: now and then it takes a while.
const score = `
import time

def score(x):
    print("scoring", x)
    time.sleep((x % 7) * 0.01)
    if x % 10 == 9:
        raise ValueError(f"{x} is too odd")
    return x * x
`

// TestFunctions lets Python hosts, workers and the server die at random while functions
// are called: each accepted call ends once, with its value, its exception, or the death
// of its host as the reason. A failure prints its seed, see TestPromises.
func TestFunctions(t *testing.T) {
	t.Parallel()
	pythontest.Need(t)
	lifetest.Run(t, 5*time.Second, func(t *testing.T, seed uint64) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			m := newTeam(t, options{server: []string{"--dispatch", []string{"pull", "push", "round-robin"}[rng.IntN(3)]}})
			for _, name := range []string{"w0", "w1"} {
				m.hire(name, m.addr, 1+rng.IntN(3))
			}
			f, err := m.admin.Register(t.Context(), &domain.FunctionVersion{Name: "score", Form: domain.FormSource, Code: []byte(score), Entry: "score"})
			m.must(err)
			m.callWhile(f, func(ctx context.Context) { m.killAround(ctx, rng) })
			m.end()
		})
	})
}

// calls is how many functions are called in a life, and callers by how many at once.
const (
	calls   = 300
	callers = 6
)

// callWhile calls a function again and again until the disturbance is over, and checks
// each answer.
func (m *team) callWhile(f *domain.FunctionVersion, disturb func(context.Context)) {
	m.Helper()
	ctx, cancel := context.WithTimeout(m.Context(), patience)
	defer cancel()
	numbers := make(chan int)
	g, ctx := errgroup.WithContext(ctx)
	var all sync.Map
	for range callers {
		g.Go(func() error {
			for n := range numbers {
				job, err := m.callOnce(ctx, f, n)
				if err != nil {
					return fmt.Errorf("call %d: %w", n, err)
				}
				if other, twice := all.LoadOrStore(job, n); twice {
					return fmt.Errorf("calls %d and %d are one job, %s", n, other, job)
				}
			}
			return nil
		})
	}
	g.Go(func() error {
		defer close(numbers)
		for n := range calls {
			select {
			case numbers <- n:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		return nil
	})
	disturb(ctx)
	m.must(g.Wait())
	jobs, good := 0, int64(0)
	for j, err := range m.admin.Jobs(m.Context()) {
		m.must(err)
		jobs++
		good += j.Status.Counts.Succeeded
		if c := j.Status.Counts; c.Succeeded+c.Failed != 1 || c.Queued+c.Running+c.Stopped != 0 {
			m.Errorf("job %s: %+v", j.ID, c)
		}
	}
	if jobs != calls || good < calls/2 {
		m.Errorf("%d jobs of %d calls, %d of them good", jobs, calls, good)
	}
}

// callOnce makes one call until it is answered, however often the server dies.
func (m *team) callOnce(ctx context.Context, f *domain.FunctionVersion, n int) (domain.JobID, error) {
	job := domain.Job{
		IdempotencyKey: fmt.Sprint("call ", n), Detached: true,
		Spec: domain.Spec{
			Function: &domain.Function{ID: f.ID, Encoding: domain.EncodingJSON},
			Retry:    domain.Retry{Max: n % 4, Backoff: 10 * time.Millisecond}, Timeout: 30 * time.Second,
		},
	}
	for {
		res, err := m.admin.Run(ctx, job, fmt.Appendf(nil, `{"args": [%d]}`, n))
		switch {
		case err == nil:
			return res.Task.Job, m.judgeCall(ctx, n, &res)
		case ctx.Err() != nil:
			return "", context.Cause(ctx)
		case !errors.Is(err, domain.ErrUnavailable):
			return "", err
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// judgeCall tells whether an answer is one that the call may have.
func (m *team) judgeCall(ctx context.Context, n int, res *domain.Result) error {
	value, err := m.admin.Read(ctx, &client.Answer{Result: *res}, output.Value)
	if err != nil {
		return err
	}
	printed, err := m.admin.Read(ctx, &client.Answer{Result: *res}, output.Stdout)
	if err != nil {
		return err
	}
	wrote := string(printed) == fmt.Sprintf("scoring %d\n", n)
	switch {
	case res.State == domain.Succeeded && n%10 != 9 && string(value) == strconv.Itoa(n*n) && wrote:
	case res.Reason == domain.ReasonException && n%10 == 9 && res.Message == fmt.Sprintf("ValueError: %d is too odd", n) && wrote:
	case res.Reason == domain.ReasonSignal && strings.Contains(res.Message, "signal 9"): // its host was killed
	case res.Reason == domain.ReasonLost && res.Attempts >= 3:
	default:
		return fmt.Errorf("%s %s %q, value %q, printed %q", res.State, res.Reason, res.Message, value, printed)
	}
	return nil
}

// killAround kills hosts, workers and the server, some at a time, and brings them back.
func (m *team) killAround(ctx context.Context, rng *rand.Rand) {
	for range 6 + rng.IntN(6) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Duration(rng.Int64N(int64(500 * time.Millisecond)))):
		}
		c := m.crews[fmt.Sprint("w", rng.IntN(2))]
		switch n := rng.IntN(10); {
		case n < 6:
			killHosts(c.cmd.Process.Pid)
		case n < 8:
			if !c.ended() {
				c.kill()
			}
			m.work(c)
		default:
			m.server.kill()
			m.begin()
		}
	}
	for _, c := range m.crews {
		if c.ended() {
			m.work(c)
		}
	}
}

// killHosts kills the processes that a worker has started.
func killHosts(worker int) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is good
	for _, name := range stats {
		stat, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		_, rest, ok := strings.Cut(string(stat), ") ")
		fields := strings.Fields(rest)
		if !ok || len(fields) < 2 || fields[1] != strconv.Itoa(worker) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name))); err == nil {
			_ = unix.Kill(pid, unix.SIGKILL) // it may have ended
		}
	}
}
