package fleet

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/manager"
	"github.com/navvy-run/navvy/runner"
	"github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/runner/noop"
	"github.com/navvy-run/navvy/server/auth"
	"github.com/navvy-run/navvy/worker"
)

// drifting is a driver that sees attempts which others have left.
type drifting struct {
	noop.Driver

	mu     sync.Mutex
	adrift []driver.Adrift
	swept  []string
	looks  int
	looked chan struct{} // has something after each look
	strays chan struct{}
	come   chan struct{} // see driver.Latecomer
}

func (d *drifting) Come() <-chan struct{} { return d.come }

func (d *drifting) Strays() <-chan struct{} { return d.strays }

func (d *drifting) Adrift() []driver.Adrift {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.looks++
	select {
	case d.looked <- struct{}{}:
	default:
	}
	return slices.Clone(d.adrift)
}

func (d *drifting) Sweep(_ context.Context, token string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.swept = append(d.swept, token)
	d.adrift = slices.DeleteFunc(d.adrift, func(a driver.Adrift) bool { return a.Token == token })
	return nil
}

// await waits until so much is ended, and checks that it is just that.
func (d *drifting) await(t *testing.T, want ...string) {
	t.Helper()
	for range d.looked {
		d.mu.Lock()
		swept := slices.Clone(d.swept)
		d.mu.Unlock()
		if len(swept) >= len(want) {
			if !slices.Equal(swept, want) {
				t.Errorf("%v are ended, want %v", swept, want)
			}
			return
		}
	}
}

// sweeper starts a worker that looks so often for what is adrift.
func (s *site) sweeper(d *drifting, every time.Duration) {
	s.Helper()
	conn := s.connect(s.wire.Addr, "sweeper", auth.RoleWorker)
	w := worker.New(client.NewWorkers(conn), []*runner.Runner{runner.New(d, nil)}, &worker.Options{
		Name: "sweeper", Slots: 1, Dir: s.TempDir(), Sweep: every, Logger: s.log,
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- errors.Join(w.Run(ctx), conn.Close()) }()
	s.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			s.Error(err)
		}
	})
}

// What a driver has left knowingly is looked for soon, and again while others may yet say that
// they do not want it either.
func TestStray(t *testing.T) {
	t.Parallel()
	s := newSite(t, manager.Options{})
	ann := client.New(s.dial())
	job := s.submit(ann, script("true"), 1)
	d := &drifting{looked: make(chan struct{}, 1), strays: make(chan struct{}, 1), adrift: []driver.Adrift{{Task: navvy.TaskID{Job: job}, Token: "left"}}}
	s.sweeper(d, time.Hour)
	<-d.looked // the first of the session
	d.strays <- struct{}{}
	<-d.looked
	d.mu.Lock()
	if len(d.swept) > 0 {
		t.Errorf("%v are ended that are wanted", d.swept)
	}
	d.mu.Unlock()
	_, err := ann.Stop(t.Context(), job, "enough")
	s.must(err)
	d.await(t, "left")
}

// What comes after its worker is looked after soon, as there may be something that an earlier
// worker has left on it.
func TestSweepLatecomer(t *testing.T) {
	t.Parallel()
	s := newSite(t, manager.Options{})
	ann := client.New(s.dial())
	job := s.submit(ann, script("true"), 1)
	_, err := ann.Stop(t.Context(), job, "enough")
	s.must(err)
	d := &drifting{looked: make(chan struct{}, 1), come: make(chan struct{})}
	s.sweeper(d, time.Hour)
	<-d.looked // the first of the session: nothing is there yet
	d.mu.Lock()
	d.adrift = []driver.Adrift{{Task: navvy.TaskID{Job: job}, Token: "left"}}
	d.mu.Unlock()
	close(d.come)
	d.await(t, "left")
}

// Of what workers have left running and nobody has taken over, the others end that of which nobody
// wants an answer any more: not what may yet be taken over, nor what their server does not know.
func TestDrift(t *testing.T) {
	t.Parallel()
	s := newSite(t, manager.Options{})
	ann := client.New(s.dial())
	open, stopped := s.submit(ann, script("true"), 1), s.submit(ann, script("true"), 1)
	_, err := ann.Stop(t.Context(), stopped, "enough")
	s.must(err)
	d := &drifting{looked: make(chan struct{}, 1), adrift: []driver.Adrift{
		{Task: navvy.TaskID{Job: open}, Token: "open"}, {Task: navvy.TaskID{Job: stopped}, Token: "stopped"},
		{Task: navvy.TaskID{Job: navvy.NewJobID()}, Token: "another's"},
	}}
	s.sweeper(d, 20*time.Millisecond)
	d.await(t, "stopped")
	_, err = ann.Stop(t.Context(), open, "enough")
	s.must(err)
	d.await(t, "stopped", "open")
	<-d.looked
	<-d.looked
	d.await(t, "stopped", "open") // and what is not known here is left alone
}
