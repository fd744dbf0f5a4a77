package cli

import (
	"context"
	"errors"
)

func benchLatency(context.Context, *bench) (*figure, error)   { return nil, errors.New("todo") }
func benchProcesses(context.Context, *bench) (*figure, error) { return nil, errors.New("todo") }
func benchSubmit(context.Context, *bench) (*figure, error)    { return nil, errors.New("todo") }
func benchQueued(context.Context, *bench) (*figure, error)    { return nil, errors.New("todo") }
func benchJobs(context.Context, *bench) (*figure, error)      { return nil, errors.New("todo") }
func benchOutput(context.Context, *bench) (*figure, error)    { return nil, errors.New("todo") }
func benchStart(context.Context, *bench) (*figure, error)     { return nil, errors.New("todo") }
func benchIdle(context.Context, *bench) (*figure, error)      { return nil, errors.New("todo") }
