package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/api"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
)

// Workers is what a worker calls. Its methods may be called at once.
type Workers struct {
	rpc   navvyv1.WorkersClient
	files navvyv1.TaskFilesClient
	conn  grpc.ClientConnInterface
}

// NewWorkers makes a worker's client of a connection, which the caller closes.
func NewWorkers(conn grpc.ClientConnInterface) *Workers {
	return &Workers{rpc: navvyv1.NewWorkersClient(conn), files: navvyv1.NewTaskFilesClient(conn), conn: conn}
}

// Function gives the function that an attempt calls, which must be leased to the caller.
// ErrNotFound says that it was removed, ErrLeaseLost that the lease is over.
func (w *Workers) Function(ctx context.Context, ref AttemptRef) (*navvy.FunctionVersion, error) {
	m, err := w.rpc.Function(ctx, &navvyv1.WorkersFunctionRequest{Attempt: api.FromRef(ref.Task, ref.Attempt)})
	if err != nil {
		return nil, api.FromWire(err)
	}
	return api.ToFunctionVersion(m), nil
}

// Fate is what the server knows of a task.
type Fate uint8

// What may become of a task: an answer is wanted, or nobody wants one any more; or there is
// no such task, as its job was removed, or is another server's.
const (
	FateOpen Fate = iota
	FateClosed
	FateUnknown
)

// askAtOnce is how many tasks the server is asked about in one call.
const askAtOnce = 5_000

// Fates tells what became of tasks, in their order.
func (w *Workers) Fates(ctx context.Context, tasks []navvy.TaskID) ([]Fate, error) {
	fates := make([]Fate, len(tasks))
	for from := 0; from < len(tasks); from += askAtOnce {
		some := tasks[from:min(from+askAtOnce, len(tasks))]
		req := &navvyv1.WorkersClosedRequest{}
		for _, t := range some {
			req.Tasks = append(req.Tasks, &navvyv1.TaskRef{Job: string(t.Job), Index: t.Index})
		}
		resp, err := w.rpc.Closed(ctx, req)
		if err != nil {
			return nil, api.FromWire(err)
		}
		for _, list := range []struct {
			at   []int32
			fate Fate
		}{{resp.GetClosed(), FateClosed}, {resp.GetUnknown(), FateUnknown}} {
			for _, i := range list.at {
				if i < 0 || int(i) >= len(some) {
					return nil, fmt.Errorf("the server tells of task %d of %d: %w", i, len(some), navvy.ErrCorrupt)
				}
				fates[from+int(i)] = list.fate
			}
		}
	}
	return fates, nil
}

// Conn is the connection.
func (w *Workers) Conn() grpc.ClientConnInterface { return w.conn }

// WorkerInfo is how a worker introduces itself.
type WorkerInfo struct {
	Name  string
	Kinds []string // the kinds of work that it runs
	Slots int      // how many attempts it takes at once; 0 leaves it to the server
	// Abilities are what its host enforces for each kind.
	Abilities []navvy.KindAbilities
	Offer     navvy.Offer // what it has for the tasks that it runs
	// SingleOwner is the one owner whose tasks it runs; empty for all.
	SingleOwner string
	// Returns says that it keeps reports until they are settled, and comes back after a
	// broken session for what it holds.
	Returns bool
	Held    []Held
	Version string // for people
	// Process is chosen at random when the worker's process begins, so that two under one
	// name are told apart. Empty if nobody is to.
	Process string
}

// Held is an attempt that a worker brings along from an earlier session.
type Held struct {
	AttemptRef
	Slot int
}

// Welcome is how a worker is to behave.
type Welcome struct {
	Name      string        // what the server calls it
	Lease     time.Duration // how long a lease lasts without a heartbeat; 0 if as long as the session
	Heartbeat time.Duration // how often to say Alive; 0 for never
	Idle      time.Duration // how often, while the worker has no attempt
	// Share is what the file share-id at the top of the server's share holds; empty if the
	// server does not say.
	Share string
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
	Owner  string
}

// Assignment is an attempt to run.
type Assignment struct {
	AttemptRef
	Job   *WorkJob // the same pointer for all tasks of a job, as long as the job is busy
	Slot  int
	Input []byte
	Watch bool // stream its output from the start
	// Round is how often the job was retried by hand, Failed how many of the task's
	// attempts have failed in this round.
	Round, Failed int
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
	Explain     []AttemptRef // tell what they wait for: Session.Explain
	Drain       bool         // leave, once nothing runs any more
}

// Report is an attempt that has ended.
type Report struct {
	Task    navvy.TaskID
	Attempt navvy.Attempt
}

// Session is a worker's session with a server. Next is for one goroutine at a
// time, and so are Report, Alive, Explain, Offer and Leave together.
type Session struct {
	Welcome
	stream grpc.BidiStreamingClient[navvyv1.WorkRequest, navvyv1.WorkResponse]
	jobs   map[string]*WorkJob
}

// maxWorkJobs bounds the jobs that a session remembers.
const maxWorkJobs = 256

// Work begins a session, which ends with ctx, and returns when the server has agreed.
func (w *Workers) Work(ctx context.Context, info WorkerInfo) (*Session, error) {
	stream, err := w.rpc.Work(ctx)
	if err != nil {
		return nil, refused(err)
	}
	hello := &navvyv1.Hello{
		Name: info.Name, Kinds: info.Kinds, Slots: int32(info.Slots), Abilities: api.FromAbilities(info.Abilities),
		Keeps: info.Returns, Returns: info.Returns, Version: info.Version, Process: info.Process,
		Offer: api.FromOffer(&info.Offer), SingleOwner: info.SingleOwner,
	}
	for _, h := range info.Held {
		hello.Held = append(hello.Held, &navvyv1.HeldAttempt{Attempt: api.FromRef(h.Task, h.Attempt), Slot: int32(h.Slot)})
	}
	if err := sent(stream.Send(&navvyv1.WorkRequest{Hello: hello})); err != nil {
		return nil, err
	}
	m, err := stream.Recv()
	if err != nil {
		return nil, refused(err)
	}
	welcome := m.GetWelcome()
	return &Session{stream: stream, Welcome: Welcome{
		Name: welcome.GetName(), Lease: welcome.GetLease().AsDuration(), Heartbeat: welcome.GetHeartbeat().AsDuration(),
		Share: welcome.GetShare(),
		Idle:  max(welcome.GetHeartbeat().AsDuration(), welcome.GetIdleHeartbeat().AsDuration()),
	}}, nil
}

// refused turns the error of a first call into ours: ErrDenied if the server refuses
// our certificate, which package tls says of a connection that breaks.
func refused(err error) error {
	if why := refusal(err.Error()); why != nil {
		return why
	}
	return api.FromWire(err)
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
	o := Orders{Drain: m.GetDrain()}
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
			Round: int(a.GetRound()), Failed: int(a.GetFailed()),
		}
	}
	for _, r := range m.GetWatch() {
		o.Watch = append(o.Watch, toRef(r))
	}
	for _, r := range m.GetExplain() {
		o.Explain = append(o.Explain, toRef(r))
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
	j := &WorkJob{ID: navvy.JobID(m.GetId()), Spec: api.ToSpec(m.GetSpec()), Format: navvy.InputFormat(m.GetFormat()), Owner: m.GetOwner()}
	s.jobs[m.GetId()] = j
	return j
}

// Report tells the server of attempts that have ended, and asks for as many further
// ones as want says. The worker may forget them when Next says that they are settled.
func (s *Session) Report(reports []Report, want int) error {
	m := &navvyv1.WorkRequest{Reports: make([]*navvyv1.Report, len(reports)), Want: int32(want)}
	for i := range reports {
		r := &reports[i]
		m.Reports[i] = &navvyv1.Report{Job: string(r.Task.Job), Index: r.Task.Index, Attempt: api.FromAttempt(&r.Attempt)}
	}
	return sent(s.stream.Send(m))
}

// Alive says that the worker is there, and renews the leases of the attempts that it names.
func (s *Session) Alive(refs []AttemptRef) error {
	m := &navvyv1.WorkRequest{Beat: true, Alive: make([]*navvyv1.AttemptRef, len(refs))}
	for i, r := range refs {
		m.Alive[i] = api.FromRef(r.Task, r.Attempt)
	}
	return sent(s.stream.Send(m))
}

// Explain tells what attempts wait for, of which the server has asked; empty for nothing
// that is known.
func (s *Session) Explain(waiting map[AttemptRef]string) error {
	m := &navvyv1.WorkRequest{}
	for r, why := range waiting {
		m.Explanations = append(m.Explanations, &navvyv1.Explanation{Attempt: api.FromRef(r.Task, r.Attempt), Waiting: api.Text(why)})
	}
	return sent(s.stream.Send(m))
}

// Offer says anew what the worker runs, in place of what WorkerInfo said.
func (s *Session) Offer(kinds []string, abilities []navvy.KindAbilities) error {
	return sent(s.stream.Send(&navvyv1.WorkRequest{Kinds: &navvyv1.Kinds{Kinds: kinds, Abilities: api.FromAbilities(abilities)}}))
}

// Leave says that the worker takes no further attempts.
func (s *Session) Leave() error { return sent(s.stream.Send(&navvyv1.WorkRequest{Leaving: true})) }

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

// Taken asks how much of the output the server has, as the first call on the stream.
// ErrLeaseLost as with Upload.
func (o *OutputStream) Taken() (int64, error) {
	if err := o.Send(nil); err != nil {
		return 0, err
	}
	return o.Sent()
}

// Upload sends frames and waits until the server has taken them; they are then
// the caller's again. ErrLeaseLost if the attempt has no right to write any more.
func (o *OutputStream) Upload(frames []byte) error {
	if err := o.Send(frames); err != nil {
		return err
	}
	_, err := o.Sent()
	return err
}

// Send sends frames without waiting; Sent does, for each call of Send in turn, and
// says how much of the output the server has taken by then. Over a network, frames
// are the caller's again when Send returns.
func (o *OutputStream) Send(frames []byte) error {
	err := sent(o.stream.Send(&navvyv1.WriteOutputRequest{Attempt: o.ref, Frames: frames}))
	o.ref = nil
	return err
}

// Sent waits until the server has taken what the next Send sent. ErrLeaseLost as with Upload.
func (o *OutputStream) Sent() (int64, error) {
	m, err := o.stream.Recv()
	return m.GetTaken(), api.FromWire(err)
}

// Close ends the stream. What was uploaded has been taken.
func (o *OutputStream) Close() { o.cancel() }

// MarshalReport gives a report as bytes, which a later version can read: a Report of
// api/navvy/v1/workers.proto.
func MarshalReport(r *Report) ([]byte, error) {
	return proto.Marshal(&navvyv1.Report{Job: string(r.Task.Job), Index: r.Task.Index, Attempt: api.FromAttempt(&r.Attempt)})
}

// UnmarshalReport reads what MarshalReport gave. The error wraps navvy.ErrCorrupt.
func UnmarshalReport(b []byte) (Report, error) {
	var m navvyv1.Report
	if err := proto.Unmarshal(b, &m); err != nil {
		return Report{}, fmt.Errorf("a report: %w: %w", err, navvy.ErrCorrupt)
	}
	return Report{Task: navvy.TaskID{Job: navvy.JobID(m.GetJob()), Index: m.GetIndex()}, Attempt: api.ToAttempt(m.GetAttempt())}, nil
}
