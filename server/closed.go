package server

import (
	"context"
	"errors"
	"fmt"

	"github.com/navvy-run/navvy"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
	"github.com/navvy-run/navvy/engine"
)

// mostClosed is how many tasks a worker may ask about at once.
const mostClosed = 10_000

// Closed implements the call of that name.
func (s *workers) Closed(ctx context.Context, req *navvyv1.WorkersClosedRequest) (*navvyv1.WorkersClosedResponse, error) {
	resp, err := s.closed(ctx, req.GetTasks())
	return resp, s.fail(err)
}

func (s *workers) closed(ctx context.Context, tasks []*navvyv1.TaskRef) (*navvyv1.WorkersClosedResponse, error) {
	if len(tasks) > mostClosed {
		return nil, fmt.Errorf("closed: %d tasks, %d at most: %w", len(tasks), mostClosed, navvy.ErrInvalid)
	}
	resp := &navvyv1.WorkersClosedResponse{}
	states := map[navvy.JobID]*engine.State{} // nil for one that is unknown
	for i, t := range tasks {
		id := navvy.JobID(t.GetJob())
		state, seen := states[id]
		if !seen {
			found, err := s.eng.State(ctx, id)
			if err == nil {
				state = &found
			} else if !errors.Is(err, navvy.ErrNotFound) {
				return nil, err
			}
			states[id] = state
		}
		switch {
		case state == nil || t.GetIndex() < 0 || t.GetIndex() >= state.Total:
			resp.Unknown = append(resp.Unknown, int32(i))
			continue
		case state.Ended():
			resp.Closed = append(resp.Closed, int32(i))
			continue
		}
		_, err := s.eng.Result(ctx, navvy.TaskID{Job: id, Index: t.GetIndex()})
		switch {
		case err == nil:
			resp.Closed = append(resp.Closed, int32(i))
		case !errors.Is(err, navvy.ErrNotFound):
			return nil, err
		}
	}
	return resp, nil
}
