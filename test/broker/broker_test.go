// Package broker_test kills real brokers and real workers without a server while requests
// are on their way, at random and from a seed: each request is answered, and under its own
// correlation id. Many requests through each broker are accounted for one by one.
package broker_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/navvy-run/navvy/internal/pause"
	"github.com/navvy-run/navvy/queue"
	"github.com/navvy-run/navvy/queue/ask"
	"github.com/navvy-run/navvy/queue/driver"
	"github.com/navvy-run/navvy/queue/natsqueue/natstest"
	"github.com/navvy-run/navvy/queue/rabbitqueue"
	"github.com/navvy-run/navvy/queue/rabbitqueue/rabbittest"
	"github.com/navvy-run/navvy/queue/redisqueue"
	"github.com/navvy-run/navvy/queue/redisqueue/redistest"
	"github.com/navvy-run/navvy/queue/servicebusqueue"
	"github.com/navvy-run/navvy/queue/servicebusqueue/servicebustest"
	"github.com/navvy-run/navvy/test/lifetest"
)

var navvy string

func TestMain(m *testing.M) {
	natstest.Serve()
	os.Exit(lifetest.RunWithNavvy(m, func(path string) { navvy = path }))
}

// broker is one that can be killed.
type broker struct {
	url           func(queue string) string
	kill, restart func(testing.TB)
	drivers       map[string]driver.Driver
	env           []string // of the workers
	// last is a queue to be made after the others: RabbitMQ writes down that a quorum queue
	// exists some seconds later, or when there is another one; killed before, it loses it.
	last string
}

func startRedis(t *testing.T) *broker {
	s := redistest.Start(t)
	return &broker{
		url:  func(queue string) string { return "redis://" + s.Addr + "/" + queue },
		kill: s.Kill, restart: s.Restart, drivers: map[string]driver.Driver{"redis": redisqueue.Driver},
	}
}

// startServiceBus starts the stand-in.
func startServiceBus(t *testing.T) *broker {
	s := servicebustest.StartOnDisk(t)
	bus := servicebusqueue.Driver(&servicebusqueue.Options{ConnectionString: s.ConnectionString()})
	return &broker{
		url:  func(queue string) string { return "azservicebus:///" + queue },
		kill: s.Kill, restart: s.Restart, drivers: map[string]driver.Driver{"azservicebus": bus},
		env: []string{"AZURE_SERVICEBUS_CONNECTION_STRING=" + s.ConnectionString()},
	}
}

func startRabbit(t *testing.T) *broker {
	s, err := rabbittest.Start()
	if errors.Is(err, rabbittest.ErrMissing) && os.Getenv("CI") == "" {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return &broker{url: s.URL, last: s.URL("last"), drivers: map[string]driver.Driver{"amqp": rabbitqueue.Driver}, kill: func(testing.TB) { s.Kill() }, restart: func(t testing.TB) {
		if err := s.Restart(); err != nil {
			t.Fatal(err)
		}
	}}
}

// TestPromises lets lives go by for as long as NAVVY_CRASH_TIME says.
func TestPromises(t *testing.T) {
	lifetest.Run(t, time.Second, func(t *testing.T, seed uint64) {
		start := startRedis
		if os.Getenv("NAVVY_CRASH_TIME") != "" { // these take longer
			switch seed % 4 {
			case 0:
				start = startRabbit
			case 1:
				start = startServiceBus
			}
		}
		// A test of its own, so that its broker ends with it.
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) { live(t, start(t), rand.New(rand.NewPCG(seed, 1)), seed) })
	})
}

// workers are a few that answer one pair of queues.
type workers struct {
	t    *testing.T
	args []string
	env  []string // besides that of the test

	mu  sync.Mutex
	all []*exec.Cmd
	log strings.Builder
}

// logged takes what the workers write.
func (w *workers) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.Write(p)
}

func (w *workers) start() *exec.Cmd {
	cmd := exec.Command(navvy, w.args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = w.t.TempDir(), io.Discard, w
	cmd.Env = append(os.Environ(), w.env...)
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	return cmd
}

// live is one life: requests, three workers, and somebody who kills.
func live(t *testing.T, b *broker, rng *rand.Rand, seed uint64) {
	const requests = 400
	in, out := b.url(fmt.Sprint("in", seed)), b.url(fmt.Sprint("out", seed))
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	w := &workers{t: t, env: b.env, args: []string{
		"worker", "start", "--requests", in, "--responses", out, "-j", "4", "--lease", "3s", "--attempts", "1000",
		"--service", "cgi-raw:/bin/sh -c 'sleep 0.0$(($$%10)); cat'",
	}}
	asker, closeAll := opened(ctx, t, b.drivers, in, out, b.last)
	for range 3 {
		w.all = append(w.all, w.start())
	}
	killing, stop := context.WithCancel(ctx)
	killed := make(chan struct{})
	go func() {
		defer close(killed)
		w.chaos(killing, b, rng)
	}()
	answers := 0
	err := asker.Run(ctx, inputs(killing, requests), func(index int64, body []byte) error {
		answers++
		if want := fmt.Sprint("request ", index); string(body) != want {
			return fmt.Errorf("answer %d is %q", index, body)
		}
		return nil
	})
	stop()
	<-killed
	w.end(err != nil || answers != requests, seed)
	if err != nil || answers != requests {
		sent, answered, _ := asker.Progress()
		t.Errorf("seed %d: %d answers given, %d of %d: %v", seed, answers, answered, sent, err)
	}
	closeAll()
}

// opened makes somebody who asks.
func opened(ctx context.Context, t *testing.T, drivers map[string]driver.Driver, urls ...string) (*ask.Asker, func()) {
	t.Helper()
	var queues []*queue.Queue
	for _, url := range urls {
		if url == "" {
			continue
		}
		q, err := queue.Open(ctx, url, drivers, &queue.Options{Outstanding: 3000, Lease: 10 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		queues = append(queues, q)
	}
	asker, err := ask.New(queues[0], queues[1], nil)
	if err != nil {
		t.Fatal(err)
	}
	return asker, func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		for _, q := range queues {
			if err := q.Close(ctx); err != nil {
				t.Error(err)
			}
		}
	}
}

// inputs are requests that come over some seconds, so that there is something to kill.
func inputs(ctx context.Context, n int) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for i := range n {
			if i%20 == 19 {
				_ = pause.For(ctx, 100*time.Millisecond)
			}
			if !yield(fmt.Append(nil, "request ", i), nil) {
				return
			}
		}
	}
}

// chaos kills workers and the broker, and starts them again, some times and then no more.
func (w *workers) chaos(ctx context.Context, b *broker, rng *rand.Rand) {
	brokers := 0
	for range 4 + rng.IntN(5) {
		if pause.For(ctx, time.Duration(rng.IntN(700))*time.Millisecond) != nil {
			return
		}
		if brokers < 2 && rng.IntN(4) == 0 {
			brokers++
			b.kill(w.t)
			_ = pause.For(ctx, time.Duration(rng.IntN(500))*time.Millisecond)
			b.restart(w.t)
			continue
		}
		i := rng.IntN(len(w.all))
		signal := []syscall.Signal{syscall.SIGKILL, syscall.SIGKILL, syscall.SIGTERM}[rng.IntN(3)]
		if err := w.all[i].Process.Signal(signal); err != nil {
			w.t.Error(err)
		}
		_ = w.all[i].Wait()
		w.all[i] = w.start()
	}
	// Those that came while the broker was away have ended.
	for i, cmd := range w.all {
		if !running(cmd) {
			_ = cmd.Wait()
			w.all[i] = w.start()
		}
	}
}

// running tells whether a process has not ended, though nobody has waited for it.
func running(cmd *exec.Cmd) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid))
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

// end ends the workers, which give back what they have, and tells what they wrote.
func (w *workers) end(tell bool, seed uint64) {
	for _, cmd := range w.all {
		_ = cmd.Process.Signal(syscall.SIGTERM)
	}
	for _, cmd := range w.all {
		_ = cmd.Wait()
	}
	if tell {
		w.t.Logf("seed %d: the workers wrote:\n%s", seed, w.log.String())
	}
}
