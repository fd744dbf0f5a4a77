// Package servicebusqueue keeps queues in Azure Service Bus, over AMQP 1.0. A message is
// lent by a lock, whose length is the queue's, and is settled by its lock's token, over
// whatever connection. docs/brokers.md says what that means for users.
package servicebusqueue

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/queue/driver"
)

// DeadSuffix is what the name of a queue's dead letters has behind the queue's own.
const DeadSuffix = "/$DeadLetterQueue"

const (
	domain  = ".servicebus.windows.net"
	maxName = 260
	maxID   = 128 // of a message, and of what it answers, in characters

	maxBatch = 500
	maxFetch = 500 // messages that are asked for at once

	smallBody = 248 << 10  // the least that every tier takes, less room for properties
	largeBody = 1016 << 10 // of the premium tier

	minLock = 5 * time.Second // of a queue, by Azure's rules
	maxLock = 5 * time.Minute

	// deliveries of a queue that is made: package queue counts itself, and gives up before.
	deliveries = 1000

	dialTimeout   = 30 * time.Second
	callTimeout   = 20 * time.Second
	settleTimeout = 10 * time.Second
	closeTimeout  = 5 * time.Second
)

// Options are what a URL must not hold, or cannot.
type Options struct {
	// ConnectionString is that of the namespace, or of one queue. Defaults to none:
	// Credential is used.
	ConnectionString string
	// Credential proves who we are where there is no connection string. Defaults to what
	// the Azure SDK finds by itself: a managed identity, on a machine in Azure.
	Credential azcore.TokenCredential
}

// Driver reads URLs of the form azservicebus://NAMESPACE/QUEUE. NAMESPACE may be without its
// domain, and empty with a connection string, which names it. QUEUE/$DeadLetterQueue are the
// dead letters of QUEUE. There are no options.
func Driver(o *Options) driver.Driver {
	var opts Options
	if o != nil {
		opts = *o
	}
	identity := sync.OnceValues(func() (azcore.TokenCredential, error) {
		if opts.Credential != nil {
			return opts.Credential, nil
		}
		return azidentity.NewDefaultAzureCredential(nil)
	})
	return func(u *url.URL, d *driver.Options) (driver.Dial, error) {
		s, err := read(u, &opts)
		if err != nil {
			return nil, err
		}
		s.lease, s.create, s.identity = d.Lease, d.Create, identity
		return s.dial, nil
	}
}

// settings are those of one queue.
type settings struct {
	connection string // empty for an identity
	host       string // of the namespace, with a port if it has one
	emulator   bool
	name       string // without DeadSuffix
	dead       bool   // the dead letters of the queue
	lease      time.Duration
	create     bool
	identity   func() (azcore.TokenCredential, error)
}

// names are those that Azure takes, in one or more parts.
var names = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._/-]*[A-Za-z0-9])?$`)

func invalid(format string, a ...any) error {
	return fmt.Errorf("%s: %w", fmt.Sprintf(format, a...), navvy.ErrInvalid)
}

// read reads a URL.
func read(u *url.URL, opts *Options) (*settings, error) {
	if _, err := driver.Query(u); err != nil {
		return nil, err
	}
	name, err := driver.Name(u)
	if err != nil {
		return nil, err
	}
	s := &settings{connection: opts.ConnectionString, name: name}
	if n := len(name) - len(DeadSuffix); n > 0 && strings.EqualFold(name[n:], DeadSuffix) {
		s.name, s.dead = name[:n], true
	}
	if len(s.name) > maxName || !names.MatchString(s.name) {
		err = invalid("%q is no name of a queue: letters, digits, and . _ - / between them, at most %d characters", s.name, maxName)
	} else {
		err = s.readHost(u)
	}
	if err != nil {
		return nil, fmt.Errorf("queue %s: %w", navvy.ShownURL(u), err)
	}
	return s, nil
}

// readHost finds the namespace, in the URL and in the connection string.
func (s *settings) readHost(u *url.URL) error {
	if u.User != nil {
		return invalid("credentials do not belong into the URL: set the connection string of the namespace")
	}
	s.host = withDomain(u.Host)
	if s.connection == "" {
		if s.host == "" {
			return invalid("the namespace is missing: azservicebus://NAMESPACE/QUEUE, or set a connection string")
		}
		return nil
	}
	parts := connectionParts(s.connection)
	endpoint, err := url.Parse(parts["endpoint"])
	if err != nil || endpoint.Host == "" {
		return errConnectionString
	}
	if _, err := azservicebus.NewClientFromConnectionString(s.connection, nil); err != nil {
		return errConnectionString // err may quote it
	}
	s.emulator = strings.EqualFold(parts["usedevelopmentemulator"], "true")
	switch only := parts["entitypath"]; {
	case s.host != "" && !strings.EqualFold(s.host, endpoint.Host):
		return invalid("the connection string is that of the namespace %s", endpoint.Host)
	case only != "" && !strings.EqualFold(only, s.name):
		return invalid("the connection string is that of the queue %s alone", only)
	}
	s.host = endpoint.Host
	return nil
}

var errConnectionString = invalid("the connection string cannot be read: copy it from the shared access policies of the namespace")

// withDomain completes the name of a namespace.
func withDomain(host string) string {
	if host == "" || strings.ContainsAny(host, ".:") {
		return host
	}
	return host + domain
}

// connectionParts are what a connection string says, by names in small letters.
func connectionParts(text string) map[string]string {
	parts := map[string]string{}
	for part := range strings.SplitSeq(text, ";") {
		if name, value, ok := strings.Cut(part, "="); ok {
			parts[strings.ToLower(name)] = value
		}
	}
	return parts
}
