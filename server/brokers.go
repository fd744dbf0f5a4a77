package server

import (
	"fmt"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/api"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
)

// Brokers has requests that arrive on queues of brokers answered as messages of the
// server's queues. Its methods may be called at once.
type Brokers interface {
	// Check tells what is wrong with the URLs of a pair of queues, without a connection.
	Check(b *navvy.Broker) error
	// Attach has the requests of b answered by the queue of that name, in the name of
	// owner, from now on; with nil those of nobody. It does not wait for the broker.
	Attach(queue, owner string, b *navvy.Broker)
	// Trouble is why no requests come to a queue now; empty if all is well.
	Trouble(queue string) string
}

// setBroker changes the broker's queues whose requests a queue answers.
func (s *Server) setBroker(r *queueRecord, m *navvyv1.Broker, by string) error {
	if m.GetRequests() == "" && m.GetResponses() == "" {
		r.Broker, r.Attached = nil, ""
		return nil
	}
	if s.opts.Brokers == nil {
		return fmt.Errorf("queue: queues of brokers are attached to those of a server, and here is none; navvy worker start --requests answers them without one: %w", navvy.ErrUnsupported)
	}
	b := api.ToBroker(m)
	if err := s.opts.Brokers.Check(b); err != nil {
		return err
	}
	r.Broker, r.Attached = b, by
	return nil
}
