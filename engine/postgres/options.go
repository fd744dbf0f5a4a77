package postgres

import (
	"fmt"
	"log/slog"
	"regexp"
	"time"

	"github.com/navvy-run/navvy"
)

// Options adjusts a store. Nil and the zero value are the defaults.
type Options struct {
	// Schema is the database schema that holds the store: lower-case letters,
	// digits and underscores. It is made if it is not there. Defaults to "navvy".
	Schema string
	// Connections is how many connections read and write output logs, beside the
	// two that change the map; at least 2. Defaults to 8.
	Connections int
	// Logger gets what goes wrong. Defaults to none.
	Logger *slog.Logger
	// OnFatal is called once, in a goroutine of its own, when the store has
	// failed for good. The store must then be closed; it can be opened again.
	// Defaults to nothing.
	OnFatal func(error)

	// ping is how often a store at rest makes sure that it still holds the
	// database. Defaults to five seconds.
	ping time.Duration
}

var schemaName = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,62}$`)

// Validate checks the values. Its error wraps navvy.ErrInvalid.
func (o *Options) Validate() error {
	if o == nil {
		return nil
	}
	if o.Schema != "" && !schemaName.MatchString(o.Schema) {
		return fmt.Errorf("postgres: Options.Schema is %q, must be of a-z, 0-9 and _: %w", o.Schema, navvy.ErrInvalid)
	}
	if o.Connections < 0 || o.Connections == 1 {
		return fmt.Errorf("postgres: Options.Connections is %d, must be at least 2: %w", o.Connections, navvy.ErrInvalid)
	}
	return nil
}

// defaults returns a copy with every field set.
func (o *Options) defaults() Options {
	var c Options
	if o != nil {
		c = *o
	}
	if c.Schema == "" {
		c.Schema = "navvy"
	}
	if c.Connections == 0 {
		c.Connections = 8
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.OnFatal == nil {
		c.OnFatal = func(error) {}
	}
	if c.ping == 0 {
		c.ping = 5 * time.Second
	}
	return c
}
