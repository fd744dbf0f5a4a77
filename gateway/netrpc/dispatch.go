package netrpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/rpc"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/navvy-run/navvy/gateway/records"
)

// bounded is a connection from which not more than maxRead bytes are read.
func bounded(c net.Conn) io.ReadWriteCloser {
	return struct {
		io.Reader
		io.WriteCloser
	}{io.LimitReader(c, maxRead), c}
}

// call makes one call to a worker over a connection of its own. It goes on for its
// time when ctx ends: what a worker takes has to be recorded.
func (g *Gateway) call(ctx context.Context, address, method string, args, reply any) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), g.opts.Timeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })() // which ends the call
	c := rpc.NewClient(bounded(conn))
	err = c.Call(method, args, reply)
	_ = c.Close() // the answer is there, or none comes
	return err
}

// refusal tells whether a worker has answered with an error, and so lives.
func refusal(err error) bool {
	var server rpc.ServerError
	return errors.As(err, &server)
}

// dispatch gives work to workers, and drops those that have died.
func (g *Gateway) dispatch(ctx context.Context) error {
	tick := time.NewTicker(g.opts.Probe)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-g.wake:
		case <-tick.C:
			g.probe(ctx)
		}
		if err := g.assignAll(ctx); err != nil && ctx.Err() == nil {
			g.log.Error("work waits, since its records fail", "error", err) // until the next tick
		}
	}
}

// probe drops the workers to which nobody can connect.
func (g *Gateway) probe(ctx context.Context) {
	var probing sync.WaitGroup
	for _, address := range g.addresses() {
		probing.Go(func() {
			dialing, cancel := context.WithTimeout(ctx, g.opts.Timeout)
			defer cancel()
			conn, err := (&net.Dialer{}).DialContext(dialing, "tcp", address)
			if err == nil {
				_ = conn.Close() // nothing was said
			} else if ctx.Err() == nil {
				g.drop(ctx, address, err.Error())
			}
		})
	}
	probing.Wait()
}

// drop forgets a worker.
func (g *Gateway) drop(ctx context.Context, address, why string) {
	g.joining.Lock()
	defer g.joining.Unlock()
	g.mu.Lock()
	n := len(g.workers)
	g.workers = slices.DeleteFunc(g.workers, func(w string) bool { return w == address })
	gone := len(g.workers) < n
	g.mu.Unlock()
	if !gone {
		return
	}
	g.log.Warn("a worker is dropped", "worker", address, "why", why)
	if err := g.records.Apply(ctx, records.Removal(workerPrefix+address)); err != nil {
		g.log.Error("a worker that was dropped is still recorded", "worker", address, "error", err)
	}
}

// assignAll gives all work that waits to workers, the oldest first, as long as there
// is one that takes it.
func (g *Gateway) assignAll(ctx context.Context) error {
	for {
		list, _, err := g.records.List(ctx, todoPrefix, "", 1)
		if err != nil || len(list) == 0 {
			return err
		}
		work, err := readWork(&list[0])
		if err != nil {
			return err
		}
		if work.Worker = g.assign(ctx, work.JobName); work.Worker == "" {
			return ctx.Err()
		}
		work.Assigned = time.Now().UTC()
		if err := g.settle(ctx, list[0].Name, &work); err != nil {
			return err
		}
	}
}

// assign offers work to each worker once, in turn, and gives who has taken it; empty
// if nobody has.
func (g *Gateway) assign(ctx context.Context, name string) string {
	for range len(g.addresses()) {
		address := g.nextWorker()
		if address == "" {
			return ""
		}
		var reply AssignReply
		err := g.call(ctx, address, "Worker.AssignWork", AssignArgs{ImageName: name}, &reply)
		switch {
		case err == nil && reply.WorkIsGiven:
			g.log.Info("work is assigned", "worker", address, "work", name)
			return address
		case ctx.Err() != nil:
			return ""
		case err != nil && !refusal(err):
			g.drop(ctx, address, err.Error())
		case err != nil:
			g.log.Warn("a worker refuses work", "worker", address, "work", name, "error", err)
		}
	}
	return ""
}

// nextWorker is the one whose turn it is; empty if there is none.
func (g *Gateway) nextWorker() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.workers) == 0 {
		return ""
	}
	first := g.workers[0]
	g.workers = append(g.workers[1:], first)
	return first
}

// settle records that work was assigned. It tries until it can: what was not recorded
// would be assigned again.
func (g *Gateway) settle(ctx context.Context, name string, work *Work) error {
	done := donePrefix + strings.TrimPrefix(name, todoPrefix)
	put, err := record(done, work)
	if err != nil {
		return err
	}
	changes := []records.Change{records.Removal(name), put}
	g.mu.Lock()
	g.done = append(g.done, done)
	for _, old := range g.done[:max(0, len(g.done)-maxDone)] {
		changes = append(changes, records.Removal(old))
	}
	g.mu.Unlock()
	for {
		err := g.records.Apply(context.WithoutCancel(ctx), changes...)
		if err == nil {
			break
		}
		g.log.Error("work that was assigned cannot be recorded yet", "work", work.JobName, "error", err)
		select {
		case <-ctx.Done():
			return fmt.Errorf("netrpc: record of %s: %w", name, err)
		case <-time.After(g.opts.Probe):
		}
	}
	g.mu.Lock()
	g.todo--
	g.done = g.done[max(0, len(g.done)-maxDone):]
	g.mu.Unlock()
	return nil
}

// shutdownWorkers asks all workers to end, and forgets them. One that does not answer
// is as good as gone.
func (g *Gateway) shutdownWorkers() error {
	var asking sync.WaitGroup
	for _, address := range g.addresses() {
		asking.Go(func() {
			var reply ShutdownReply
			why := "it was shut down"
			if err := g.call(g.life, address, "Worker.Shutdown", Nothing{}, &reply); err != nil {
				why = err.Error()
			}
			g.drop(g.life, address, why)
		})
	}
	asking.Wait()
	return g.life.Err()
}
