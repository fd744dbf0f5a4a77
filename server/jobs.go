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
	"github.com/navvy-run/navvy/server/auth"
)

func notFound(id navvy.JobID) error { return fmt.Errorf("job %s: %w", id, navvy.ErrNotFound) }

// ambiguous is how many jobs are named when a prefix fits several.
const ambiguous = 4

// found gives the caller's jobs that begin with a prefix, at most ambiguous ones;
// there may be any number of others' before them.
func (s *jobs) found(ctx context.Context, prefix string) ([]navvy.JobID, error) {
	for limit := ambiguous; ; limit *= 16 {
		all, err := s.eng.Find(ctx, prefix, limit)
		if err != nil {
			return nil, err
		}
		var ids []navvy.JobID
		for _, id := range all {
			_, err := s.own(ctx, string(id))
			switch {
			case err == nil, errors.Is(err, navvy.ErrCorrupt):
				ids = append(ids, id)
			case !errors.Is(err, navvy.ErrNotFound):
				return nil, err
			}
		}
		if len(ids) >= ambiguous || len(all) < limit {
			return ids[:min(ambiguous, len(ids))], nil
		}
	}
}

// Find implements the call of that name.
func (s *jobs) Find(ctx context.Context, req *navvyv1.FindRequest) (*navvyv1.FindResponse, error) {
	ids, err := s.found(ctx, req.GetPrefix())
	if err != nil {
		return nil, s.fail(err)
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

// Bounds of a page of a list.
const (
	defaultPage = 100
	maxPage     = 1000
)

// pageLimit is how many there may be on a page, where so many are asked for; 0 leaves it to us.
func pageLimit(asked int32) int {
	if asked <= 0 {
		return defaultPage
	}
	return min(int(asked), maxPage)
}

// List implements the call of that name.
func (s *jobs) List(ctx context.Context, req *navvyv1.ListRequest) (*navvyv1.ListResponse, error) {
	resp, err := s.list(ctx, req)
	return resp, s.fail(err)
}

func (s *jobs) list(ctx context.Context, req *navvyv1.ListRequest) (*navvyv1.ListResponse, error) {
	limit := pageLimit(req.GetLimit())
	var before time.Time
	if page := req.GetPage(); page != "" {
		ns, err := strconv.ParseInt(page, 36, 64)
		if err != nil {
			return nil, fmt.Errorf("list: page %q is none that was given out: %w", page, navvy.ErrInvalid)
		}
		before = time.Unix(0, ns)
	}
	ids, next, err := s.jobsOf(ctx, req.GetWhose(), before, limit)
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
		if wanted(req, st) {
			resp.Jobs = append(resp.Jobs, st)
		}
	}
	if !next.IsZero() {
		resp.NextPage = strconv.FormatInt(next.UnixNano(), 36)
	}
	return resp, nil
}

// wanted tells whether a list is about a job.
func wanted(req *navvyv1.ListRequest, st *navvyv1.JobStatus) bool {
	return (req.GetState() == navvyv1.State_STATE_UNSPECIFIED || req.GetState() == st.GetStatus().GetState()) &&
		(req.GetQueue() == "" || req.GetQueue() == st.GetJob().GetQueue()) &&
		(req.GetName() == "" || req.GetName() == st.GetJob().GetName())
}

// jobsOf gives the jobs that a list is about.
func (s *jobs) jobsOf(ctx context.Context, whose navvyv1.Whose, before time.Time, limit int) ([]navvy.JobID, time.Time, error) {
	me := auth.From(ctx)
	all := me.SeesAll()
	switch whose {
	case navvyv1.Whose_WHOSE_UNSPECIFIED:
	case navvyv1.Whose_WHOSE_OWN:
		all = false
	case navvyv1.Whose_WHOSE_ALL:
		if !all {
			return nil, time.Time{}, fmt.Errorf("list: the role %s sees its own jobs only: %w", me.Role, navvy.ErrDenied)
		}
	default:
		return nil, time.Time{}, fmt.Errorf("list: whose jobs is %d? %w", whose, navvy.ErrInvalid)
	}
	if all {
		return s.eng.AllJobs(ctx, before, limit)
	}
	return s.eng.Jobs(ctx, me.Name, before, limit)
}

// damaged stands in the list for a job whose records cannot be read: its id, and
// a status that has no state and says why.
func damaged(id navvy.JobID, err error) *navvyv1.JobStatus {
	return &navvyv1.JobStatus{Job: &navvyv1.Job{Id: string(id)}, Status: &navvyv1.Status{Why: api.Text(err.Error())}}
}

// Hold implements the call of that name.
func (s *jobs) Hold(ctx context.Context, req *navvyv1.HoldRequest) (*navvyv1.Status, error) {
	o, err := s.changed(ctx, req.GetId(), navvyv1.Jobs_Hold_FullMethodName)
	if err != nil {
		return nil, s.fail(err)
	}
	st, err := s.mgr.Hold(ctx, o.id, o.by(ctx, "held", req.GetWhy()), req.GetInterrupt())
	if err != nil {
		return nil, s.fail(err)
	}
	return api.FromStatus(&st), nil
}

// Stop implements the call of that name.
func (s *jobs) Stop(ctx context.Context, req *navvyv1.StopRequest) (*navvyv1.Status, error) {
	o, err := s.changed(ctx, req.GetId(), navvyv1.Jobs_Stop_FullMethodName)
	if err != nil {
		return nil, s.fail(err)
	}
	st, err := s.mgr.Stop(ctx, o.id, o.by(ctx, "stopped", req.GetWhy()))
	if err != nil {
		return nil, s.fail(err)
	}
	return api.FromStatus(&st), nil
}

// Retry implements the call of that name.
func (s *jobs) Retry(ctx context.Context, req *navvyv1.RetryRequest) (*navvyv1.RetryResponse, error) {
	id, err := s.change(ctx, req.GetId(), navvyv1.Jobs_Retry_FullMethodName)
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
	id, err := s.change(ctx, req.GetId(), navvyv1.Jobs_Remove_FullMethodName)
	if err != nil && !(req.GetForce() && errors.Is(err, navvy.ErrCorrupt)) {
		return nil, s.fail(err)
	}
	if err := s.mgr.Remove(ctx, id, req.GetForce()); err != nil {
		return nil, s.fail(err)
	}
	if err := s.dropCopied(ctx, string(id)); err != nil {
		s.opts.Logger.Warn("what was copied for a job is removed later", "job", id, "error", err)
	}
	return &navvyv1.RemoveResponse{}, nil
}

// Printed implements the call of that name.
func (s *jobs) Printed(ctx context.Context, req *navvyv1.PrintedRequest) (*navvyv1.PrintedResponse, error) {
	id, err := s.change(ctx, req.GetId(), navvyv1.Jobs_Printed_FullMethodName)
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
		Policy: api.Text(s.opts.Policy.File()), Role: string(s.policyRole(ctx)),
	}
	if info.Free != nil {
		free, err := info.Free()
		if err != nil {
			return nil, s.fail(err)
		}
		resp.Free = &free
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
		resp.Workers = append(resp.Workers, workerStatus(&w))
	}
	return resp, nil
}
