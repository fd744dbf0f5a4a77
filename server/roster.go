package server

import (
	"context"
	"errors"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine"
	"github.com/navvy-run/navvy/manager"
)

// rostered is a worker that comes back, registered by its name: who is on the roster
// when a server ends may still run tasks when the next one starts.
type rostered struct {
	Version   int       `json:"version"`
	Joined    time.Time `json:"joined"`
	Connected time.Time `json:"connected"`
	Build     string    `json:"build,omitempty"`
	Kinds     []string  `json:"kinds"`
	Slots     int       `json:"slots"`
	Left      bool      `json:"left,omitempty"` // it was told to end, and had nothing any more
}

// Roster names the workers that were there when the last server of an engine ended
// and had not left: those that a manager has to wait for.
func Roster(ctx context.Context, eng *engine.Engine) ([]string, error) {
	var names []string
	err := each(ctx, eng.Registry(), engine.KindWorker, "", func(name string, r *rostered) error {
		if !r.Left {
			names = append(names, name)
		}
		return nil
	})
	return names, err
}

// enroll puts a worker on the roster, before it gets anything.
func (s *Server) enroll(ctx context.Context, w *manager.Worker) error {
	return s.reroll(ctx, w.Name, func(r *rostered) bool {
		now := s.opts.Clock().UTC()
		if r.Joined.IsZero() {
			r.Joined = now
		}
		r.Connected, r.Build, r.Kinds, r.Slots, r.Left = now, w.Version, w.Kinds, w.Slots, false
		return true
	})
}

// strike notes that a worker has left, with nothing that it still runs.
func (s *Server) strike(ctx context.Context, name string) error {
	return s.reroll(ctx, name, func(r *rostered) bool {
		known := !r.Joined.IsZero() // else it was removed
		r.Left = true
		return known
	})
}

// reroll changes what is on the roster about a worker, if change says so.
func (s *Server) reroll(ctx context.Context, name string, change func(*rostered) bool) error {
	r := &rostered{Version: recordVersion}
	entry, err := s.eng.Registry().Get(ctx, engine.KindWorker, name)
	if err == nil {
		r, err = decodeRecord[rostered](&entry)
	}
	if err != nil && !errors.Is(err, navvy.ErrNotFound) {
		return err
	}
	if !change(r) {
		return nil
	}
	value, err := encodeRecord(r)
	if err != nil {
		return err
	}
	return s.eng.Registry().Apply(ctx, engine.Change{Kind: engine.KindWorker, Name: name, Value: value})
}
