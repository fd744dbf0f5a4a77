package server

import (
	"context"
	"errors"
	"fmt"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/api"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
)

func noAttempt(task navvy.TaskID, id navvy.AttemptID) error {
	return fmt.Errorf("attempt %s of task %s: %w", id, task, navvy.ErrNotFound)
}

// hasTask tells whether the task is one of its job's; ErrNotFound if not.
func hasTask(task navvy.TaskID, st *navvy.Status) error {
	if total := st.Counts.Total(); task.Index < 0 || task.Index >= total {
		return fmt.Errorf("task %s: the job has %d tasks: %w", task, total, navvy.ErrNotFound)
	}
	return nil
}

// Task implements the call of that name.
func (s *jobs) Task(ctx context.Context, req *navvyv1.TaskRequest) (*navvyv1.TaskResponse, error) {
	resp, err := s.task(ctx, req)
	return resp, s.fail(err)
}

func (s *jobs) task(ctx context.Context, req *navvyv1.TaskRequest) (*navvyv1.TaskResponse, error) {
	id, err := s.own(ctx, req.GetId())
	if err != nil {
		return nil, err
	}
	task := navvy.TaskID{Job: id, Index: req.GetIndex()}
	_, st, err := s.mgr.Job(ctx, id)
	if err != nil {
		return nil, err
	}
	if err := hasTask(task, &st); err != nil {
		return nil, err
	}
	resp := &navvyv1.TaskResponse{State: navvyv1.State(navvy.Queued)}
	chunk, err := s.eng.Inputs(ctx, id, task.Index)
	if err != nil {
		return nil, err
	}
	resp.Input, _ = chunk.Get(task.Index)
	if err := s.attempts(ctx, task, resp); err != nil {
		return nil, err
	}
	res, err := s.eng.Result(ctx, task)
	switch {
	case err == nil:
		resp.Result, resp.State = api.FromResult(res), navvyv1.State(res.State)
		return resp, nil
	case !errors.Is(err, navvy.ErrNotFound):
		return nil, err
	}
	running, waiting := s.mgr.Why(task, &st)
	if running != nil {
		waiting = s.mgr.Explain(ctx, task)
		resp.Running, resp.State = api.FromAttempt(running), navvyv1.State(navvy.Running)
	}
	if st.State() == navvy.Stopped {
		resp.State = navvyv1.State(navvy.Stopped)
	}
	resp.Waiting = api.Text(waiting)
	return resp, nil
}

// attempts adds those that are not the result, earlier rounds first.
func (s *jobs) attempts(ctx context.Context, task navvy.TaskID, resp *navvyv1.TaskResponse) error {
	err := s.eng.History(ctx, task, func(r *navvy.Result) error {
		resp.Attempts = append(resp.Attempts, api.FromAttempt(&r.Attempt))
		return nil
	})
	if err != nil {
		return err
	}
	return s.eng.Attempts(ctx, task.Job, task.Index, func(_ navvy.TaskID, a *navvy.Attempt) error {
		resp.Attempts = append(resp.Attempts, api.FromAttempt(a))
		return nil
	})
}
