// Package noop is the driver of the kind noop: each task succeeds at once and
// writes nothing, so that what is measured is navvy itself.
package noop

import (
	"context"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
)

// Driver runs the kind noop. The zero value is ready, and allocates nothing.
type Driver struct{}

var _ driver.Driver = Driver{}

// Capabilities implements driver.Driver.
func (Driver) Capabilities() driver.Capabilities { return driver.Capabilities{Kind: navvy.KindNoop} }

// Start implements driver.Driver.
func (Driver) Start(context.Context, *driver.Task) (driver.Execution, error) {
	return execution{}, nil
}

// Recover implements driver.Driver: nothing of an attempt is ever left.
func (Driver) Recover(context.Context, []byte, *driver.Task) (driver.Execution, error) {
	return nil, navvy.ErrNotFound
}

// Close implements driver.Driver.
func (Driver) Close() error { return nil }

type execution struct{}

func (execution) Handle() []byte { return nil }

func (execution) Wait(context.Context) (driver.End, error) { return driver.End{}, nil }

func (execution) Stop(context.Context, bool) error { return nil }
