package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/api"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
	"github.com/navvy-run/navvy/engine"
	"github.com/navvy-run/navvy/manager"
	"github.com/navvy-run/navvy/podtemplate"
	"github.com/navvy-run/navvy/server/auth"
)

// queues implements the Queues service.
type queues struct {
	navvyv1.UnimplementedQueuesServer
	*Server
}

// queueRecord are the settings of a queue, registered by its name.
type queueRecord struct {
	Version     int       `json:"version"`
	Paused      bool      `json:"paused"`
	Concurrency int       `json:"concurrency"`
	Rate        float64   `json:"rate"` // starts a second
	Created     time.Time `json:"created"`
	By          string    `json:"by"`
	Dispatch    string    `json:"dispatch,omitempty"` // from version 2 on; empty for the server's
	Work        []byte    `json:"work,omitempty"`     // from version 3 on; a navvy.v1.Spec, from version 4 on with a package
	// Broker is that of the settings, and Attached who set it: from version 3 on.
	Broker   *navvy.Broker `json:"broker,omitempty"`
	Attached string        `json:"attached,omitempty"`
	// Pods is how containers of its jobs run: from version 5 on.
	Pods *navvy.Pods `json:"pods,omitempty"`
}

// queueVersion is that of a queueRecord.
const queueVersion = 5

func (r *queueRecord) settings() (navvy.QueueSettings, error) {
	s := navvy.QueueSettings{Paused: r.Paused, Concurrency: r.Concurrency, Rate: r.Rate, Dispatch: navvy.Dispatch(r.Dispatch), Broker: r.Broker, Pods: r.Pods}
	work, err := r.work()
	if work != nil {
		spec := api.ToSpec(work)
		s.Work = &spec
	}
	if err == nil {
		err = s.Validate()
	}
	return s, err
}

// work is what is done with the messages of the queue; nil if it has no service.
func (r *queueRecord) work() (*navvyv1.Spec, error) {
	if len(r.Work) == 0 {
		return nil, nil //nolint:nilnil // most queues have none
	}
	m := &navvyv1.Spec{}
	if err := proto.Unmarshal(r.Work, m); err != nil {
		return nil, fmt.Errorf("queue: its work cannot be read: %w: %w", err, navvy.ErrCorrupt)
	}
	return m, nil
}

// setWork changes what is done with the messages of the queue; a spec of no kind takes it away.
func (r *queueRecord) setWork(m *navvyv1.Spec) (err error) {
	if r.Work = nil; m.GetKind() == nil {
		return nil
	}
	if m.GetService() == nil {
		return fmt.Errorf("queue: only services answer messages: %w", navvy.ErrInvalid)
	}
	r.Work, err = proto.Marshal(m)
	return err
}

// LoadQueues tells the manager what settings queues have. It must be called once,
// before a worker comes.
func (s *Server) LoadQueues(ctx context.Context) error {
	return each(ctx, s.eng.Registry(), engine.KindQueue, "", func(name string, r *queueRecord) error {
		settings, err := r.settings()
		if err != nil {
			return fmt.Errorf("registered queue %q: %w: %w", name, err, navvy.ErrCorrupt)
		}
		s.setQueue(name, r, settings)
		return nil
	})
}

// setQueue tells those who act on settings of them.
func (s *Server) setQueue(name string, r *queueRecord, settings navvy.QueueSettings) {
	s.mgr.SetQueue(name, settings)
	if s.opts.Brokers != nil {
		s.opts.Brokers.Attach(name, r.Attached, settings.Broker)
	}
}

// changeQueue lets fn change the settings of a queue, makes them durable, and tells
// the manager. fn gets a new record, and exists tells whether it is an old one.
func (s *queues) changeQueue(ctx context.Context, name string, fn func(r *queueRecord, exists bool) error) (*navvyv1.Queue, error) {
	auth.Note(ctx, slog.String("queue", name))
	if err := navvy.ValidateQueue(name); err != nil {
		return nil, err
	}
	s.queueing.Lock()
	defer s.queueing.Unlock()
	r, err := s.queueRecord(ctx, name)
	exists := r != nil
	if err != nil {
		return nil, err
	} else if !exists {
		r = &queueRecord{Created: s.opts.Clock().UTC(), By: auth.From(ctx).Name}
	}
	if err := fn(r, exists); err != nil {
		return nil, err
	}
	r.Version = queueVersion
	settings, err := r.settings()
	if err != nil {
		return nil, err
	}
	value, err := encodeRecord(r)
	if err == nil {
		err = s.eng.Registry().Set(ctx, engine.KindQueue, name, value, nil)
	}
	if err != nil {
		return nil, err
	}
	s.setQueue(name, r, settings)
	return s.queueMessage(name, r), nil
}

// queueRecord reads the settings of a queue; nil if it has none.
func (s *Server) queueRecord(ctx context.Context, name string) (*queueRecord, error) {
	entry, err := s.eng.Registry().Get(ctx, engine.KindQueue, name)
	if errors.Is(err, navvy.ErrNotFound) {
		return nil, nil //nolint:nilnil // no settings are no error
	} else if err != nil {
		return nil, err
	}
	return decodeRecord[queueRecord](&entry)
}

func noSettings(name string) error {
	return fmt.Errorf("queue %s has no settings: %w", name, navvy.ErrNotFound)
}

// queueMessage is a queue without what is in it; r may be nil.
func (s *queues) queueMessage(name string, r *queueRecord) *navvyv1.Queue {
	if r == nil {
		return &navvyv1.Queue{Name: name}
	}
	work, _ := r.work() // it was read before
	q := &navvyv1.Queue{
		Name: name, Created: timestamppb.New(r.Created), By: r.By, AnsweredRate: s.mgr.Answered(name),
		Settings: &navvyv1.QueueSettings{Paused: r.Paused, Concurrency: int64(r.Concurrency), Rate: r.Rate, Dispatch: r.Dispatch, Work: work, Pods: api.FromPods(r.Pods)},
	}
	if r.Broker != nil {
		q.Settings.Broker = api.Redacted(api.FromBroker(r.Broker))
		q.Settings.Broker.Owner = r.Attached
		if s.opts.Brokers != nil {
			q.Settings.Broker.Trouble = api.Text(s.opts.Brokers.Trouble(name))
		}
	}
	return q
}

// Set implements the call of that name.
func (s *queues) Set(ctx context.Context, req *navvyv1.QueuesSetRequest) (*navvyv1.Queue, error) {
	if err := s.queuePackage(ctx, req.GetWork()); err != nil {
		return nil, s.fail(err)
	}
	q, err := s.changeQueue(ctx, req.GetName(), func(r *queueRecord, exists bool) error {
		switch {
		case req.GetCreate() && exists:
			return fmt.Errorf("queue %s has settings already: %w", req.GetName(), navvy.ErrExists)
		case !req.GetCreate() && !exists:
			return noSettings(req.GetName())
		}
		return s.setParts(r, req, auth.From(ctx).Name)
	})
	return q, s.fail(err)
}

// setParts changes what a request names.
func (s *queues) setParts(r *queueRecord, req *navvyv1.QueuesSetRequest, by string) error {
	if req.Concurrency != nil {
		if n := req.GetConcurrency(); n < 0 || n > navvy.MaxQueueConcurrency {
			return fmt.Errorf("queue: a concurrency of %d, want 0 to %d: %w", n, navvy.MaxQueueConcurrency, navvy.ErrInvalid)
		}
		r.Concurrency = int(req.GetConcurrency())
	}
	if req.Rate != nil {
		r.Rate = req.GetRate()
	}
	if req.Work != nil {
		if err := r.setWork(req.GetWork()); err != nil {
			return err
		}
	}
	if req.Broker != nil {
		if err := s.setBroker(r, req.GetBroker(), by); err != nil {
			return err
		}
	}
	if req.Pods != nil {
		r.Pods = api.ChangePods(r.Pods, req.GetPods())
		if _, err := podtemplate.Compose(r.Pods, nil); err != nil {
			return fmt.Errorf("queue %s: %w", req.GetName(), err)
		}
	}
	if req.Dispatch == nil {
		return nil
	}
	if r.Dispatch = req.GetDispatch(); r.Dispatch != "" && s.mgr.Dispatch() == manager.Local {
		return fmt.Errorf("queue %s: a way of dispatch is for the workers of a server, and here is none: %w", req.GetName(), navvy.ErrUnsupported)
	}
	return nil
}

// Pause implements the call of that name.
func (s *queues) Pause(ctx context.Context, req *navvyv1.QueuesPauseRequest) (*navvyv1.Queue, error) {
	q, err := s.changeQueue(ctx, req.GetName(), func(r *queueRecord, _ bool) error {
		r.Paused = true
		return nil
	})
	return q, s.fail(err)
}

// Resume implements the call of that name.
func (s *queues) Resume(ctx context.Context, req *navvyv1.QueuesResumeRequest) (*navvyv1.Queue, error) {
	q, err := s.changeQueue(ctx, req.GetName(), func(r *queueRecord, exists bool) error {
		if !exists {
			return noSettings(req.GetName())
		}
		r.Paused = false
		return nil
	})
	return q, s.fail(err)
}

// Remove implements the call of that name.
func (s *queues) Remove(ctx context.Context, req *navvyv1.QueuesRemoveRequest) (*navvyv1.QueuesRemoveResponse, error) {
	if err := s.remove(ctx, req.GetName()); err != nil {
		return nil, s.fail(err)
	}
	return &navvyv1.QueuesRemoveResponse{}, nil
}

func (s *queues) remove(ctx context.Context, name string) error {
	auth.Note(ctx, slog.String("queue", name))
	if err := navvy.ValidateQueue(name); err != nil {
		return err
	}
	s.queueing.Lock()
	defer s.queueing.Unlock()
	r, err := s.queueRecord(ctx, name)
	if err != nil {
		return err
	}
	if r == nil {
		return noSettings(name)
	}
	if r.Paused || r.Concurrency > 0 || r.Rate > 0 {
		lines, err := s.eng.Lines(ctx)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(lines, func(l engine.Line) bool { return l.Queue == name }) {
			return fmt.Errorf("queue %s holds back jobs that stand in it: wait until they have ended, or lift its limits first: %w", name, navvy.ErrConflict)
		}
	}
	if err := s.eng.Registry().Delete(ctx, engine.KindQueue, name); err != nil {
		return err
	}
	s.setQueue(name, &queueRecord{}, navvy.QueueSettings{})
	return nil
}

// Bounds of what List tells.
const (
	queuePage = 100
	queueJobs = 1000
)

// List implements the call of that name.
func (s *queues) List(ctx context.Context, req *navvyv1.QueuesListRequest) (*navvyv1.QueuesListResponse, error) {
	resp, err := s.list(ctx, req.GetAfter())
	return resp, s.fail(err)
}

func (s *queues) list(ctx context.Context, after string) (*navvyv1.QueuesListResponse, error) {
	byName := map[string]*navvyv1.Queue{}
	err := each(ctx, s.eng.Registry(), engine.KindQueue, after, func(name string, r *queueRecord) error {
		byName[name] = s.queueMessage(name, r)
		return nil
	})
	if err != nil {
		return nil, err
	}
	lines, err := s.eng.Lines(ctx)
	if err != nil {
		return nil, err
	}
	letters, err := s.eng.LetterLines(ctx)
	if err != nil {
		return nil, err
	}
	jobsOf, lettersOf := s.tell(ctx, lines, after, byName), s.tell(ctx, letters, after, byName)
	resp := &navvyv1.QueuesListResponse{}
	names := slices.Sorted(maps.Keys(byName))
	if len(names) > queuePage {
		names = names[:queuePage]
		resp.Next = names[queuePage-1]
	}
	for _, name := range names {
		q := byName[name]
		if err := s.countJobs(ctx, q, jobsOf[name]); err != nil {
			return nil, err
		}
		if err := s.countLetters(ctx, q, lettersOf[name]); err != nil {
			return nil, err
		}
		resp.Queues = append(resp.Queues, q)
	}
	return resp, nil
}

// countJobs fills in which jobs stand in the lines of a queue, and what of them is going on.
func (s *queues) countJobs(ctx context.Context, q *navvyv1.Queue, lines []engine.Line) error {
	for _, l := range lines {
		ids, _, err := s.eng.QueuedAfter(ctx, l, nil, queueJobs+1-int(q.Jobs))
		if err != nil {
			return err
		}
		for _, id := range ids {
			if q.Jobs == queueJobs {
				q.More = true
				return nil
			}
			q.Jobs++
			_, st, err := s.mgr.Job(ctx, id)
			if err != nil && !errors.Is(err, navvy.ErrNotFound) && !errors.Is(err, navvy.ErrCorrupt) {
				return err
			}
			q.Waiting += st.Counts.Queued
			q.Running += st.Counts.Running
		}
	}
	return nil
}
