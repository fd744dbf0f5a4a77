// Package memory is a provider of clusters that are nowhere: an oracle for the conformance
// suite, and a model for those who write a driver. Its world is shared by all drivers that are
// opened on it, as a cloud is.
package memory

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/cluster/config"
	"github.com/navvy-run/navvy/cluster/driver"
)

// World is where clusters are. Its methods may be called by many at once.
type World struct {
	// Env gives the variables of whoever applies a file.
	Env func(string) string

	mu    sync.Mutex
	marks map[string]mark             // by cluster
	there map[place]driver.Observed   // what bears a mark
	other map[place]driver.Properties // what does not
	locks map[string]driver.Holder    // by cluster
}

// place is where a resource is: two clusters have their own.
type place struct {
	cluster string
	driver.ID
}

// mark is what is kept of a cluster.
type mark struct{ config, salt []byte }

// NewWorld returns an empty one.
func NewWorld(env func(string) string) *World {
	return &World{
		Env: env, marks: map[string]mark{}, there: map[place]driver.Observed{}, other: map[place]driver.Properties{}, locks: map[string]driver.Holder{},
	}
}

// Open returns a driver of its clusters.
func (w *World) Open() driver.Driver { return &memory{w} }

// Break has a resource fail.
func (w *World) Break(cluster string, id driver.ID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	o := w.there[place{cluster, id}]
	o.Health, o.Detail = driver.HealthFailed, "it was broken"
	w.there[place{cluster, id}] = o
}

// Hold says what is lost with a resource.
func (w *World) Hold(cluster string, id driver.ID, what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	o := w.there[place{cluster, id}]
	o.Holds = what
	w.there[place{cluster, id}] = o
}

// Occupy puts something of another's into the place of a resource.
func (w *World) Occupy(cluster string, id driver.ID, p driver.Properties) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.other[place{cluster, id}] = p
}

// Occupied is what of another's is in the place of a resource.
func (w *World) Occupied(cluster string, id driver.ID) driver.Properties {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.other[place{cluster, id}])
}

// Left lists what there is of a cluster, locks included.
func (w *World) Left(cluster string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []string
	for p := range w.there {
		if p.cluster == cluster {
			list = append(list, p.ID.String())
		}
	}
	if _, is := w.locks[cluster]; is {
		list = append(list, "a lock")
	}
	if _, is := w.marks[cluster]; is {
		list = append(list, "a mark")
	}
	return list
}

// memory is a driver.
type memory struct{ *World }

var _ driver.Driver = (*memory)(nil)

// Compile implements driver.Driver.
func (m *memory) Compile(_ context.Context, c *config.Cluster, salt []byte) ([]driver.Resource, error) {
	text := config.Encode(c)
	markID := driver.ID{Kind: driver.KindCluster, Name: c.Name}
	queue := driver.ID{Kind: "queue", Name: c.Queue.Request}
	list := []driver.Resource{
		{ID: markID, Properties: driver.Properties{"file": driver.Secret(salt, text)}, Spec: mark{text, bytes.Clone(salt)}},
		{ID: queue, Needs: []driver.ID{markID}, Properties: driver.Properties{"kind": string(c.Queue.Kind), "service": string(c.Service.Kind) + " " + c.Service.Command}},
	}
	properties := driver.Properties{"cpus": c.Workers.CPUs, "memory": c.Workers.Memory}
	for name, value := range c.Workers.Environment {
		text, err := value.Resolve(m.Env, c.Dir)
		if err != nil {
			return nil, fmt.Errorf("workers.environment.%s: %w", name, err)
		}
		properties["environment."+name] = driver.Secret(salt, []byte(text))
	}
	for i := range c.Workers.Count {
		list = append(list, driver.Resource{
			ID: driver.ID{Kind: "worker", Name: strconv.Itoa(i + 1)}, Needs: []driver.ID{queue}, Properties: maps.Clone(properties),
		})
	}
	return list, nil
}

// Observe implements driver.Driver.
func (m *memory) Observe(_ context.Context, cluster string) (*driver.World, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	world := &driver.World{Config: m.marks[cluster].config, Salt: m.marks[cluster].salt}
	for p := range m.there {
		if p.cluster == cluster {
			world.Resources = append(world.Resources, m.there[p])
		}
	}
	return world, nil
}

// Clusters implements driver.Driver.
func (m *memory) Clusters(context.Context) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.marks)), nil
}

// Put implements driver.Driver.
func (m *memory) Put(ctx context.Context, cluster string, r *driver.Resource) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	at := place{cluster, r.ID}
	if m.other[at] != nil {
		return fmt.Errorf("%s: %w", r.ID, navvy.ErrExists)
	}
	for _, need := range r.Needs {
		if _, is := m.there[place{cluster, need}]; !is {
			return fmt.Errorf("%s: %s is not there: %w", r.ID, need, navvy.ErrNotFound)
		}
	}
	m.there[at] = driver.Observed{
		ID: r.ID, Needs: slices.Clone(r.Needs), Properties: maps.Clone(r.Properties), Health: driver.HealthOK, Holds: m.there[at].Holds,
	}
	if is, ok := r.Spec.(mark); ok {
		m.marks[cluster] = is
	}
	return nil
}

// Remove implements driver.Driver.
func (m *memory) Remove(ctx context.Context, cluster string, o *driver.Observed) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	for p := range m.there {
		if p.cluster == cluster && slices.Contains(m.there[p].Needs, o.ID) {
			return fmt.Errorf("%s: %s needs it: %w", o.ID, p.ID, navvy.ErrConflict)
		}
	}
	delete(m.there, place{cluster, o.ID})
	if o.Kind == driver.KindCluster {
		delete(m.marks, cluster)
	}
	return nil
}

// Lock implements driver.Driver.
func (m *memory) Lock(_ context.Context, cluster string, h driver.Holder) (driver.Lock, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if held, is := m.locks[cluster]; is {
		return nil, &driver.HeldError{Holder: held}
	}
	m.locks[cluster] = h
	return &lock{world: m.World, cluster: cluster}, nil
}

// Close implements driver.Driver.
func (m *memory) Close() error { return nil }

// lock is the right to change a cluster.
type lock struct {
	world   *World
	cluster string
}

// Lost implements driver.Lock: it never is.
func (l *lock) Lost() <-chan struct{} { return nil }

// Release implements driver.Lock.
func (l *lock) Release(context.Context) error {
	l.world.mu.Lock()
	defer l.world.mu.Unlock()
	delete(l.world.locks, l.cluster)
	return nil
}
