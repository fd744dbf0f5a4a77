package remotetest

import (
	"context"
	"fmt"
	"io"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
)

// Driver is a client of a World.
type Driver struct{ world *World }

var _ driver.Driver = (*Driver)(nil)

// New returns a client of w.
func New(w *World) *Driver { return &Driver{world: w} }

// Capabilities implements driver.Driver.
func (d *Driver) Capabilities() driver.Capabilities {
	return driver.Capabilities{Kind: navvy.KindCommand, Adopts: true, Asynchronous: true, Remains: true, Signals: true, Output: true}
}

// Close implements driver.Driver.
func (d *Driver) Close() error { return nil }

// Start implements driver.Driver.
func (d *Driver) Start(ctx context.Context, t *driver.Task) (driver.Execution, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := d.world.create(t.Token, t.Spec); err != nil {
		return nil, err
	}
	return &execution{world: d.world, name: t.Token, stdout: t.Stdout, stderr: t.Stderr}, nil
}

// handlePrefix begins each handle, which names the job.
const handlePrefix = "remote/1 "

// Recover implements driver.Driver. The token alone finds a job, too.
func (d *Driver) Recover(_ context.Context, handle []byte, t *driver.Task) (driver.Execution, error) {
	if handle != nil && string(handle) != handlePrefix+t.Token {
		return nil, fmt.Errorf("remote: handle %q is not that of %q: %w", handle, t.Token, navvy.ErrCorrupt)
	}
	if _, err := d.world.job(t.Token); err != nil {
		return nil, err
	}
	return &execution{world: d.world, name: t.Token, stdout: t.Stdout, stderr: t.Stderr}, nil
}

type execution struct {
	world          *World
	name           string
	stdout, stderr io.Writer
}

// Handle implements driver.Execution.
func (e *execution) Handle() []byte { return []byte(handlePrefix + e.name) }

// Stop implements driver.Execution.
func (e *execution) Stop(_ context.Context, force bool) error { return e.world.stop(e.name, force) }

// Wait implements driver.Execution: it follows the job's output from its first
// byte, and removes the job when all of it has arrived.
func (e *execution) Wait(ctx context.Context) (driver.End, error) {
	j, err := e.world.job(e.name)
	if err != nil {
		return driver.End{}, err
	}
	followed := make(chan error, 2)
	go func() { followed <- e.follow(ctx, e.stdout, func() []byte { return j.stdout }, j) }()
	go func() { followed <- e.follow(ctx, e.stderr, func() []byte { return j.stderr }, j) }()
	for range 2 {
		select {
		case err := <-followed:
			if err != nil {
				return driver.End{}, err
			}
		case <-ctx.Done():
			return driver.End{}, ctx.Err()
		}
	}
	e.world.remove(e.name)
	return j.end, nil
}

// follow hands on one stream until the job has ended and nothing is left of it.
func (e *execution) follow(ctx context.Context, to io.Writer, stream func() []byte, j *job) error {
	w := e.world
	const piece = 32 << 10
	for off, dropped := 0, false; ; {
		w.mu.Lock()
		rest, ended, cut, changed := stream()[off:], j.ended, w.cut, w.changed
		w.mu.Unlock()
		rest = rest[:min(len(rest), piece)]
		switch {
		case cut:
			return errCut
		case len(rest) > 0:
			off += len(rest)
			if !dropped && to != nil {
				_, err := to.Write(rest)
				dropped = err != nil
			}
		case ended:
			return nil
		default:
			select {
			case <-changed:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}
