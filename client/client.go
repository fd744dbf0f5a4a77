package client

import (
	"context"
	"errors"
	"io"
	"iter"

	"google.golang.org/grpc"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/api"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
)

// Client calls one server. Its methods may be called at once. Their errors wrap
// the sentinels of package navvy; ErrUnavailable says that the server went away.
type Client struct {
	jobs      navvyv1.JobsClient
	kv        navvyv1.KVClient
	files     navvyv1.FilesClient
	identity  navvyv1.IdentityClient
	fleet     navvyv1.FleetClient
	queues    navvyv1.QueuesClient
	functions navvyv1.FunctionsClient
	messages  navvyv1.MessagesClient
	conn      grpc.ClientConnInterface
	calls     calls
}

// New makes a client of a connection, which the caller closes.
func New(conn grpc.ClientConnInterface) *Client {
	return &Client{
		jobs: navvyv1.NewJobsClient(conn), kv: navvyv1.NewKVClient(conn), files: navvyv1.NewFilesClient(conn), identity: navvyv1.NewIdentityClient(conn), queues: navvyv1.NewQueuesClient(conn),
		functions: navvyv1.NewFunctionsClient(conn), messages: navvyv1.NewMessagesClient(conn),
		fleet: navvyv1.NewFleetClient(conn), conn: conn,
	}
}

// Job is a job and where it stands.
type Job struct {
	navvy.Job
	Status navvy.Status
}

func toJob(m *navvyv1.JobStatus) Job {
	return Job{Job: api.ToJob(m.GetJob()), Status: api.ToStatus(m.GetStatus())}
}

// Find turns the beginning of an id into the whole. ErrNotFound if no job
// begins so, ErrInvalid if several do.
func (c *Client) Find(ctx context.Context, prefix string) (navvy.JobID, error) {
	if err := navvy.ValidatePrefix(prefix); err != nil {
		return "", err
	}
	resp, err := c.jobs.Find(ctx, &navvyv1.FindRequest{Prefix: prefix})
	if err != nil {
		return "", api.FromWire(err)
	}
	return navvy.JobID(resp.GetId()), nil
}

// Get tells where a job stands.
func (c *Client) Get(ctx context.Context, id navvy.JobID) (Job, error) {
	resp, err := c.jobs.Get(ctx, &navvyv1.GetRequest{Id: string(id)})
	if err != nil {
		return Job{}, api.FromWire(err)
	}
	return toJob(resp), nil
}

// Jobs gives the jobs that the caller sees, newest first, as they are asked for. One whose records
// are damaged comes as its id with an error that wraps ErrCorrupt; the others
// still follow. Any other error is the last.
func (c *Client) Jobs(ctx context.Context) iter.Seq2[Job, error] { return c.JobsOf(ctx, WhoseDefault) }

// Whose says whose jobs are meant.
type Whose int

// Whose jobs. WhoseAll is ErrDenied for a user.
const (
	WhoseDefault Whose = iota // its own for a user, everybody's for an admin and a viewer
	WhoseOwn
	WhoseAll
)

// JobsOf is Jobs for the jobs of some owners.
func (c *Client) JobsOf(ctx context.Context, whose Whose) iter.Seq2[Job, error] {
	return func(yield func(Job, error) bool) {
		page := ""
		for {
			resp, err := c.jobs.List(ctx, &navvyv1.ListRequest{Page: page, Whose: navvyv1.Whose(whose)})
			if err != nil {
				yield(Job{}, api.FromWire(err))
				return
			}
			for _, m := range resp.GetJobs() {
				if !yield(toJob(m), damage(m)) {
					return
				}
			}
			if page = resp.GetNextPage(); page == "" {
				return
			}
		}
	}
}

// damage is the error of a job in a list that cannot be read; it has no state.
func damage(m *navvyv1.JobStatus) error {
	if m.GetStatus().GetState() != navvyv1.State_STATE_UNSPECIFIED {
		return nil
	}
	return &damageError{why: m.GetStatus().GetWhy()}
}

type damageError struct{ why string }

func (e *damageError) Error() string { return e.why }
func (e *damageError) Unwrap() error { return navvy.ErrCorrupt }

// Hold lets no further task of the job start until it is resumed. With
// interrupt, what runs is ended and will run again.
func (c *Client) Hold(ctx context.Context, id navvy.JobID, why string, interrupt bool) error {
	_, err := c.jobs.Hold(ctx, &navvyv1.HoldRequest{Id: string(id), Why: api.Text(why), Interrupt: interrupt})
	return api.FromWire(err)
}

// Stop ends the job: what has no answer is stopped. It does not wait for what
// runs to end; Wait does.
func (c *Client) Stop(ctx context.Context, id navvy.JobID, why string) (navvy.Status, error) {
	st, err := c.jobs.Stop(ctx, &navvyv1.StopRequest{Id: string(id), Why: api.Text(why)})
	return api.ToStatus(st), api.FromWire(err)
}

// RetryOptions say which tasks run again: those named, else those that failed or
// were stopped, else all.
type RetryOptions struct {
	Indexes []int64
	Failed  bool
}

// Retry makes tasks pending again and returns how many.
func (c *Client) Retry(ctx context.Context, id navvy.JobID, o RetryOptions) (int64, navvy.Status, error) {
	resp, err := c.jobs.Retry(ctx, &navvyv1.RetryRequest{Id: string(id), Indexes: o.Indexes, Failed: o.Failed})
	return resp.GetTasks(), api.ToStatus(resp.GetStatus()), api.FromWire(err)
}

// Remove deletes an ended job with its answers. With force it is stopped first.
func (c *Client) Remove(ctx context.Context, id navvy.JobID, force bool) error {
	_, err := c.jobs.Remove(ctx, &navvyv1.RemoveRequest{Id: string(id), Force: force})
	return api.FromWire(err)
}

// Wait returns when the job has ended, or, being held, when nothing of it runs.
func (c *Client) Wait(ctx context.Context, id navvy.JobID) (navvy.Status, error) {
	var last navvy.Status
	for st, err := range c.Watch(ctx, id, false) {
		if err != nil {
			return navvy.Status{}, err
		}
		last = st
	}
	return last, nil
}

// Watch gives the job's status until nothing of it goes on: each change, or
// without progress only the last.
func (c *Client) Watch(ctx context.Context, id navvy.JobID, progress bool) iter.Seq2[navvy.Status, error] {
	return statuses(ctx, func(ctx context.Context) (grpc.ServerStreamingClient[navvyv1.Status], error) {
		return c.jobs.Watch(ctx, &navvyv1.WatchRequest{Id: string(id), Progress: progress})
	})
}

// ResumeOptions say how a job goes on.
type ResumeOptions struct {
	// Attach stays with the job: it is held again when the call ends before it does.
	Attach bool
	// Parallelism changes how many tasks run at once; 0 leaves it.
	Parallelism int
	// Progress asks for each change, not only the first and the last status.
	Progress bool
}

// Resume frees a held job and gives its status once; with Attach until nothing of it goes on.
func (c *Client) Resume(ctx context.Context, id navvy.JobID, o ResumeOptions) iter.Seq2[navvy.Status, error] {
	return statuses(ctx, func(ctx context.Context) (grpc.ServerStreamingClient[navvyv1.Status], error) {
		return c.jobs.Resume(ctx, &navvyv1.ResumeRequest{
			Id: string(id), Attach: o.Attach, Parallelism: int32(o.Parallelism), Progress: o.Progress,
		})
	})
}

// statuses gives what a stream sends.
func statuses(ctx context.Context, open func(context.Context) (grpc.ServerStreamingClient[navvyv1.Status], error)) iter.Seq2[navvy.Status, error] {
	return func(yield func(navvy.Status, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		stream, err := open(ctx)
		for err == nil {
			var m *navvyv1.Status
			if m, err = stream.Recv(); err == nil && !yield(api.ToStatus(m), nil) {
				return
			}
		}
		if !errors.Is(err, io.EOF) {
			yield(navvy.Status{}, api.FromWire(err))
		}
	}
}

// Overview is the whole system at a glance.
func (c *Client) Overview(ctx context.Context) (*navvyv1.OverviewResponse, error) {
	resp, err := c.jobs.Overview(ctx, &navvyv1.OverviewRequest{})
	return resp, api.FromWire(err)
}
