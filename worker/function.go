package worker

import (
	"context"

	"github.com/navvy-run/navvy"
)

// function gives the attempt the way to the function that it calls; nil if it calls none.
func (a *attempt) function() func(context.Context) (*navvy.FunctionVersion, error) {
	if a.spec.Function == nil {
		return nil
	}
	return func(ctx context.Context) (*navvy.FunctionVersion, error) {
		return a.worker.server.Function(ctx, a.ref)
	}
}
