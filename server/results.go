package server

import (
	"context"
	"errors"
	"fmt"

	"github.com/RoaringBitmap/roaring/v2"
	"google.golang.org/grpc"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/api"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
	"github.com/navvy-run/navvy/engine"
)

// Bounds of one message of results.
const (
	maxResults      = 512
	maxResultsBytes = 1 << 20
)

// bitmap reads a set of indexes from whatever bytes came. The error wraps navvy.ErrInvalid.
func bitmap(b []byte) (*roaring.Bitmap, error) {
	set := roaring.New()
	if len(b) == 0 {
		return set, nil
	}
	err := set.UnmarshalBinary(b)
	if err == nil {
		err = set.Validate() // what is not in order may panic later
	}
	if err != nil {
		return nil, fmt.Errorf("indexes are no roaring bitmap: %v: %w", err, navvy.ErrInvalid) //nolint:errorlint // one cause is enough for the caller
	}
	return set, nil
}

// Results implements the call of that name.
func (s *jobs) Results(req *navvyv1.ResultsRequest, stream grpc.ServerStreamingServer[navvyv1.ResultsResponse]) error {
	return s.fail(s.results(req, stream))
}

func (s *jobs) results(req *navvyv1.ResultsRequest, stream grpc.ServerStreamingServer[navvyv1.ResultsResponse]) error {
	ctx := stream.Context()
	look := s.own
	if req.GetMarkRead() {
		look = func(ctx context.Context, id string) (navvy.JobID, error) {
			return s.change(ctx, id, navvyv1.Jobs_Results_FullMethodName)
		}
	}
	id, err := look(ctx, req.GetId())
	if err != nil {
		return err
	}
	if req.GetFrom() < 0 || req.GetLimit() < 0 {
		return fmt.Errorf("results: from and limit cannot be negative: %w", navvy.ErrInvalid)
	}
	r := &resultReader{Server: s.Server, req: req, job: id, next: req.GetFrom(), send: stream.Send, seen: roaring.New()}
	if req.GetUnprinted() {
		printed, err := s.eng.Printed(ctx, id)
		if err != nil {
			return err
		}
		if r.seen, err = bitmap(printed); err != nil {
			return err
		}
	}
	ended, err := r.run(ctx)
	if err != nil || !ended || !req.GetMarkRead() || r.full() {
		return err
	}
	return s.eng.MarkRead(ctx, id)
}

// resultReader sends the results of one call.
type resultReader struct {
	*Server
	req  *navvyv1.ResultsRequest
	job  navvy.JobID
	send func(*navvyv1.ResultsResponse) error

	next  int64           // in input order: the first index that was not passed
	seen  *roaring.Bitmap // as completed, or unprinted: what need not be sent
	sent  int64
	chunk *engine.Chunk
	batch []*navvyv1.Result
	bytes int
}

// full tells whether the limit is reached.
func (r *resultReader) full() bool { return r.req.GetLimit() > 0 && r.sent >= r.req.GetLimit() }

// run sends what there is, and with follow what comes, until nothing of the job
// goes on. It tells whether the job has ended.
func (r *resultReader) run(ctx context.Context) (ended bool, err error) {
	for {
		changed := r.mgr.Changes(r.job)
		st, settled, err := r.mgr.Settled(ctx, r.job)
		if err != nil {
			return false, err
		}
		ended = settled && !st.Held
		// Tasks that never get a result must not hide those behind them.
		gaps := ended || !r.req.GetFollow()
		if err := r.round(ctx, gaps); err != nil {
			return false, err
		}
		if r.full() || settled || !r.req.GetFollow() {
			return ended, nil
		}
		select {
		case <-ctx.Done():
			return false, context.Cause(ctx)
		case <-changed:
		}
	}
}

// round sends what can be sent now.
func (r *resultReader) round(ctx context.Context, gaps bool) error {
	if r.req.GetAsCompleted() {
		if fresh, ok := r.mgr.AnsweredSince(r.job, r.seen); ok {
			return r.fresh(ctx, fresh)
		}
		return r.scan(ctx, 0, true)
	}
	return r.scan(ctx, r.next, gaps)
}

// fresh sends the named tasks' results.
func (r *resultReader) fresh(ctx context.Context, indexes *roaring.Bitmap) error {
	for it := indexes.Iterator(); it.HasNext() && !r.full(); {
		res, err := r.eng.Result(ctx, navvy.TaskID{Job: r.job, Index: int64(it.Next())})
		if errors.Is(err, navvy.ErrNotFound) {
			continue // retried in between
		} else if err != nil {
			return err
		}
		if err := r.add(ctx, res); err != nil {
			return err
		}
	}
	return r.flush()
}

// scan sends results in input order; unless gaps are passed over it ends at the first.
func (r *resultReader) scan(ctx context.Context, from int64, gaps bool) error {
	for more := true; more; {
		more = false
		var page []*navvy.Result
		bytes := 0
		err := r.eng.Results(ctx, r.job, from, func(res *navvy.Result) error {
			if !gaps && res.Task.Index != from {
				return engine.ErrStop
			}
			page = append(page, res)
			from = res.Task.Index + 1
			bytes += len(res.Output.Inline)
			if more = len(page) == maxResults || bytes > maxResultsBytes; more {
				return engine.ErrStop
			}
			return nil
		})
		if err != nil {
			return err
		}
		for _, res := range page {
			if r.full() {
				break
			}
			if err := r.add(ctx, res); err != nil {
				return err
			}
		}
		r.next = from
		if err := r.flush(); err != nil || r.full() {
			return err
		}
	}
	return nil
}

// add puts a result into the next message, if the caller wants it.
func (r *resultReader) add(ctx context.Context, res *navvy.Result) error {
	index := uint32(res.Task.Index)
	if (r.req.GetAsCompleted() || r.req.GetUnprinted()) && !r.seen.CheckedAdd(index) {
		return nil
	}
	if r.req.GetFailed() && res.State != navvy.Failed {
		return nil
	}
	m := api.FromResult(res)
	if r.req.GetInputs() {
		input, err := r.input(ctx, res.Task.Index)
		if err != nil {
			return err
		}
		if m.Input = input; input == nil {
			m.Input = []byte{} // it was asked for, and is empty
		}
	}
	r.batch = append(r.batch, m)
	r.bytes += len(res.Output.Inline) + len(m.GetInput())
	r.sent++
	if len(r.batch) == maxResults || r.bytes > maxResultsBytes {
		return r.flush()
	}
	return nil
}

func (r *resultReader) input(ctx context.Context, index int64) ([]byte, error) {
	if input, ok := r.chunk.Get(index); ok {
		return input, nil
	}
	chunk, err := r.eng.Inputs(ctx, r.job, index)
	if err != nil {
		return nil, err
	}
	r.chunk = chunk
	input, _ := chunk.Get(index)
	return input, nil
}

func (r *resultReader) flush() error {
	if len(r.batch) == 0 {
		return nil
	}
	batch := r.batch
	r.batch, r.bytes = nil, 0
	return r.send(&navvyv1.ResultsResponse{Results: batch})
}
