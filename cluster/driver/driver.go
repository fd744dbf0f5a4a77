// Package driver is what a provider of clusters implements: what of a description becomes
// which resources there, what of them there is, and how one is made, changed and removed.
// Order, comparison, repetition and what people are told live once, in package cluster.
//
// Everything that a driver makes bears the cluster's mark: a label, a tag, a line in a file of
// its own. What there is of a cluster is what bears its mark, and nothing else is kept
// anywhere. A driver changes and removes nothing that does not.
//
// The suite for all drivers is package cluster/driver/drivertest.
package driver

import (
	"context"
	"time"

	"github.com/navvy-run/navvy/cluster/config"
)

// Driver reaches one provider. Its methods may be called by many at once, but those that
// change a cluster only by whoever has its lock. Errors wrap the sentinels of package navvy and
// name the resource and what to do.
type Driver interface {
	// Compile tells what a cluster consists of here; those that others need come first. The
	// first is its mark, of kind KindCluster, and all others need it, through others or
	// directly. It calls nothing beyond this machine. The salt is the cluster's, for Secret:
	// the mark keeps it. Errors wrap navvy.ErrInvalid and name the key of the file, for what
	// the provider cannot do navvy.ErrUnsupported.
	Compile(ctx context.Context, c *config.Cluster, salt []byte) ([]Resource, error)

	// Observe tells what there is of a cluster; an empty World for none. What cannot be looked
	// at, as on a host that does not answer, is there with Health HealthUnknown.
	Observe(ctx context.Context, cluster string) (*World, error)

	// Clusters lists the names of the clusters that there are.
	Clusters(ctx context.Context) ([]string, error)

	// Put makes a resource, or makes it what r says; once more does nothing. When it returns
	// the resource is there, and does its work or is about to. It is called when all that r
	// needs is there. The error wraps navvy.ErrExists if something of that name is there that
	// does not bear the cluster's mark: that is left as it is.
	Put(ctx context.Context, cluster string, r *Resource) error

	// Remove removes a resource, and returns when it is gone; nil for one that is gone. It is
	// called when nothing that needs it is there any more.
	Remove(ctx context.Context, cluster string, o *Observed) error

	// Lock takes the right to change a cluster, until the lock is released or its holder is
	// dead. The error is a *HeldError if somebody else has it.
	Lock(ctx context.Context, cluster string, h Holder) (Lock, error)

	// Close lets go of connections.
	Close() error
}

// KindCluster is the kind of a cluster's mark, which is made first and removed last.
const KindCluster = "cluster"

// ID names a resource within its cluster.
type ID struct {
	Kind string // such as server, queue, worker
	Name string
}

func (id ID) String() string { return id.Kind + " " + id.Name }

// Resource is one thing that a cluster consists of, as it is to be.
type Resource struct {
	ID
	// Needs are those that have to be there before it, and go after it.
	Needs []ID
	// Properties say what it is to be, for people and to be compared: there are no secrets
	// in it, but Secret of them.
	Properties Properties
	// Spec is what the driver wants to know to make it; nobody else looks at it.
	Spec any
}

// Properties are what can be said of a resource, by names such as image or cpus.
type Properties map[string]string

// Observed is a resource that there is.
type Observed struct {
	ID
	Needs []ID // as it was made with
	// Properties say what it is, by the names of Resource.Properties: the resource is put
	// if they are not the same. One that is not there is as one with an empty text.
	Properties Properties
	Health     Health
	Detail     string // why it is not well, or what it does, for people
	// Holds says what is lost with it, such as requests that nobody has answered, for people;
	// empty for nothing. It is removed only for whoever says that it may be lost.
	Holds string
	// Handle is what the driver wants to know to remove it; nobody else looks at it.
	Handle any
}

// Health says how a resource is.
type Health string

// How a resource can be. One that failed is put once more by the next apply; of one that is
// unknown nobody knows whether it is there.
const (
	HealthOK       Health = "ok"
	HealthStarting Health = "starting"
	HealthFailed   Health = "failed"
	HealthUnknown  Health = "unknown"
)

// World is what there is of a cluster.
type World struct {
	// Config is the file that was applied last, as Config of package config writes it; nil
	// if it is not there.
	Config []byte
	// Salt is what the mark keeps; nil if there is none.
	Salt      []byte
	Resources []Observed
}

// Holder is who changes a cluster, as others are told.
type Holder struct {
	Who   string    `json:"who"`   // user@host
	What  string    `json:"what"`  // apply, destroy, scale
	Since time.Time `json:"since"` // when it began
}

// Lock is the right to change a cluster.
type Lock interface {
	// Lost is closed when the right is lost, as when it could not be renewed: then nothing
	// more must be changed.
	Lost() <-chan struct{}
	// Release gives it back.
	Release(ctx context.Context) error
}

// HeldError says who has the lock.
type HeldError struct{ Holder }
