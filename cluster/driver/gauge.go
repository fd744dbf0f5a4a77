package driver

import "context"

// Gauger is a Driver that can tell what goes on in a cluster. Its method may be called by many
// at once, and by whoever has no lock.
type Gauger interface {
	// Gauge asks the cluster. The error wraps navvy.ErrUnavailable if it does not answer.
	Gauge(ctx context.Context, cluster string) (*Gauges, error)
}

// Gauges are what goes on in a cluster.
type Gauges struct {
	Queues  []QueueGauge
	Workers []WorkerGauge
}

// QueueGauge is what is in a queue. A number that nobody can tell is negative.
type QueueGauge struct {
	Name    string
	Waiting int64 // requests that nobody has
	Running int64 // that somebody works on
	Answers int64 // that nobody has taken
	Dead    int64
	// Rate is how many were answered in a second, over the last ten or so.
	Rate float64
}

// WorkerGauge is a worker that its server or its host knows.
type WorkerGauge struct {
	Name  string
	State string // as worker ls has it: idle, busy, away …
	Slots int
	Busy  int
}
