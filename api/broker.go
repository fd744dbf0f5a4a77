package api

import (
	"net/url"

	"github.com/navvy-run/navvy"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
)

// FromBroker is a pair of a broker's queues as a message.
func FromBroker(b *navvy.Broker) *navvyv1.Broker {
	return &navvyv1.Broker{
		Requests: b.Requests, Responses: b.Responses, Concurrency: int32(b.Concurrency), Lease: duration(b.Lease),
	}
}

// ToBroker reads the message; Validate judges it.
func ToBroker(m *navvyv1.Broker) *navvy.Broker {
	return &navvy.Broker{
		Requests: m.GetRequests(), Responses: m.GetResponses(), Concurrency: int(m.GetConcurrency()), Lease: m.GetLease().AsDuration(),
	}
}

// Redacted is a pair of a broker's queues as it may be told: without passwords.
func Redacted(m *navvyv1.Broker) *navvyv1.Broker {
	m.Requests, m.Responses = redacted(m.Requests), redacted(m.Responses)
	return m
}

func redacted(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	return navvy.ShownURL(u)
}
