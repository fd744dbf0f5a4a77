package client

import (
	"context"
	"iter"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/api"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
)

// Queue is a queue of the server's, and what is in it.
type Queue struct {
	Name string
	// Settings, Created and By are zero if the queue has no settings, as Has tells.
	Settings navvy.QueueSettings
	Has      bool
	Created  time.Time
	By       string // who gave it settings
	// Jobs have not ended; with More there are more of them than were counted.
	Jobs int64
	More bool
	// BrokerOwner is as whom the requests of Settings.Broker are answered, whose URLs are
	// told without passwords; BrokerTrouble why none come now, empty if all is well.
	BrokerOwner, BrokerTrouble string
	// Waiting tasks of these jobs have no attempt; Running ones have one.
	Waiting, Running int64
	// Answers wait until somebody has acknowledged them, DeadLetters until they are sent
	// again or removed; with MoreLetters there are more of one of them than were counted.
	Answers, DeadLetters int64
	MoreLetters          bool
	// AnsweredRate is how many of its tasks had their result in a second, over the last
	// ten; of a queue with settings.
	AnsweredRate float64
}

// BrokerConnecting is a Queue.BrokerTrouble that will be another one soon, or none.
const BrokerConnecting = "it is being connected to"

// QueueChange says what is to be changed of the settings of a queue; what is nil stays.
type QueueChange struct {
	Concurrency *int     // tasks at once; 0 for any number
	Rate        *float64 // starts a second; 0 for any number
	// Dispatch is how tasks come to workers; empty for the server's own way.
	Dispatch *navvy.Dispatch
	// Work is what is done with its messages: a spec of navvy.KindService, or one of no
	// kind to take it away.
	Work *navvy.Spec
	// Broker are the queues of a broker's whose requests it is to answer, as the caller; one
	// without URLs takes them away.
	Broker *navvy.Broker
	// Pods is how containers of its jobs run in a cluster.
	Pods *PodsChange
	// Create makes the settings, with ErrExists if there are some. Without it the
	// error is ErrNotFound if there are none.
	Create bool
}

// PodsChange says what is to be changed of how containers of a queue's jobs run, field by
// field as in navvy.Pods; what is nil stays, and what is empty is taken away.
type PodsChange struct {
	Namespace, ServiceAccount *string
	NodeSelector              map[string]string
	Tolerations, PullSecrets  []string
	Template                  []byte
}

func (c *PodsChange) message() *navvyv1.PodsChange {
	m := &navvyv1.PodsChange{Namespace: c.Namespace, ServiceAccount: c.ServiceAccount}
	if c.NodeSelector != nil {
		m.NodeSelector = &navvyv1.NodeSelector{Labels: c.NodeSelector}
	}
	if c.Tolerations != nil {
		m.Tolerations = &navvyv1.Names{Names: c.Tolerations}
	}
	if c.PullSecrets != nil {
		m.PullSecrets = &navvyv1.Names{Names: c.PullSecrets}
	}
	if c.Template != nil {
		text := api.Text(string(c.Template))
		m.Template = &text
	}
	return m
}

// Queues gives the queues that have settings or in which jobs stand, by name.
func (c *Client) Queues(ctx context.Context) iter.Seq2[Queue, error] {
	return func(yield func(Queue, error) bool) {
		req := &navvyv1.QueuesListRequest{}
		for {
			resp, err := c.queues.List(ctx, req)
			if err != nil {
				yield(Queue{}, api.FromWire(err))
				return
			}
			for _, q := range resp.GetQueues() {
				if !yield(toQueue(q), nil) {
					return
				}
			}
			if req.After = resp.GetNext(); req.After == "" {
				return
			}
		}
	}
}

// SetQueue changes the settings of a queue, or makes them. What is in the queue is
// not told. Admins only.
func (c *Client) SetQueue(ctx context.Context, name string, change QueueChange) (Queue, error) {
	req := &navvyv1.QueuesSetRequest{Name: api.Text(name), Create: change.Create, Rate: change.Rate}
	if change.Concurrency != nil {
		n := int64(*change.Concurrency)
		req.Concurrency = &n
	}
	if change.Dispatch != nil {
		way := api.Text(string(*change.Dispatch))
		req.Dispatch = &way
	}
	if change.Work != nil {
		req.Work = api.FromSpec(change.Work)
	}
	if change.Broker != nil {
		req.Broker = api.FromBroker(change.Broker)
	}
	if change.Pods != nil {
		req.Pods = change.Pods.message()
	}
	return queue(c.queues.Set(ctx, req))
}

// PauseQueue lets no further task of a queue start; what runs goes on. Admins only.
func (c *Client) PauseQueue(ctx context.Context, name string) (Queue, error) {
	return queue(c.queues.Pause(ctx, &navvyv1.QueuesPauseRequest{Name: api.Text(name)}))
}

// ResumeQueue undoes PauseQueue; ErrNotFound if the queue has no settings. Admins only.
func (c *Client) ResumeQueue(ctx context.Context, name string) (Queue, error) {
	return queue(c.queues.Resume(ctx, &navvyv1.QueuesResumeRequest{Name: api.Text(name)}))
}

// RemoveQueue takes the settings of a queue away, never its jobs: ErrNotFound if it
// has none, ErrConflict if they hold jobs back that stand in it. Admins only.
func (c *Client) RemoveQueue(ctx context.Context, name string) error {
	_, err := c.queues.Remove(ctx, &navvyv1.QueuesRemoveRequest{Name: api.Text(name)})
	return api.FromWire(err)
}

func queue(m *navvyv1.Queue, err error) (Queue, error) {
	if err != nil {
		return Queue{}, api.FromWire(err)
	}
	return toQueue(m), nil
}

func toQueue(m *navvyv1.Queue) Queue {
	s := m.GetSettings()
	q := Queue{
		Name: m.GetName(), Has: s != nil, Created: toTime(m.GetCreated()), By: m.GetBy(),
		Settings: navvy.QueueSettings{Paused: s.GetPaused(), Concurrency: int(s.GetConcurrency()), Rate: s.GetRate(), Dispatch: navvy.Dispatch(s.GetDispatch())},
		Jobs:     m.GetJobs(), More: m.GetMore(), Waiting: m.GetWaiting(), Running: m.GetRunning(),
		Answers: m.GetAnswers(), DeadLetters: m.GetDeadLetters(), MoreLetters: m.GetMoreLetters(),
		AnsweredRate: m.GetAnsweredRate(),
	}
	if w := s.GetWork(); w != nil {
		spec := api.ToSpec(w)
		q.Settings.Work = &spec
	}
	q.Settings.Pods = api.ToPods(s.GetPods())
	if b := s.GetBroker(); b != nil {
		q.Settings.Broker = api.ToBroker(b)
		q.BrokerOwner, q.BrokerTrouble = b.GetOwner(), b.GetTrouble()
	}
	return q
}
