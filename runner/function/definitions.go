package function

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
)

// definitions are the functions that were called last, so that a worker asks its server
// once for each.
type definitions struct {
	mu    sync.Mutex
	known map[definitionKey]*definition
	clock uint64 // counts uses
	bytes int
}

type definitionKey struct{ owner, id string }

type definition struct {
	*navvy.FunctionVersion
	used uint64
}

// How many functions are kept, and bytes of their code.
const (
	maxDefinitions     = 1000
	maxDefinitionBytes = 64 << 20
)

// get returns the function that a task calls. That it was removed is a *driver.Refusal.
func (d *definitions) get(ctx context.Context, t *driver.Task) (*navvy.FunctionVersion, error) {
	key := definitionKey{t.Owner, t.Spec.Function.ID}
	d.mu.Lock()
	if known := d.known[key]; known != nil {
		d.clock++
		known.used = d.clock
		d.mu.Unlock()
		return known.FunctionVersion, nil
	}
	d.mu.Unlock()
	if t.Function == nil {
		return nil, fmt.Errorf("function: nobody knows the function of %s: %w", t.ID, navvy.ErrUnsupported)
	}
	f, err := t.Function(ctx)
	if errors.Is(err, navvy.ErrNotFound) {
		return nil, &driver.Refusal{Reason: navvy.ReasonStart, Message: fmt.Sprintf("function %s was removed; register it again", called(t.Spec.Function))}
	}
	if err != nil {
		return nil, fmt.Errorf("function: fetch %s: %w", called(t.Spec.Function), err)
	}
	d.keep(key, f)
	return f, nil
}

// called names a function for people.
func called(f *navvy.Function) string {
	switch {
	case f.Name == "":
		return f.ID
	case f.Version == 0:
		return f.Name
	}
	return fmt.Sprintf("%s (version %d)", f.Name, f.Version)
}

func (d *definitions) keep(key definitionKey, f *navvy.FunctionVersion) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.known == nil {
		d.known = make(map[definitionKey]*definition)
	}
	if d.known[key] == nil {
		d.bytes += len(f.Code)
	}
	d.clock++
	d.known[key] = &definition{f, d.clock}
	for len(d.known) > maxDefinitions || d.bytes > maxDefinitionBytes && len(d.known) > 1 {
		var oldest definitionKey
		least := d.clock + 1
		for k, v := range d.known {
			if v.used < least {
				oldest, least = k, v.used
			}
		}
		d.bytes -= len(d.known[oldest].Code)
		delete(d.known, oldest)
	}
}
