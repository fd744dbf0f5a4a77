package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/navvy-run/navvy"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
	"github.com/navvy-run/navvy/policy"
	"github.com/navvy-run/navvy/server/auth"
)

// owned is a job that the caller may see.
type owned struct {
	id navvy.JobID
	// others says that it belongs to somebody else, or, if its records are
	// damaged, that nobody knows.
	others bool
	owner  string // empty if nobody knows
}

// see looks a job up that the caller may see: its own, or, for an admin and a
// viewer, any. Others do not exist. The job comes along with ErrCorrupt, if its
// records are damaged.
func (s *Server) see(ctx context.Context, id string) (owned, error) {
	job, me := navvy.JobID(id), auth.From(ctx)
	if err := job.Validate(); err != nil {
		return owned{}, err
	}
	if !me.SeesAll() && me.Role != auth.RoleUser {
		return owned{}, notFound(job)
	}
	j, _, err := s.mgr.Job(ctx, job)
	o := owned{id: job}
	switch {
	case errors.Is(err, navvy.ErrCorrupt):
		mine, lookErr := s.eng.Owns(ctx, me.Name, job)
		if lookErr != nil {
			return owned{}, lookErr
		}
		o.others = !mine
	case err != nil:
		return owned{}, err
	default:
		o.others, o.owner = j.Owner != me.Name, j.Owner
	}
	if o.others && !me.SeesAll() {
		return owned{}, notFound(job)
	}
	return o, err
}

// own turns the id of a request into that of a job that the caller may see; others
// do not exist. The id comes along with ErrCorrupt, if the job's records are damaged.
func (s *Server) own(ctx context.Context, id string) (navvy.JobID, error) {
	o, err := s.see(ctx, id)
	return o.id, err
}

// change is own for a call that changes the job: ErrDenied for a viewer. What an
// admin does to another's job goes into the audit log.
func (s *Server) change(ctx context.Context, id, method string) (navvy.JobID, error) {
	o, err := s.changed(ctx, id, method)
	return o.id, err
}

// changed is change, and tells also whose the job is.
func (s *Server) changed(ctx context.Context, id, method string) (owned, error) {
	me := auth.From(ctx)
	o, err := s.see(ctx, id)
	if o.id == "" {
		return owned{}, err
	}
	if me.Role == auth.RoleViewer {
		return owned{}, fmt.Errorf("job %s: the role %s sees jobs and changes none: %w", id, me.Role, navvy.ErrDenied)
	}
	if o.others {
		s.opts.Gate.Acted(ctx, me, method, slog.String("job", string(o.id)), slog.String("owner", o.owner))
	}
	return o, err
}

// by is why a job is stopped or held, in the words of whoever calls, and if that is
// not its owner, who did it.
func (o *owned) by(ctx context.Context, did, why string) string {
	switch me := auth.From(ctx); {
	case o.others && why == "":
		return fmt.Sprintf("%s by %s %s", did, me.Role, me.Name)
	case o.others:
		return fmt.Sprintf("%s by %s %s: %s", did, me.Role, me.Name, why)
	case why == "":
		return did + " by its user"
	default:
		return why
	}
}

// policyRole is the role in the policy of whoever calls.
func (s *Server) policyRole(ctx context.Context) policy.Role {
	me := auth.From(ctx)
	switch {
	case me.Local:
		return s.opts.Policy.Local()
	case me.Role == auth.RoleAdmin:
		return policy.Admin
	default:
		return policy.User
	}
}

// isolate isolates a job of whoever calls, if it comes over the network and the policy
// wants that of jobs that do not ask for it. asked is what the call says.
func (s *Server) isolate(ctx context.Context, asked *navvyv1.Spec, spec *navvy.Spec) error {
	not := asked != nil && asked.Isolate != nil && !asked.GetIsolate()
	return s.opts.Policy.Isolate(s.policyRole(ctx), spec, !auth.From(ctx).Local, not)
}

// workerName is what a worker is called: as its certificate says, whatever it says
// itself, unless it is this process's own.
func workerName(ctx context.Context, says string) string {
	if me := auth.From(ctx); !me.Local {
		return me.Name
	}
	return says
}
