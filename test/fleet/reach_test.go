package fleet

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/manager"
	"github.com/navvy-run/navvy/runner"
	"github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/runner/noop"
	"github.com/navvy-run/navvy/runner/process"
	"github.com/navvy-run/navvy/server/auth"
	"github.com/navvy-run/navvy/worker"
)

// distant is a driver whose work is done elsewhere.
type distant struct {
	noop.Driver
	reached chan struct{}
	begun   atomic.Int64
}

var _ driver.Reacher = (*distant)(nil)

func (d *distant) Reach(context.Context) (<-chan struct{}, error) {
	select {
	case <-d.reached:
		return d.reached, nil
	default:
		return d.reached, fmt.Errorf("nobody listens: %w", navvy.ErrUnavailable)
	}
}

func (d *distant) Start(ctx context.Context, t *driver.Task) (driver.Execution, error) {
	d.begun.Add(1)
	return d.Driver.Start(ctx, t)
}

// Work that is done by what cannot be reached yet stays with the server, whose workers do all
// else; once it is reached they do that, too, and what runs goes on.
func TestUnreached(t *testing.T) {
	t.Parallel()
	s := newSite(t, manager.Options{})
	ann := client.New(s.dial())
	d := &distant{reached: make(chan struct{})}
	p := runner.New(process.NewDriver(&process.Options{Work: t.TempDir(), Logger: s.log}), nil)
	conn := s.connect(s.wire.Addr, "far", auth.RoleWorker)
	w := worker.New(client.NewWorkers(conn), []*runner.Runner{p, runner.New(d, nil)}, &worker.Options{
		Name: "far", Slots: 2, Dir: t.TempDir(), Logger: s.log,
	})
	far := s.submit(ann, navvy.Job{Detached: true, Spec: navvy.Spec{Noop: &navvy.Noop{}}}, 1)
	path, open := gate(t)
	begun := path + ".begun"
	near := s.submit(ann, script("echo $$ >"+begun+"; while [ ! -e "+path+" ]; do sleep 0.01; done"), 1)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- errors.Join(w.Run(ctx), p.Close(), conn.Close()) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	awaitFile(t, begun)
	if n := d.begun.Load(); n != 0 {
		t.Errorf("%d attempts have begun, and nobody listens", n)
	}
	close(d.reached)
	s.await(ann, far, "done", func(st *navvy.Status) bool { return st.State() == navvy.Succeeded })
	open()
	s.await(ann, near, "done", func(st *navvy.Status) bool { return st.State() == navvy.Succeeded })
	for _, id := range []navvy.JobID{far, near} {
		if results, _ := s.answers(ann, id); len(results) != 1 || results[0].Attempts != 1 {
			t.Errorf("it took %+v", results)
		}
	}
}
