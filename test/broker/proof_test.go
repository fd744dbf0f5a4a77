package broker_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/navvy-run/navvy/queue"
	"github.com/navvy-run/navvy/queue/driver"
	"github.com/navvy-run/navvy/queue/natsqueue"
	"github.com/navvy-run/navvy/queue/natsqueue/natstest"
	"github.com/navvy-run/navvy/queue/storagequeue"
	"github.com/navvy-run/navvy/queue/storagequeue/azuritetest"
)

// TestEveryResponse sends many requests through each real broker, kills one of the workers
// on the way, and accounts for each response by its correlation id: none is missing, and a
// request is answered twice only if its first worker was killed or told that its lease was
// lost. NAVVY_PROOF_MESSAGES is how many: 20,000 unless it is set, which a machine of two
// cores does in some seconds for each broker. Azurite, an emulator over HTTP, gets one for
// fifty of the others.
func TestEveryResponse(t *testing.T) {
	t.Parallel()
	n := 20_000
	if env := os.Getenv("NAVVY_PROOF_MESSAGES"); env != "" {
		var err error
		if n, err = strconv.Atoi(env); err != nil || n < 50 {
			t.Fatalf("NAVVY_PROOF_MESSAGES is %q: a number from 50 on", env)
		}
	}
	for name, open := range map[string]func(t *testing.T) *proof{
		"redis": func(t *testing.T) *proof {
			b := startRedis(t)
			return &proof{in: b.url("in"), out: b.url("out"), slots: 200, share: 1, drivers: b.drivers}
		},
		"amqp": func(t *testing.T) *proof {
			b := startRabbit(t)
			return &proof{in: b.url("in"), out: b.url("out"), slots: 200, share: 1, drivers: b.drivers}
		},
		"nats": func(t *testing.T) *proof {
			url := "nats://" + natstest.Start(t, nil).Addr + "/"
			return &proof{in: url + "in", out: url + "out", slots: 200, share: 1, drivers: map[string]driver.Driver{"nats": natsqueue.Driver}}
		},
		"azqueue": func(t *testing.T) *proof {
			secret, form := azuritetest.Start(t).ConnectionString(), "azqueue://"+azuritetest.Account+"/%s?interval=50ms&envelope=json"
			return &proof{
				in: fmt.Sprintf(form, "requests"), out: fmt.Sprintf(form, "responses"), slots: 10, share: 50,
				env:     []string{"AZURE_STORAGE_CONNECTION_STRING=" + secret},
				drivers: map[string]driver.Driver{"azqueue": storagequeue.Driver(&storagequeue.Options{ConnectionString: secret})},
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := open(t)
			p.t, p.n = t, n/p.share
			p.run()
		})
	}
}

// leaseOfProof is long enough for workers that have much to do, and short enough to wait
// until that of a killed worker is over.
const leaseOfProof = 10 * time.Second

// proof is one broker's part.
type proof struct {
	t       *testing.T
	in, out string
	drivers map[string]driver.Driver
	env     []string // of the workers
	slots   int      // of a worker
	share   int      // one request for so many
	n       int      // requests

	workers *workers
	half    chan struct{} // closed when half of the requests are answered

	// Of the one who collects.
	answered  int
	responses map[string]int // of each request, by its id
	seen      map[string]bool
	last      time.Time // when the last response came
}

func (p *proof) run() {
	ctx, cancel := context.WithTimeout(p.t.Context(), 15*time.Minute)
	defer cancel()
	p.responses, p.seen, p.half = map[string]int{}, map[string]bool{}, make(chan struct{})
	requests, responses := p.open(ctx, p.in), p.open(ctx, p.out)
	p.workers = &workers{t: p.t, env: p.env, args: []string{
		"worker", "start", "--requests", p.in, "--responses", p.out, "--service", "echo",
		"-j", strconv.Itoa(p.slots), "--lease", leaseOfProof.String(),
	}}
	begun := time.Now()
	p.workers.all = append(p.workers.all, p.workers.start(), p.workers.start())
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return p.send(ctx, requests) })
	g.Go(func() error { return p.kill(ctx) })
	g.Go(func() error { return p.collect(ctx, responses) })
	err := g.Wait()
	p.workers.end(err != nil, 0)
	if err != nil {
		p.t.Errorf("%d of %d requests are answered: %v", p.answered, p.n, err)
	}
	p.account(p.last.Sub(begun))
	for _, q := range []*queue.Queue{requests, responses} {
		if err := q.Close(context.WithoutCancel(ctx)); err != nil {
			p.t.Error(err)
		}
	}
}

func (p *proof) open(ctx context.Context, url string) *queue.Queue {
	q, err := queue.Open(ctx, url, p.drivers, &queue.Options{Outstanding: 1000, Lease: time.Minute})
	if err != nil {
		p.t.Fatal(err)
	}
	return q
}

// send sends the requests, each with an id.
func (p *proof) send(ctx context.Context, q *queue.Queue) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for first := 0; first < p.n; first += 200 {
		g.Go(func() error {
			var ms []queue.Message
			for i := first; i < min(first+200, p.n); i++ {
				ms = append(ms, queue.Message{ID: fmt.Sprint("id-", i), Body: fmt.Append(nil, "request ", i)})
			}
			return q.Send(ctx, ms...)
		})
	}
	return g.Wait()
}

// kill kills a worker when half of the requests are answered, and starts another.
func (p *proof) kill(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-p.half:
	}
	victim := p.workers.all[0]
	err := victim.Process.Signal(syscall.SIGKILL)
	_ = victim.Wait()
	p.workers.all[0] = p.workers.start()
	return err
}

var errQuiet = errors.New("nothing comes any more")

// collect takes the responses until all are there, and then those that come twice, until the
// leases of the worker that was killed have been over for some time.
func (p *proof) collect(ctx context.Context, q *queue.Queue) error {
	var acks errgroup.Group
	acks.SetLimit(1000)
	for {
		waiting, cancel := ctx, context.CancelFunc(func() {})
		if len(p.responses) == p.n {
			waiting, cancel = context.WithTimeoutCause(ctx, leaseOfProof+6*time.Second, errQuiet)
		}
		leases, err := q.Receive(waiting, 1000)
		cancel()
		if errors.Is(err, errQuiet) {
			return acks.Wait()
		} else if err != nil {
			return errors.Join(err, acks.Wait())
		}
		for _, l := range leases {
			if err := p.take(ctx, l); err != nil {
				return errors.Join(err, acks.Wait())
			}
			acks.Go(func() error { return l.Ack(ctx) })
		}
	}
}

// take counts a response. One that was delivered before is not another one.
func (p *proof) take(ctx context.Context, l *queue.Lease) error {
	if p.seen[l.ID()] {
		return nil
	}
	p.seen[l.ID()] = true
	number, ok := strings.CutPrefix(l.Correlation(), "id-")
	body, err := l.Body(ctx)
	if err != nil {
		return err
	}
	if i, err := strconv.Atoi(number); !ok || err != nil || i < 0 || i >= p.n || string(body) != "request "+number {
		return fmt.Errorf("a response to %q, which is %q", l.Correlation(), body)
	}
	p.responses[l.Correlation()]++
	if p.responses[l.Correlation()] > 1 {
		return nil
	}
	p.last = time.Now()
	if p.answered++; p.answered == p.n/2 {
		close(p.half)
	}
	return nil
}

// account tells what is missing, and whether more came twice than may.
func (p *proof) account(took time.Duration) {
	missing, twice := 0, 0
	for i := range p.n {
		switch got := p.responses[fmt.Sprint("id-", i)]; {
		case got == 0:
			missing++
		case got > 1:
			twice += got - 1
		}
	}
	p.workers.mu.Lock()
	log := p.workers.log.String()
	p.workers.mu.Unlock()
	lost := strings.Count(log, "the lease of a request was lost") + strings.Count(log, "it will be answered again")
	p.t.Logf("%d requests, answered in %.1f s: %d missing, %d answers more; a worker with %d requests at once was killed, %d leases were lost",
		p.n, took.Seconds(), missing, twice, p.slots, lost)
	if missing > 0 || twice > p.slots+lost {
		p.t.Errorf("%d are missing, and %d came twice, of which %d may; the workers wrote:\n%s", missing, twice, p.slots+lost, log)
	}
}
