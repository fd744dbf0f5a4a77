package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/api"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
	"github.com/navvy-run/navvy/engine"
)

func notFound(id navvy.JobID) error { return fmt.Errorf("job %s: %w", id, navvy.ErrNotFound) }

// ambiguous is how many jobs are named when a prefix fits several.
const ambiguous = 4

// Find implements the call of that name.
func (s *jobs) Find(ctx context.Context, req *navvyv1.FindRequest) (*navvyv1.FindResponse, error) {
	found, err := s.eng.Find(ctx, req.GetPrefix(), ambiguous)
	if err != nil {
		return nil, s.fail(err)
	}
	var ids []navvy.JobID
	for _, id := range found {
		_, err := s.own(ctx, string(id))
		switch {
		case err == nil, errors.Is(err, navvy.ErrCorrupt):
			ids = append(ids, id)
		case !errors.Is(err, navvy.ErrNotFound):
			return nil, s.fail(err)
		}
	}
	switch len(ids) {
	case 0:
		return nil, s.fail(notFound(navvy.JobID(req.GetPrefix())))
	case 1:
		return &navvyv1.FindResponse{Id: string(ids[0])}, nil
	default:
		return nil, s.fail(fmt.Errorf("job %s fits several jobs, give more of the id: %v: %w", req.GetPrefix(), ids, navvy.ErrInvalid))
	}
}

// Get implements the call of that name.
func (s *jobs) Get(ctx context.Context, req *navvyv1.GetRequest) (*navvyv1.JobStatus, error) {
	id, err := s.own(ctx, req.GetId())
	if err != nil {
		return nil, s.fail(err)
	}
	st, err := s.jobStatus(ctx, id)
	return st, s.fail(err)
}

func (s *Server) jobStatus(ctx context.Context, id navvy.JobID) (*navvyv1.JobStatus, error) {
	job, st, err := s.mgr.Job(ctx, id)
	if err != nil {
		return nil, err
	}
	return api.FromJobStatus(job, &st), nil
}

// Bounds of a page of jobs.
const (
	defaultPage = 100
	maxPage     = 1000
)

// List implements the call of that name.
func (s *jobs) List(ctx context.Context, req *navvyv1.ListRequest) (*navvyv1.ListResponse, error) {
	resp, err := s.list(ctx, req)
	return resp, s.fail(err)
}

func (s *jobs) list(ctx context.Context, req *navvyv1.ListRequest) (*navvyv1.ListResponse, error) {
	limit := min(int(req.GetLimit()), maxPage)
	if limit <= 0 {
		limit = defaultPage
	}
	var before time.Time
	if page := req.GetPage(); page != "" {
		ns, err := strconv.ParseInt(page, 36, 64)
		if err != nil {
			return nil, fmt.Errorf("list: page %q is none that was given out: %w", page, navvy.ErrInvalid)
		}
		before = time.Unix(0, ns)
	}
	ids, next, err := s.eng.Jobs(ctx, s.opts.Owner(ctx), before, limit)
	if err != nil {
		return nil, err
	}
	resp := &navvyv1.ListResponse{}
	for _, id := range ids {
		st, err := s.jobStatus(ctx, id)
		if errors.Is(err, navvy.ErrNotFound) {
			continue // removed in between
		} else if errors.Is(err, navvy.ErrCorrupt) {
			st = damaged(id, err)
		} else if err != nil {
			return nil, err
		}
		resp.Jobs = append(resp.Jobs, st)
	}
	if !next.IsZero() {
		resp.NextPage = strconv.FormatInt(next.UnixNano(), 36)
	}
	return resp, nil
}

// damaged stands in the list for a job whose records cannot be read: its id, and
// a status that has no state and says why.
func damaged(id navvy.JobID, err error) *navvyv1.JobStatus {
	return &navvyv1.JobStatus{Job: &navvyv1.Job{Id: string(id)}, Status: &navvyv1.Status{Why: api.Text(err.Error())}}
}

// Hold implements the call of that name.
func (s *jobs) Hold(ctx context.Context, req *navvyv1.HoldRequest) (*navvyv1.Status, error) {
	id, err := s.own(ctx, req.GetId())
	if err != nil {
		return nil, s.fail(err)
	}
	st, err := s.mgr.Hold(ctx, id, req.GetWhy(), req.GetInterrupt())
	if err != nil {
		return nil, s.fail(err)
	}
	return api.FromStatus(&st), nil
}

// Stop implements the call of that name.
func (s *jobs) Stop(ctx context.Context, req *navvyv1.StopRequest) (*navvyv1.Status, error) {
	id, err := s.own(ctx, req.GetId())
	if err != nil {
		return nil, s.fail(err)
	}
	st, err := s.mgr.Stop(ctx, id, req.GetWhy())
	if err != nil {
		return nil, s.fail(err)
	}
	return api.FromStatus(&st), nil
}

// Retry implements the call of that name.
func (s *jobs) Retry(ctx context.Context, req *navvyv1.RetryRequest) (*navvyv1.RetryResponse, error) {
	id, err := s.own(ctx, req.GetId())
	if err != nil {
		return nil, s.fail(err)
	}
	n, st, err := s.mgr.Retry(ctx, id, engine.RetrySelection{Indexes: req.GetIndexes(), Failed: req.GetFailed()})
	if err != nil {
		return nil, s.fail(err)
	}
	return &navvyv1.RetryResponse{Tasks: n, Status: api.FromStatus(&st)}, nil
}

// Remove implements the call of that name.
func (s *jobs) Remove(ctx context.Context, req *navvyv1.RemoveRequest) (*navvyv1.RemoveResponse, error) {
	id, err := s.own(ctx, req.GetId())
	if err != nil && !(req.GetForce() && errors.Is(err, navvy.ErrCorrupt)) {
		return nil, s.fail(err)
	}
	if err := s.mgr.Remove(ctx, id, req.GetForce()); err != nil {
		return nil, s.fail(err)
	}
	return &navvyv1.RemoveResponse{}, nil
}

// Printed implements the call of that name.
func (s *jobs) Printed(ctx context.Context, req *navvyv1.PrintedRequest) (*navvyv1.PrintedResponse, error) {
	id, err := s.own(ctx, req.GetId())
	if err != nil {
		return nil, s.fail(err)
	}
	if err := s.addPrinted(ctx, id, req.GetIndexes()); err != nil {
		return nil, s.fail(err)
	}
	return &navvyv1.PrintedResponse{}, nil
}

// addPrinted joins indexes to those that are printed. One client at a time prints a job.
func (s *jobs) addPrinted(ctx context.Context, id navvy.JobID, indexes []byte) error {
	more, err := bitmap(indexes)
	if err != nil {
		return err
	}
	stored, err := s.eng.Printed(ctx, id)
	if err != nil {
		return err
	}
	printed, err := bitmap(stored)
	if err != nil {
		return err
	}
	printed.Or(more)
	printed.RunOptimize()
	joined, err := printed.ToBytes()
	if err != nil {
		return fmt.Errorf("printed: %w", err)
	}
	return s.eng.SetPrinted(ctx, id, joined)
}

// Overview implements the call of that name.
func (s *jobs) Overview(ctx context.Context, _ *navvyv1.OverviewRequest) (*navvyv1.OverviewResponse, error) {
	info := s.eng.Info()
	resp := &navvyv1.OverviewResponse{
		Version: s.opts.Version, Pid: int64(os.Getpid()), Store: info.Kind + " " + info.Place,
		Full: s.opts.Full(), Draining: s.mgr.Draining(), Abilities: api.FromAbilities(s.mgr.Local()),
		Policy: api.Text(s.opts.Policy.File()), Role: string(s.opts.Role(ctx)),
	}
	if info.Free != nil {
		free, err := info.Free()
		if err != nil {
			return nil, s.fail(err)
		}
		resp.Free = free
	}
	for _, id := range s.mgr.Active() {
		if _, err := s.own(ctx, string(id)); err != nil {
			continue
		}
		if st, err := s.jobStatus(ctx, id); err == nil {
			resp.Active = append(resp.Active, st)
		}
	}
	for _, w := range s.mgr.Workers() {
		resp.Workers = append(resp.Workers, &navvyv1.WorkerStatus{
			Name: w.Name, Kinds: w.Kinds, Running: int64(w.Running), Abilities: api.FromAbilities(w.Abilities),
		})
	}
	return resp, nil
}
