// Package local is the provider of clusters on this machine: a server and its workers as
// units (package cluster/unit), and all that a cluster has in one directory, with the mark in
// it that says whose it is.
package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"google.golang.org/grpc"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/cluster/driver"
	"github.com/navvy-run/navvy/cluster/unit"
)

// Options are what the provider wants to know of its surroundings. All are needed but where
// a default is said.
type Options struct {
	// State is the user's directory of state ($XDG_STATE_HOME): clusters are in Folder there.
	State string
	// Folder is the name of a directory. Defaults to navvy-clusters.
	Folder string
	// Elsewhere has the workers. Defaults to this machine.
	Elsewhere Elsewhere
	// Navvy is the program that servers and workers run, by its absolute path.
	Navvy string
	// Supervise is the command of navvy's own supervisor, see unit.OpenSupervised.
	Supervise []string
	// Environ is the environment of whoever applies. Of it units have what says where
	// programs and their temporary files are and which language they speak, and no more.
	Environ []string
	// Systemd says where the user's systemd is. Defaults to nowhere.
	Systemd *unit.SystemdOptions
	// Dial connects to the server that holds a data directory, over its socket.
	Dial func(ctx context.Context, data string) (*grpc.ClientConn, error)
	// CheckQueue refuses the URL of a broker's queue that is wrong. connection is the
	// broker's connection string, where it has one.
	CheckQueue func(url, connection string) error
	// OpenQueue makes a broker's queue, unless it is there, and lets go of it; with mustExist
	// one that is missing is navvy.ErrNotFound.
	OpenQueue func(ctx context.Context, url, connection string, mustExist bool) error
	// CheckService refuses the form of a service that is wrong on any host.
	CheckService func(form string) error
}

// Driver is the provider local.
type Driver struct {
	o Options

	mu    sync.Mutex
	units map[string]unit.Manager // by the cluster's directory
}

var _ driver.Driver = (*Driver)(nil)

// New makes the provider. Nothing is made before a cluster is.
func New(o Options) *Driver { return &Driver{o: o, units: map[string]unit.Manager{}} }

// Close implements driver.Driver.
func (d *Driver) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var err error
	for _, m := range d.units {
		err = errors.Join(err, m.Close())
	}
	clear(d.units)
	return err
}

// The kinds of resources beside driver.KindCluster.
const (
	kindServer  = "server"
	kindFiles   = "files"
	kindQueue   = "queue"
	kindMonitor = "monitor"
	kindWorker  = "worker"
	kindUnit    = "unit" // one that nobody knows, of a cluster whose workers are elsewhere
)

// part is what a driver.Resource of this provider has as its Spec.
type part interface {
	// put makes it; it is called again after it was not finished.
	put(ctx context.Context, s *site, r *driver.Resource) error
}

// Put implements driver.Driver.
func (d *Driver) Put(ctx context.Context, cluster string, r *driver.Resource) error {
	p, ok := r.Spec.(part)
	if !ok && d.o.Elsewhere != nil {
		p, ok = elsewherePart{d.o.Elsewhere}, true
	}
	if !ok {
		return fmt.Errorf("%s: it was not compiled by this provider: %w", r.ID, navvy.ErrInvalid)
	}
	if m, ok := p.(*markPart); ok {
		return named(r.ID, m.write(ctx, d, cluster, r))
	}
	s, err := d.site(cluster)
	if err != nil {
		return named(r.ID, err)
	}
	return named(r.ID, s.make(ctx, r, p))
}

// make makes a resource, of which there is a record from before it begins.
func (s *site) make(ctx context.Context, r *driver.Resource, p part) error {
	old, err := s.made(r.ID)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	m := &made{ID: r.ID, Needs: r.Needs, Properties: r.Properties, Data: map[string]string{}}
	if old != nil { // what it is made of may still be there
		m.Data = old.Data
	}
	if err := s.writeMade(m); err != nil {
		return err
	}
	s.record = m
	if err := p.put(ctx, s, r); err != nil {
		return err
	}
	m.Done = true
	return s.writeMade(m)
}

// Remove implements driver.Driver.
func (d *Driver) Remove(ctx context.Context, cluster string, o *driver.Observed) error {
	s, err := d.site(cluster)
	if errors.Is(err, navvy.ErrNotFound) {
		return nil
	} else if err != nil {
		return named(o.ID, err)
	}
	if o.Kind == driver.KindCluster {
		return named(o.ID, d.clear(ctx, s))
	}
	m, err := s.made(o.ID)
	if errors.Is(err, fs.ErrNotExist) {
		m = &made{ID: o.ID, Data: map[string]string{}}
	} else if err != nil {
		return named(o.ID, err)
	}
	s.record = m
	err = s.remove(ctx, o.ID)
	if errors.Is(err, errServerAway) {
		return nil
	}
	if err == nil {
		err = s.forget(o.ID)
	}
	return named(o.ID, err)
}

// Drop keeps nothing any more of a resource that is not removed.
func (d *Driver) Drop(cluster string, id driver.ID) error {
	s, err := d.site(cluster)
	if errors.Is(err, navvy.ErrNotFound) {
		return nil
	}
	if err == nil {
		err = s.forget(id)
	}
	return named(id, err)
}

// remove removes what is made of a resource.
func (s *site) remove(ctx context.Context, id driver.ID) error {
	switch id.Kind {
	case kindServer:
		return s.removeServer(ctx)
	case kindFiles:
		return s.removeFiles(ctx)
	case kindQueue:
		return s.removeQueue(ctx)
	case kindMonitor:
		return s.removeMonitor()
	case kindUnit:
		return s.units.Remove(ctx, id.Name)
	}
	if s.d.o.Elsewhere != nil {
		return s.d.o.Elsewhere.Remove(ctx, &Site{s}, id)
	}
	return s.removeWorker(ctx, id.Name)
}

// named says which resource an error is of.
func named(id driver.ID, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", id, err)
}

// base is where clusters are found by their names.
func (d *Driver) base() string {
	return filepath.Join(d.o.State, cmp.Or(d.o.Folder, "navvy-clusters"))
}

// manager opens what keeps the units of a cluster up.
func (d *Driver) manager(m *mark, dir string) (unit.Manager, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if u := d.units[dir]; u != nil {
		return u, nil
	}
	var u unit.Manager
	var err error
	at := filepath.Join(dir, unitsDir)
	if m.Supervisor == supervisorSystemd {
		if d.o.Systemd == nil {
			return nil, fmt.Errorf("cluster %s: systemd keeps it up, and is not to be found here: %w", m.Name, navvy.ErrUnsupported)
		}
		u, err = unit.OpenSystemd(at, "navvy-"+m.Name, d.o.Systemd)
	} else {
		u, err = unit.OpenSupervised(at, d.o.Supervise, d.environ(nil))
	}
	if err == nil {
		d.units[dir] = u
	}
	return u, err
}

// passed are the variables that units have of whoever applies.
var passed = []string{
	"HOME", "LANG", "LC_ALL", "LOGNAME", "NAVVY_KEEP_READ", "NAVVY_KEEP_SIZE", "NAVVY_KEEP_UNREAD", "PATH",
	"SSL_CERT_DIR", "SSL_CERT_FILE", "TMPDIR", "TZ", "USER", "XDG_RUNTIME_DIR",
}

// environ is the environment of a unit, with more than what is passed on.
func (d *Driver) environ(more map[string]string) []string {
	var list []string
	for _, name := range passed {
		if value, ok := d.lookup(name); ok && more[name] == "" {
			list = append(list, name+"="+value)
		}
	}
	for name, value := range more {
		list = append(list, name+"="+value)
	}
	slices.Sort(list)
	return list
}

// lookup is a variable of whoever applies.
func (d *Driver) lookup(name string) (string, bool) {
	for _, pair := range slices.Backward(d.o.Environ) {
		if len(pair) > len(name) && pair[:len(name)] == name && pair[len(name)] == '=' {
			return pair[len(name)+1:], true
		}
	}
	return "", false
}

// getenv is a variable of whoever applies; empty if there is none.
func (d *Driver) getenv(name string) string {
	value, _ := d.lookup(name)
	return value
}

// makeDir makes a directory for this user alone.
func makeDir(path string) error { return os.MkdirAll(path, 0o700) }
