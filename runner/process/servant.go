package process

import (
	"context"
	"errors"

	"github.com/navvy-run/navvy/runner/driver"
)

// Servant is a process that serves many attempts, of another kind than command: it
// has the limits, the isolation and the private directory of a command of its spec.
type Servant struct {
	*execution
}

// Serve starts one. The task is not an attempt but says what a command would be
// given: its token names the servant, in the environment of all that it starts too.
// See are directories, absolute ones, that it reads also if it is isolated, whoever may
// read what leads there. With change the caller sets the files. The errors are those of Start.
func (d *Driver) Serve(t *driver.Task, see []string, change func(*Config)) (*Servant, error) {
	x, err := d.start(context.Background(), t, see, func(c *Config) { // it is staged nothing
		c.Main = true
		if c.Groups == nil && d.groups != nil && d.groups.Version() != "none" {
			c.Groups, c.Name = d.groups, t.Token // which nothing that it starts can leave
		}
		change(c)
	})
	if err != nil {
		return nil, err
	}
	x.stopped.Store(true) // at its end nothing is left of it, whoever ends it
	return &Servant{x}, nil
}

// EndBearers kills all that has, in its environment, a token that fits, with the groups
// which these processes lead, until there is nothing left.
func (d *Driver) EndBearers(ctx context.Context, fits func(token string) bool) error {
	for {
		p, err := d.census.take()
		if err != nil {
			return err
		}
		tokens := make([]string, 0, 1)
		for token := range p.bearers {
			if fits(token) {
				tokens = append(tokens, token)
			}
		}
		if len(tokens) == 0 {
			return nil
		}
		for _, token := range tokens {
			if err := errors.Join(d.endGroup(ctx, token), d.endAll(ctx, Birth{}, token), d.boxes.clear(token)); err != nil {
				return err
			}
		}
	}
}
