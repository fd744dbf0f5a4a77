package client

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/api"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
)

// Workers is what a worker calls. Its methods may be called at once.
type Workers struct{ rpc navvyv1.WorkersClient }

// NewWorkers makes a worker's client of a connection, which the caller closes.
func NewWorkers(conn grpc.ClientConnInterface) *Workers {
	return &Workers{rpc: navvyv1.NewWorkersClient(conn)}
}

// WorkerInfo is how a worker introduces itself.
type WorkerInfo struct {
	Name  string
	Kinds []string // the kinds of work that it runs
	Slots int      // how many attempts it takes at once; 0 leaves it to the server
	// Abilities are what its host enforces for each kind.
	Abilities []navvy.KindAbilities
}

// AttemptRef names an attempt wherever it is.
type AttemptRef struct {
	Task    navvy.TaskID
	Attempt navvy.AttemptID
}

// WorkJob is what a worker knows of a job.
type WorkJob struct {
	ID     navvy.JobID
	Spec   navvy.Spec
	Format navvy.InputFormat
}

// Assignment is an attempt to run.
type Assignment struct {
	AttemptRef
	Job   *WorkJob // the same pointer for all tasks of a job, as long as the job is busy
	Slot  int
	Input []byte
	Watch bool // stream its output from the start
}

// StopOrder asks to end an attempt.
type StopOrder struct {
	AttemptRef
	Force bool // do not wait for the grace to pass
}

// Settled says that a report is settled. Refused says why the attempt is not
// the task's answer, empty if it is, or will be tried again.
type Settled struct {
	AttemptRef
	Refused string
}

// Orders is what a server tells a worker at once.
type Orders struct {
	Assignments []Assignment
	Watch       []AttemptRef
	Stops       []StopOrder
	Settled     []Settled
}

// Report is an attempt that has ended.
type Report struct {
	Task    navvy.TaskID
	Attempt navvy.Attempt
}

// Session is a worker's session with a server. Next is for one goroutine at a
// time, and so is Report.
type Session struct {
	stream grpc.BidiStreamingClient[navvyv1.WorkRequest, navvyv1.WorkResponse]
	jobs   map[string]*WorkJob
}

// maxWorkJobs bounds the jobs that a session remembers.
const maxWorkJobs = 256

// Work begins a session, which ends with ctx.
func (w *Workers) Work(ctx context.Context, info WorkerInfo) (*Session, error) {
	stream, err := w.rpc.Work(ctx)
	if err != nil {
		return nil, api.FromWire(err)
	}
	hello := &navvyv1.Hello{Name: info.Name, Kinds: info.Kinds, Slots: int32(info.Slots), Abilities: api.FromAbilities(info.Abilities)}
	if err := sent(stream.Send(&navvyv1.WorkRequest{Hello: hello})); err != nil {
		return nil, err
	}
	return &Session{stream: stream}, nil
}

// sent turns the error of a Send into ours. io.EOF is none: it says that the
// stream has ended, and why is for Recv to say.
func sent(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return api.FromWire(err)
}

// Next waits for orders.
func (s *Session) Next() (Orders, error) {
	m, err := s.stream.Recv()
	if err != nil {
		return Orders{}, api.FromWire(err)
	}
	var o Orders
	jobs := make([]*WorkJob, len(m.GetJobs()))
	for i, j := range m.GetJobs() {
		jobs[i] = s.job(j)
	}
	o.Assignments = make([]Assignment, len(m.GetAssignments()))
	for i, a := range m.GetAssignments() {
		if a.GetJob() < 0 || int(a.GetJob()) >= len(jobs) {
			return Orders{}, fmt.Errorf("the server assigns a task of a job that it does not name: %w", navvy.ErrInvalid)
		}
		job := jobs[a.GetJob()]
		o.Assignments[i] = Assignment{
			AttemptRef: AttemptRef{navvy.TaskID{Job: job.ID, Index: a.GetIndex()}, api.AttemptID(a)},
			Job:        job, Slot: int(a.GetSlot()), Input: a.GetInput(), Watch: a.GetWatch(),
		}
	}
	for _, r := range m.GetWatch() {
		o.Watch = append(o.Watch, toRef(r))
	}
	for _, r := range m.GetStops() {
		o.Stops = append(o.Stops, StopOrder{toRef(r.GetAttempt()), r.GetForce()})
	}
	for _, r := range m.GetSettled() {
		o.Settled = append(o.Settled, Settled{toRef(r.GetAttempt()), r.GetRefused()})
	}
	return o, nil
}

func toRef(m *navvyv1.AttemptRef) AttemptRef {
	task, attempt := api.ToRef(m)
	return AttemptRef{task, attempt}
}

func (s *Session) job(m *navvyv1.WorkJob) *WorkJob {
	if j := s.jobs[m.GetId()]; j != nil {
		return j
	}
	if s.jobs == nil || len(s.jobs) >= maxWorkJobs {
		s.jobs = map[string]*WorkJob{}
	}
	j := &WorkJob{ID: navvy.JobID(m.GetId()), Spec: api.ToSpec(m.GetSpec()), Format: navvy.InputFormat(m.GetFormat())}
	s.jobs[m.GetId()] = j
	return j
}

// Report tells the server of attempts that have ended. It may forget them when
// Next says that they are settled.
func (s *Session) Report(reports []Report) error {
	m := &navvyv1.WorkRequest{Reports: make([]*navvyv1.Report, len(reports))}
	for i := range reports {
		r := &reports[i]
		m.Reports[i] = &navvyv1.Report{Job: string(r.Task.Job), Index: r.Task.Index, Attempt: api.FromAttempt(&r.Attempt)}
	}
	return sent(s.stream.Send(m))
}

// OutputStream carries one attempt's output to the server. It is for one goroutine at a time.
type OutputStream struct {
	stream grpc.BidiStreamingClient[navvyv1.WriteOutputRequest, navvyv1.WriteOutputResponse]
	cancel context.CancelFunc
	ref    *navvyv1.AttemptRef // nil once it was sent
}

// WriteOutput opens the stream. The caller closes it.
func (w *Workers) WriteOutput(ctx context.Context, r AttemptRef) (*OutputStream, error) {
	ctx, cancel := context.WithCancel(ctx)
	stream, err := w.rpc.WriteOutput(ctx)
	if err != nil {
		cancel()
		return nil, api.FromWire(err)
	}
	return &OutputStream{stream: stream, cancel: cancel, ref: api.FromRef(r.Task, r.Attempt)}, nil
}

// Upload sends frames and waits until the server has taken them; they are then
// the caller's again. ErrLeaseLost if the attempt has no right to write any more.
func (o *OutputStream) Upload(frames []byte) error {
	if err := sent(o.stream.Send(&navvyv1.WriteOutputRequest{Attempt: o.ref, Frames: frames})); err != nil {
		return err
	}
	o.ref = nil
	_, err := o.stream.Recv()
	return api.FromWire(err)
}

// Close ends the stream. What was uploaded has been taken.
func (o *OutputStream) Close() { o.cancel() }
