package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/navvy-run/navvy"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
	"github.com/navvy-run/navvy/engine"
	"github.com/navvy-run/navvy/server/auth"
)

// messages implements the Messages service.
type messages struct {
	navvyv1.UnimplementedMessagesServer
	*Server
}

// Bounds of calls about messages.
const (
	maxCorrelation = 1024
	maxReceived    = 1000
	maxReceipts    = engine.MaxMessages
	// maxReceivedBytes bounds the bodies of one answer; a single one may exceed it.
	maxReceivedBytes = 4 << 20

	defaultLease = time.Minute
	minLease     = time.Second
	maxLease     = 12 * time.Hour
	maxWait      = 5 * time.Minute
)

// line is the caller's own in a queue.
func (s *messages) line(ctx context.Context, queue string) (engine.Line, error) {
	return engine.Line{Queue: queue, Owner: auth.From(ctx).Name}, navvy.ValidateQueue(queue)
}

// Send implements the call of that name.
func (s *messages) Send(ctx context.Context, req *navvyv1.SendRequest) (*navvyv1.SendResponse, error) {
	resp, err := s.send(ctx, req)
	return resp, s.fail(err)
}

func (s *messages) send(ctx context.Context, req *navvyv1.SendRequest) (*navvyv1.SendResponse, error) {
	if err := navvy.ValidateQueue(req.GetQueue()); err != nil {
		return nil, err
	}
	n := len(req.GetMessages())
	if n == 0 || n > engine.MaxMessages {
		return nil, fmt.Errorf("send: %d messages, want 1 to %d at once: %w", n, engine.MaxMessages, navvy.ErrInvalid)
	}
	inputs := make([][]byte, n)
	for i, m := range req.GetMessages() {
		if len(m.GetCorrelationId()) > maxCorrelation {
			return nil, fmt.Errorf("send: the correlation id of message %d has %d bytes, more than %d: %w", i, len(m.GetCorrelationId()), maxCorrelation, navvy.ErrInvalid)
		}
		inputs[i] = navvy.AppendMessage(nil, m.GetCorrelationId(), m.GetBody())
	}
	job, err := (&jobs{Server: s.Server}).asked(ctx, &navvyv1.Job{
		Queue: req.GetQueue(), Priority: req.GetPriority(), IdempotencyKey: req.GetIdempotencyKey(), Detached: true,
		Format: navvyv1.InputFormat_INPUT_FORMAT_MESSAGE,
		Spec:   &navvyv1.Spec{Kind: &navvyv1.Spec_Service{Service: &navvyv1.Service{}}},
	})
	if err != nil {
		return nil, err
	}
	job.Responses = true
	id, existed, err := s.accept(ctx, job, inputs)
	if err != nil {
		return nil, err
	}
	resp := &navvyv1.SendResponse{Existed: existed, Ids: make([]string, n)}
	for i := range resp.Ids {
		resp.Ids[i] = navvy.TaskID{Job: id, Index: int64(i)}.String()
	}
	return resp, nil
}

// accept makes a job of messages durable, or finds the first one with its idempotency key.
func (s *messages) accept(ctx context.Context, job navvy.Job, inputs [][]byte) (id navvy.JobID, existed bool, err error) {
	const tries = 3 // somebody may take the key, or remove its job, in between
	for range tries {
		if id, err = s.submitAll(ctx, job, inputs); err == nil || !errors.Is(err, navvy.ErrExists) {
			return id, false, err
		}
		if id == "" {
			continue // taken meanwhile
		}
		if err = s.sameMessages(ctx, id, &job, len(inputs)); !errors.Is(err, navvy.ErrNotFound) {
			return id, true, err
		}
	}
	return "", false, err
}

// submitAll makes a job durable. ErrExists comes with the id of the first job with its
// idempotency key, if that is known.
func (s *messages) submitAll(ctx context.Context, job navvy.Job, inputs [][]byte) (navvy.JobID, error) {
	sub, id, err := s.mgr.Submit(ctx, job, false)
	if err != nil {
		return id, err
	}
	if err = sub.Add(ctx, inputs...); err == nil {
		err = sub.Seal(ctx)
	}
	if err == nil {
		return id, nil
	}
	after, cancel := afterwards(ctx)
	defer cancel()
	return "", errors.Join(err, sub.Abort(after, "its messages were not accepted"))
}

// sameMessages sees that the first job with an idempotency key is about as many messages
// to the same service.
func (s *messages) sameMessages(ctx context.Context, id navvy.JobID, asked *navvy.Job, n int) error {
	first, err := (&jobs{Server: s.Server}).first(ctx, id, asked)
	if err != nil {
		return err
	}
	st, err := s.mgr.Status(ctx, id)
	if err == nil && (st.Counts.Total() != int64(n) || !first.Responses || first.Queue != asked.Queue) {
		err = fmt.Errorf("send: the idempotency key %q is that of other messages, those of job %s: %w", asked.IdempotencyKey, id, navvy.ErrConflict)
	}
	return err
}

// Receive implements the call of that name.
func (s *messages) Receive(ctx context.Context, req *navvyv1.ReceiveRequest) (*navvyv1.ReceiveResponse, error) {
	resp, err := s.receive(ctx, req)
	return resp, s.fail(err)
}

// within reads a duration that is to lie between two; unset it is def.
func within(d *durationpb.Duration, what string, def, least, most time.Duration) (time.Duration, error) {
	if d == nil {
		return def, nil
	}
	if v := d.AsDuration(); d.IsValid() && v >= least && v <= most {
		return v, nil
	}
	return 0, fmt.Errorf("%s of %s: want %s to %s: %w", what, d.AsDuration(), least, most, navvy.ErrInvalid)
}

func (s *messages) receive(ctx context.Context, req *navvyv1.ReceiveRequest) (*navvyv1.ReceiveResponse, error) {
	line, err := s.line(ctx, req.GetQueue())
	if err != nil {
		return nil, err
	}
	lease, err := within(req.GetLease(), "a lease", defaultLease, minLease, maxLease)
	if err != nil {
		return nil, err
	}
	wait, err := within(req.GetWait(), "a wait", 0, 0, maxWait)
	if err != nil {
		return nil, err
	}
	n := int(req.GetMax())
	if n < 0 || n > maxReceived {
		return nil, fmt.Errorf("receive: %d messages, want 1 to %d at once: %w", n, maxReceived, navvy.ErrInvalid)
	}
	r := &receiving{Server: s.Server, line: line, max: max(1, n), lease: lease, counter: s.desk.enter(line)}
	defer s.desk.leave(r.counter)
	list, err := r.run(ctx, wait)
	return &navvyv1.ReceiveResponse{Messages: list}, err
}

// noJob has no changes but the manager's end.
const noJob navvy.JobID = ""

// receiving is one call that receives.
type receiving struct {
	*Server
	line    engine.Line
	max     int
	lease   time.Duration
	counter *counter
}

// run waits for the first response, and gives those that there are then.
func (r *receiving) run(ctx context.Context, wait time.Duration) ([]*navvyv1.Message, error) {
	var over <-chan time.Time
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		over = timer.C
	}
	for {
		changed, due := r.desk.more(r.counter)
		list, some, err := r.take(ctx)
		if err != nil || len(list) > 0 || over == nil && !some {
			return list, err
		}
		if some {
			continue // those were gone; there may be others
		}
		ended := r.mgr.Changes(noJob)
		if err := r.mgr.Failure(); err != nil {
			return nil, err
		}
		if more, err := r.await(ctx, changed, ended, due, over); err != nil || !more {
			return nil, err
		}
	}
}

// await returns when there may be more to take; more is false when the time is over.
func (r *receiving) await(ctx context.Context, changed, ended <-chan struct{}, due time.Time, over <-chan time.Time) (more bool, err error) {
	var back <-chan time.Time
	if !due.IsZero() {
		timer := time.NewTimer(max(time.Millisecond, due.Sub(r.opts.Clock())))
		defer timer.Stop()
		back = timer.C
	}
	select {
	case <-ctx.Done():
		return false, context.Cause(ctx)
	case <-over:
		return false, nil
	case <-changed:
	case <-ended:
	case <-back:
	}
	return true, nil
}

// take leases what there is. some tells whether something was leased, which may be gone.
func (r *receiving) take(ctx context.Context) (list []*navvyv1.Message, some bool, err error) {
	taken, err := r.desk.take(ctx, r.line, r.counter, r.max, r.lease)
	bytes := 0
	reader := letterReader{Server: r.Server}
	for i := range taken {
		l := &taken[i]
		if err != nil || bytes >= maxReceivedBytes {
			r.back(taken[i:])
			break
		}
		var m *navvyv1.Message
		if m, err = reader.response(ctx, r.line, &l.Letter); errors.Is(err, navvy.ErrNotFound) {
			r.desk.drop(r.counter, &l.Letter)
			err = nil
			continue
		} else if err != nil {
			r.back(taken[i:])
			break
		}
		m.Receipt = l.receipt.String()
		if bytes += len(m.Body); bytes > maxReceivedBytes && len(list) > 0 {
			r.back(taken[i:])
			break
		}
		list = append(list, m)
	}
	if err != nil && len(list) > 0 {
		err = nil // it comes again
	}
	return list, len(taken) > 0, err
}

// back gives what was leased to nobody.
func (r *receiving) back(rest []lent) {
	receipts := make([]receipt, len(rest))
	for i := range rest {
		receipts[i] = rest[i].receipt
	}
	_ = r.desk.release(r.line, receipts, 0) // what is lost is somebody else's
}

// Ack implements the call of that name.
func (s *messages) Ack(ctx context.Context, req *navvyv1.AckRequest) (*navvyv1.AckResponse, error) {
	line, receipts, err := s.receipts(ctx, req.GetQueue(), req.GetReceipts())
	if err != nil {
		return nil, s.fail(err)
	}
	n, expires, err := s.desk.ack(ctx, line, receipts)
	if expires {
		s.mgr.ExpireSoon()
	}
	if err != nil {
		return nil, s.fail(err)
	}
	return &navvyv1.AckResponse{Acknowledged: int64(n)}, nil
}

// Release implements the call of that name.
func (s *messages) Release(ctx context.Context, req *navvyv1.ReleaseRequest) (*navvyv1.ReleaseResponse, error) {
	line, receipts, err := s.receipts(ctx, req.GetQueue(), req.GetReceipts())
	if err != nil {
		return nil, s.fail(err)
	}
	delay, err := within(req.GetDelay(), "a delay", 0, 0, maxLease)
	if err == nil {
		err = s.desk.release(line, receipts, delay)
	}
	if err != nil {
		return nil, s.fail(err)
	}
	return &navvyv1.ReleaseResponse{}, nil
}

// receipts reads those of a request, each once.
func (s *messages) receipts(ctx context.Context, queue string, texts []string) (engine.Line, []receipt, error) {
	line, err := s.line(ctx, queue)
	if err != nil {
		return line, nil, err
	}
	if n := len(texts); n == 0 || n > maxReceipts {
		return line, nil, fmt.Errorf("%d receipts, want 1 to %d at once: %w", n, maxReceipts, navvy.ErrInvalid)
	}
	seen := make(map[receipt]bool, len(texts))
	list := make([]receipt, 0, len(texts))
	for _, text := range texts {
		r, err := parseReceipt(text)
		if err != nil {
			return line, nil, err
		}
		if !seen[r] {
			seen[r] = true
			list = append(list, r)
		}
	}
	return line, list, nil
}
