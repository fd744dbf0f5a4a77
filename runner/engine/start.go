package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/internal/pause"
	"github.com/navvy-run/navvy/runner/driver"
)

// callTimeout bounds a call that neither is a stream nor moves an image.
const callTimeout = 60 * time.Second

// The pauses between tries that fail.
const (
	firstPause   = 50 * time.Millisecond
	longestPause = 5 * time.Second
)

func pauses() pause.Series { return pause.Series{First: firstPause, Longest: longestPause} }

func refusal(reason navvy.Reason, format string, args ...any) *driver.Refusal {
	return &driver.Refusal{Reason: reason, Message: navvy.Shorten(fmt.Sprintf(format, args...))}
}

// Start implements driver.Driver: it makes the container, or takes the one that is there. An
// image that is not here is pulled first.
func (d *Driver) Start(ctx context.Context, t *driver.Task) (driver.Execution, error) {
	if r := d.refuse(t.Spec); r != nil {
		return nil, r
	}
	args, r := d.arguments(t)
	if r != nil {
		return nil, r
	}
	d.watch.begin()
	c, again := d.container(t, args), pauses()
	for {
		id, err := d.create(ctx, c)
		if err == nil {
			return d.first(ctx, t, id)
		}
		switch {
		case errors.Is(err, errExists):
			a, err := d.adopt(ctx, t, c.name)
			if !errors.Is(err, errGone) {
				return a, err
			}
			err = again.Wait(ctx) // it is on its way out
			if err != nil {
				return nil, err
			}
		case errors.Is(err, errNoImage):
			if err := d.pull(ctx, c.image); err != nil {
				return nil, err
			}
		case errors.Is(err, errRefused):
			return nil, refusal(navvy.ReasonStart, "its container cannot be made: %s", err)
		default:
			return nil, err
		}
	}
}

// refuse is why a spec cannot be run on this engine; nil if it can.
func (d *Driver) refuse(s *navvy.Spec) *driver.Refusal {
	if r := d.caps.Refuse(s); r != nil {
		return r
	}
	c := s.Container
	what := ""
	switch {
	case c.Namespace != "":
		what = "a namespace"
	case c.Template != nil:
		what = "a pod template"
	case c.Pack > 1:
		what = "the sharing of a pod"
	case c.Buckets != (navvy.Buckets{}):
		what = "buckets"
	default:
		return nil
	}
	return refusal(navvy.ReasonStart, "%s of a container: that is for Kubernetes, and this is %s", what, d.caps.With)
}

// arguments are what follows the entry point.
func (d *Driver) arguments(t *driver.Task) ([]string, *driver.Refusal) {
	c := &t.Spec.Container.Command
	if len(c.Args) == 0 && c.Literal {
		return nil, nil
	}
	argv, err := d.opts.Render(t)
	if err != nil {
		return nil, refusal(navvy.ReasonInput, "%s", err)
	}
	return argv, nil
}

func (d *Driver) create(ctx context.Context, c *container) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return d.backend.create(ctx, c)
}

// first is the attempt that begins a container.
func (d *Driver) first(ctx context.Context, t *driver.Task, id string) (driver.Execution, error) {
	if err := d.begin(ctx, id); err != nil {
		return nil, err
	}
	return d.holder(t, id), nil
}

// begin starts a container that was made for an attempt. Of one that does not start nothing
// is left.
func (d *Driver) begin(ctx context.Context, id string) error {
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err := d.backend.start(call, id)
	if err == nil {
		return nil
	}
	clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	err = errors.Join(err, d.backend.remove(clean, id))
	if failed, ok := errors.AsType[*startError](err); ok {
		return refusal(startReason(failed.message), "its container cannot be started: %s", failed.message)
	}
	return err
}

// adopt takes the container of that name for an attempt: it was made for the same task, by
// whoever had the task before. The error wraps errGone if it is gone, or on its way.
func (d *Driver) adopt(ctx context.Context, t *driver.Task, name string) (driver.Execution, error) {
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	s, err := d.backend.named(call, name)
	switch {
	case err != nil:
		return nil, err
	case !d.ours(s, t.ID):
		return nil, refusal(navvy.ReasonStart, "there is a container %s that is not for this task", name)
	case s.phase == phaseGoing:
		return nil, errGone
	case s.phase == phaseCreated:
		return d.first(ctx, t, s.id)
	case d.lost(s):
		d.log.Warn("how a container ended is not known, and its task is run again: the machine, or its engine, was started anew", "task", t.ID, "container", s.id)
		return nil, errors.Join(errGone, d.discard(ctx, s.id))
	}
	if since, ending := d.ending(s); ending {
		return nil, d.leave(ctx, s, since)
	}
	a := d.holder(t, s.id)
	a.deadline = s.deadline()
	return a, nil
}

// pull fetches an image, again and again if it seems to be of use.
func (d *Driver) pull(ctx context.Context, image string) error {
	as, err := accountFor(ctx, d.opts.Credentials, image)
	if err != nil {
		d.log.Warn("the credentials for an image cannot be read, and it is pulled without", "image", image, "err", err)
	}
	patience, cancel := context.WithTimeout(ctx, d.opts.ImagePatience)
	defer cancel()
	for again := pauses(); ; {
		err := d.backend.pull(ctx, image, as) // which may take its time, as long as it goes on
		if err == nil || ctx.Err() != nil {
			return err
		}
		if errors.Is(err, errRefused) || again.Wait(patience) != nil {
			return refusal(navvy.ReasonImage, "image %s: %s%s", image, err, d.advice(as, err))
		}
	}
}

// advice is what may help who is turned away as a stranger.
func (d *Driver) advice(as account, err error) string {
	switch {
	case as != (account{}) || !stranger(err.Error()):
		return ""
	case d.opts.Credentials == "":
		return "; it was asked without credentials: whoever runs the tasks names those of docker login by DOCKER_CONFIG"
	}
	return "; there are no credentials for it in " + d.opts.Credentials + ": see docker login"
}

// Recover implements driver.Driver. The handle names the container; without one it is found by
// the token of whoever made it. What another attempt has taken over is not this one's any more;
// of what nobody has, this one has it once it is waited for.
func (d *Driver) Recover(ctx context.Context, handle []byte, t *driver.Task) (driver.Execution, error) {
	id, err := d.parseHandle(handle)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var s *state
	if handle == nil {
		s, err = d.ofToken(ctx, t.Token)
	} else {
		s, err = d.backend.inspect(ctx, id)
	}
	switch {
	case errors.Is(err, errGone), err == nil && (s.phase == phaseGoing || s.labels[labelInstance] != d.opts.Instance || !d.held.has(s.id, t.Token)):
		return nil, fmt.Errorf("engine: no container of attempt %s: %w", t.Token, navvy.ErrNotFound)
	case err != nil:
		return nil, err
	}
	d.watch.begin()
	if s.phase == phaseCreated {
		if err := d.begin(ctx, s.id); err != nil {
			return nil, err
		}
	}
	a := d.attempt(t, s.id)
	a.found = s
	return a, nil
}

// ofToken finds the container that the attempt with a token made.
func (d *Driver) ofToken(ctx context.Context, token string) (*state, error) {
	list, err := d.backend.list(ctx, d.opts.Instance)
	if err != nil {
		return nil, err
	}
	for i := range list {
		if list[i].labels[labelAttempt] == token {
			return d.backend.inspect(ctx, list[i].id)
		}
	}
	return nil, errGone
}
