package worker

import (
	"context"
	"fmt"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client/relay"
	"github.com/navvy-run/navvy/runner/driver"
)

// serveTasks opens the socket for tasks, if there is to be one, and gives what closes
// it. Without it tasks run all the same.
func (w *Worker) serveTasks() (stop func()) {
	if w.opts.TaskSocket == "" {
		return func() {}
	}
	r, err := relay.Listen(w.opts.TaskSocket, w.server.Conn(), &relay.Options{Session: w.awaitSession, Logger: w.log})
	if err != nil {
		w.log.Error("tasks cannot reach the key-value store", "error", err)
		return func() {}
	}
	w.relay = r
	return func() {
		if err := r.Close(); err != nil {
			w.log.Warn("the socket for tasks is left", "error", err)
		}
	}
}

// sessionWait is how long a task's call waits for the server to be back.
const sessionWait = 10 * time.Second

// awaitSession waits until the server knows what this worker runs.
func (w *Worker) awaitSession(ctx context.Context) (goesOn func() bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, sessionWait)
	defer cancel()
	l, err := w.awaitLink(ctx)
	if err != nil {
		return nil, fmt.Errorf("it has not been back for %v; try again: %w", sessionWait, navvy.ErrUnavailable)
	}
	return func() bool { return l.ctx.Err() == nil }, nil
}

// openAPI gives the attempt its way to navvy, if it is a process: nothing else has an
// environment to find it in, and a service answers many at once.
func (a *attempt) openAPI() *driver.API {
	r := a.worker.relay
	if r == nil || !a.spec.IsProcess() || a.spec.Service != nil {
		return nil
	}
	a.pass = r.Open(a.ref)
	return &driver.API{Socket: r.Path(), Token: a.pass.Token()}
}

// closeAPI ends it.
func (a *attempt) closeAPI() {
	if a.pass != nil {
		a.pass.Close()
	}
}
