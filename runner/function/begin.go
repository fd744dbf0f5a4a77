package function

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
)

// starts is how many hosts are started for a call, if one after the other is ended by a
// signal before it was ready, as by a kernel that is short of memory. The call has not
// begun, and is not to blame.
const starts = 3

// newHost starts a host for a call like t, and waits until it is ready.
func (d *Driver) newHost(ctx context.Context, key string, t *driver.Task) (*host, error) {
	for n := 1; ; n++ {
		h, err := d.startHost(ctx, key, t)
		if n == starts || !errors.Is(err, errKilled) {
			return h, err
		}
		d.log.Warn("a Python process was ended before it was ready: another is started", "error", err)
	}
}

// errKilled says that a host was ended by a signal before it was ready.
var errKilled = errors.New("killed")

func (d *Driver) startHost(ctx context.Context, key string, t *driver.Task) (*host, error) {
	h := &host{
		driver: d, owner: t.Owner, key: key, limit: t.Spec.Limits.Memory, path: t.Spec.Function.Path,
		ready: make(chan error, 1), dead: make(chan struct{}),
	}
	if err := h.start(t); err != nil {
		return nil, err
	}
	go h.serve()
	select {
	case err := <-h.ready:
		if err != nil {
			return nil, h.failure(err)
		}
		return h, nil
	case <-ctx.Done():
		h.kill()
		return nil, ctx.Err()
	}
}

// failure says why a host did not come up.
func (h *host) failure(err error) error {
	h.kill()
	<-h.dead
	python := h.driver.opts.Python
	switch {
	case h.end.Usage.OOMKills > 0 && h.limit > 0:
		return &driver.Refusal{Reason: navvy.ReasonOOM, Message: python + " alone needs more memory than the limit of the call"}
	case errors.Is(err, io.EOF) && h.end.Exit.Signal != 0:
		err = fmt.Errorf("%s (%w)", died(&h.end.Exit), errKilled)
	case errors.Is(err, io.EOF):
		err = errors.New(died(&h.end.Exit))
	}
	if said := h.boot.lastLine(); said != "" {
		err = fmt.Errorf("%w: %s", err, said)
	}
	return fmt.Errorf("function: start %s: %w; is it a Python 3.8 or later? --python names another", python, err)
}

// died says how a process ended.
func died(e *navvy.Exit) string {
	if e.Signal != 0 {
		return "worker process died: signal " + strconv.Itoa(e.Signal)
	}
	return "worker process died: exit code " + strconv.Itoa(e.Code)
}
