package local

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"slices"

	"github.com/navvy-run/navvy/cluster/config"
	"github.com/navvy-run/navvy/cluster/driver"
	"github.com/navvy-run/navvy/cluster/unit"
)

// Elsewhere has the workers of clusters on other machines, where the server, its queues, files
// and monitor are on this one. Its methods may be called at once, like those of driver.Driver,
// whose contract they have.
type Elsewhere interface {
	// Compile tells what a cluster consists of beside what is on this machine: its workers,
	// of kind worker, and what they need.
	Compile(c *config.Cluster, w *Workers) ([]driver.Resource, error)
	// Put makes one of these. Site.Data is kept.
	Put(ctx context.Context, s *Site, r *driver.Resource) error
	// Remove removes one of these.
	Remove(ctx context.Context, s *Site, id driver.ID) error
	// Observe tells how those are that were made, and what else there is.
	Observe(ctx context.Context, v *View, list []Record) ([]driver.Observed, error)
}

// Workers say what all workers of a cluster have in common.
type Workers struct {
	Mark        driver.ID
	Needs       []driver.ID // what each needs of this machine, and the mark
	Server      driver.ID   // zero if there is none
	Properties  driver.Properties
	Concurrency int
	Labels      map[string]string
	// Of workers without a server.
	Args  []string          // arguments of worker start
	Env   map[string]string // of the service, and secrets of the broker
	Files string            // the directory of the service, see Site.Files; empty for none
}

// Record is what is kept of a resource that was made.
type Record struct {
	ID         driver.ID
	Needs      []driver.ID
	Properties driver.Properties
	Data       map[string]string
	Done       bool
}

// Site is a cluster, as Elsewhere sees it.
type Site struct{ s *site }

// Name is the cluster's.
func (s *Site) Name() string { return s.s.name }

// Key tells the cluster from another one of its name.
func (s *Site) Key() string {
	sum := sha256.Sum256(append([]byte("navvy cluster "+s.s.name+" "), s.s.mark.Salt...))
	return hex.EncodeToString(sum[:8])
}

// Path is one in a directory that goes with the cluster, for this user alone.
func (s *Site) Path(names ...string) string {
	return s.s.path(append([]string{elsewhereDir}, names...)...)
}

// Navvy is the program of this machine.
func (s *Site) Navvy() string { return s.s.d.o.Navvy }

// Data are kept with the resource that is put or removed, for whoever looks at it or removes it.
func (s *Site) Data() map[string]string { return s.s.record.Data }

// Save keeps Data, before more is done.
func (s *Site) Save() error { return s.s.writeMade(s.s.record) }

// Records are those of all resources.
func (s *Site) Records() ([]Record, error) {
	all, err := s.s.all()
	list := make([]Record, len(all))
	for i, m := range all {
		list[i] = Record(*m)
	}
	return list, err
}

// RecordFile is where the record of a resource is.
func (s *Site) RecordFile(id driver.ID) string { return s.s.recordFile(id) }

// PutUnit puts a unit of this machine, with so much more environment.
func (s *Site) PutUnit(ctx context.Context, spec *unit.Spec, more map[string]string) error {
	spec.Env = s.s.d.environment(more)
	return s.s.putUnit(ctx, spec)
}

// RemoveUnit removes a unit of this machine.
func (s *Site) RemoveUnit(ctx context.Context, name string) error {
	return s.s.units.Remove(ctx, name)
}

// Getenv is a variable of whoever applies.
func (s *Site) Getenv(name string) string { return s.s.d.getenv(name) }

// Server is where the server listens on loopback; empty if there is none.
func (s *Site) Server() string {
	if s.s.mark.Ports == (ports{}) {
		return ""
	}
	return loopback(s.s.mark.Ports.GRPC)
}

// ServerPort is the port of the server, on any address.
func (s *Site) ServerPort() int { return s.s.mark.Ports.GRPC }

// Admits tells whether the server lets in whoever has an identity. One that has not joined it,
// or whose certificate has expired or was revoked, needs a token.
func (s *Site) Admits(ctx context.Context, id Identity) (bool, error) { return s.s.admits(ctx, id) }

// Token is a new one, with which one worker can join, as its file has it.
func (s *Site) Token(ctx context.Context) ([]byte, error) { return s.s.newToken(ctx) }

// Dismiss has the server forget a worker.
func (s *Site) Dismiss(ctx context.Context, id Identity) error { return s.s.dismiss(ctx, id) }

// Files is the directory on this machine of what Workers.Files names.
func (s *Site) Files(name string) string { return s.s.filesAt(name) }

// Broker is what a worker without a server reads of a broker's queues from its files, as
// worker start has them: by the name of the flag.
func (s *Site) Broker() (map[string][]byte, error) {
	files := map[string][]byte{}
	for flag, side := range map[string]string{"--requests-file": requestSide, "--responses-file": responseSide} {
		text, err := os.ReadFile(s.s.urlFile(side))
		if err != nil {
			return nil, err
		}
		files[flag] = text
	}
	return files, nil
}

// View is a cluster while it is looked at.
type View struct {
	Site
	l *look
}

// Moves tells whether the server gets another port when it is put again, since it does not run
// and somebody else has its own.
func (v *View) Moves() bool { return v.l.moves }

// Unit is how a unit of this machine is. Those that nobody asks for are somebody else's.
func (v *View) Unit(name string) (state unit.State, there bool) {
	state, there = v.l.units[name]
	delete(v.l.units, name)
	return state, there
}

// ObserveUnit tells how a unit is that was put with a digest; said is the last line of its log,
// or empty to read it on this machine.
func (v *View) ObserveUnit(state *unit.State, there bool, digest, said string, o *driver.Observed) {
	if said == "" && there {
		said = lastLine(state.Log)
	}
	observeUnit(state, there, digest, said, o)
}

// ObserveJoined tells how the server sees a worker, if it answers.
func (v *View) ObserveJoined(ctx context.Context, id Identity, o *driver.Observed) {
	if v.l.away == nil {
		v.l.observeJoined(ctx, id, o)
	}
}

// elsewherePart is a resource of Elsewhere.
type elsewherePart struct{ e Elsewhere }

func (p elsewherePart) put(ctx context.Context, s *site, r *driver.Resource) error {
	if err := makeDir(s.path(elsewhereDir)); err != nil {
		return err
	}
	return p.e.Put(ctx, &Site{s}, r)
}

// elsewhere adds what a cluster consists of on other machines.
func (k *compiler) elsewhere(w *workerPart, p driver.Properties, needs []driver.ID) error {
	needs = slices.DeleteFunc(append([]driver.ID{k.list[0].ID}, needs...), func(id driver.ID) bool { return id == driver.ID{} })
	delete(p, "program") // it is another one there
	list, err := k.d.o.Elsewhere.Compile(k.c, &Workers{
		Mark: k.list[0].ID, Needs: needs, Server: k.server(), Properties: p,
		Concurrency: w.concurrency, Labels: w.labels, Args: w.args, Env: w.env, Files: w.files,
	})
	k.list = append(k.list, list...)
	return err
}

// ofThisMachine tells whether resources of a kind are never elsewhere.
func ofThisMachine(kind string) bool {
	return slices.Contains([]string{driver.KindCluster, kindServer, kindFiles, kindQueue, kindMonitor, kindUnit}, kind)
}

// observeElsewhere looks at what was made elsewhere.
func (l *look) observeElsewhere(ctx context.Context, list []*made) ([]driver.Observed, error) {
	records, byID := make([]Record, len(list)), map[driver.ID]*made{}
	for i, m := range list {
		records[i], byID[m.ID] = Record(*m), m
	}
	seen, err := l.d.o.Elsewhere.Observe(ctx, &View{Site{l.site}, l}, records)
	for i := range seen {
		if m := byID[seen[i].ID]; m != nil {
			finished(m, &seen[i])
		}
	}
	return seen, err
}
