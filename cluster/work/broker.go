package work

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/cluster/config"
)

// Broker is one of a broker's queues.
type Broker struct {
	URL string
	// Connection is the broker's connection string, which Variable has in the environment of
	// a worker; empty where the URL says it all.
	Connection, Variable string
	Shown                string // the URL without what may be secret
}

// connectionVariables are where brokers have connection strings, and the schemes of their URLs.
var connectionVariables = map[config.QueueKind]struct{ variable, scheme string }{
	config.QueueServiceBus: {"AZURE_SERVICEBUS_CONNECTION_STRING", "azservicebus"},
	config.QueueStorage:    {"AZURE_STORAGE_CONNECTION_STRING", "azqueue"},
}

// NewBroker is a queue of a broker whose URL, or connection string, is base.
func NewBroker(kind config.QueueKind, base, name string) (*Broker, error) {
	if c, ok := connectionVariables[kind]; ok && strings.Contains(base, "=") && !strings.HasPrefix(base, c.scheme+"://") {
		at := c.scheme + ":///" + url.PathEscape(name)
		return &Broker{URL: at, Connection: base, Variable: c.variable, Shown: at}, nil
	}
	u, err := url.Parse(base)
	if err != nil || u.Scheme == "" {
		return nil, fmt.Errorf("it is no URL of a broker: %w", navvy.ErrInvalid) // which may have a password in it
	}
	at := u.JoinPath(name)
	shown := *at
	shown.User, shown.RawQuery = nil, ""
	return &Broker{URL: at.String(), Shown: shown.String()}, nil
}
