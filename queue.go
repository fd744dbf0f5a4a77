package navvy

import (
	"fmt"
	"math"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// QueueSettings are what a queue is told apart from its jobs. The zero value is no bound.
type QueueSettings struct {
	// Paused lets no task of the queue start. What runs goes on.
	Paused bool
	// Concurrency is how many tasks of all jobs of the queue run at once. Zero means any number.
	Concurrency int
	// Rate is how many tasks of all its jobs start in a second; as many as start in one
	// second, and at least one, may start together. Zero means any number.
	Rate float64
	// Dispatch is the way in which its tasks come to workers. Empty means the server's.
	Dispatch Dispatch
	// Work is what is done with the messages of the queue, and with jobs that leave it to
	// their queue: a spec of KindService. Nil if the queue has no service.
	Work *Spec
	// Broker are queues of a broker's whose requests are answered as messages of this queue
	// are. Nil if there are none.
	Broker *Broker
	// Pods is how containers of its jobs run in a cluster. Nil if that is left to workers.
	Pods *Pods
}

// Pods says how containers run in a cluster. The zero value says nothing.
type Pods struct {
	// Namespace is where they run. Empty for the one that the job names, or its worker's own.
	Namespace string
	// ServiceAccount is as whom they run. Its token is not given to them unless the template
	// says so.
	ServiceAccount string
	// NodeSelector are labels that a node must have to run them.
	NodeSelector map[string]string
	// Tolerations are taints of nodes that they put up with: KEY[=VALUE][:EFFECT] each, as
	// kubectl taint writes them, or * for all.
	Tolerations []string
	// PullSecrets are names of secrets that images are pulled with.
	PullSecrets []string
	// Template is YAML or JSON of a Kubernetes PodTemplateSpec that is merged over the pod, and
	// that the fields above are added to.
	Template []byte
}

// maxPods bounds how many entries each list of Pods has.
const maxPods = 64

// Zero tells whether it says nothing.
func (p *Pods) Zero() bool {
	return p == nil || p.Namespace == "" && p.ServiceAccount == "" && len(p.NodeSelector)+len(p.Tolerations)+len(p.PullSecrets)+len(p.Template) == 0
}

// validate checks what can be checked without knowing Kubernetes.
func (p *Pods) validate() error {
	switch {
	case p == nil:
		return nil
	case len(p.NodeSelector) > maxPods || len(p.Tolerations) > maxPods || len(p.PullSecrets) > maxPods:
		return fmt.Errorf("queue: more than %d node selectors, tolerations or pull secrets: %w", maxPods, ErrInvalid)
	case len(p.Template) > MaxPodTemplate:
		return fmt.Errorf("queue: the pod template has %d bytes, more than %d: %w", len(p.Template), MaxPodTemplate, ErrInvalid)
	}
	if err := ValidateNamespace(p.Namespace); err != nil {
		return fmt.Errorf("queue: %w", err)
	}
	return nil
}

// Broker is a pair of queues on a broker that a queue is attached to.
type Broker struct {
	// Requests and Responses are the URLs of the two (docs/brokers.md). There may be
	// passwords in them.
	Requests, Responses string
	// Concurrency is how many requests are taken from there before they are answered.
	// Defaults to DefaultBrokerConcurrency.
	Concurrency int
	// Lease is how long a request stays taken without a sign of life. Defaults to a minute.
	Lease time.Duration
}

// How many requests are taken from a broker, and for how long, and a bound of the former.
const (
	DefaultBrokerConcurrency = 100
	DefaultBrokerLease       = time.Minute
	MaxBrokerConcurrency     = 100_000
)

// maxBrokerURL bounds the URL of a broker's queue, in bytes.
const maxBrokerURL = 4096

func (b *Broker) validate() error {
	switch {
	case b.Requests == "" || b.Responses == "":
		return fmt.Errorf("queue: a broker has a queue of requests and one of responses: %w", ErrInvalid)
	case len(b.Requests) > maxBrokerURL || len(b.Responses) > maxBrokerURL || !utf8.ValidString(b.Requests+b.Responses):
		return fmt.Errorf("queue: the URL of a broker's queue has more than %d bytes, or is not UTF-8: %w", maxBrokerURL, ErrInvalid)
	case b.Concurrency < 0 || b.Concurrency > MaxBrokerConcurrency:
		return fmt.Errorf("queue: %d requests of a broker at once, want 1 to %d, or 0 for %d: %w", b.Concurrency, MaxBrokerConcurrency, DefaultBrokerConcurrency, ErrInvalid)
	case b.Lease != 0 && b.Lease < time.Second:
		return fmt.Errorf("queue: a lease of %s on a broker's requests: it takes a second at least: %w", b.Lease, ErrInvalid)
	}
	return nil
}

// Dispatch says how tasks come to workers.
type Dispatch string

// The ways of dispatch.
const (
	// Pull lets each worker ask for as many tasks as it has slots.
	Pull Dispatch = "pull"
	// Push gives each task to the worker with the smallest share of its slots in use.
	Push Dispatch = "push"
	// RoundRobin gives tasks to the workers with a free slot in turn.
	RoundRobin Dispatch = "round-robin"
)

// Validate tells whether there is such a way. The error wraps ErrInvalid.
func (d Dispatch) Validate() error {
	switch d {
	case Pull, Push, RoundRobin:
		return nil
	default:
		return fmt.Errorf("dispatch %q: want %s, %s or %s: %w", string(d), Pull, Push, RoundRobin, ErrInvalid)
	}
}

// Bounds of the settings of a queue.
const (
	MaxQueueConcurrency = 1 << 30
	MinQueueRate        = 1e-6 // one in eleven days
	MaxQueueRate        = 1e6
)

// Validate checks the settings. Its error wraps ErrInvalid.
func (s *QueueSettings) Validate() error {
	if s.Dispatch != "" {
		if err := s.Dispatch.Validate(); err != nil {
			return fmt.Errorf("queue: %w", err)
		}
	}
	if s.Work != nil {
		if s.Work.Service == nil {
			return fmt.Errorf("queue: its work is of kind %q: only services answer messages: %w", s.Work.Kind(), ErrInvalid)
		}
		if err := s.Work.Validate(); err != nil {
			return fmt.Errorf("queue: %w", err)
		}
	}
	if err := s.Pods.validate(); err != nil {
		return err
	}
	if s.Broker != nil {
		if err := s.Broker.validate(); err != nil {
			return err
		}
		if s.Work == nil {
			return fmt.Errorf("queue: it is attached to queues of a broker's, whose requests need a service: give it one, or detach it first (--requests none): %w", ErrInvalid)
		}
	}
	return s.validateLimits()
}

func (s *QueueSettings) validateLimits() error {
	switch {
	case s.Concurrency < 0 || s.Concurrency > MaxQueueConcurrency:
		return fmt.Errorf("queue: a concurrency of %d, want 0 to %d: %w", s.Concurrency, MaxQueueConcurrency, ErrInvalid)
	case s.Rate == 0:
		return nil
	case math.IsNaN(s.Rate) || s.Rate < MinQueueRate || s.Rate > MaxQueueRate:
		return fmt.Errorf("queue: a rate of %g starts a second, want %g to %g, or 0 for any: %w", s.Rate, MinQueueRate, MaxQueueRate, ErrInvalid)
	}
	return nil
}

// ValidateQueue checks the name of a queue. The error wraps ErrInvalid, or for the
// address of a broker's queue ErrUnsupported.
func ValidateQueue(name string) error {
	odd := func(r rune) bool { return !unicode.IsPrint(r) }
	switch {
	case name == "":
		return fmt.Errorf("queue: it has no name: %w", ErrInvalid)
	case len(name) > MaxJobName:
		return fmt.Errorf("queue: the name has %d bytes, more than %d: %w", len(name), MaxJobName, ErrInvalid)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, odd):
		return fmt.Errorf("queue: the name %q has characters that cannot be printed: %w", name, ErrInvalid)
	case strings.Contains(name, "://"):
		return fmt.Errorf("queue %q: a job stands in a queue of navvy's own, and this is the URL of a broker's: navvy queue set attaches one to it: %w", name, ErrUnsupported)
	}
	return nil
}
