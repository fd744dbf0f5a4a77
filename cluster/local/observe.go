package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/cluster/driver"
	"github.com/navvy-run/navvy/cluster/unit"
	"github.com/navvy-run/navvy/cluster/work"
)

// look is what is seen of a cluster at once.
type look struct {
	*site
	units map[string]unit.State
	data  bool // whether the server has any
	moves bool // whether it will be elsewhere, see leavePorts
	// Of the server, if it answers: away says why it does not.
	away   error
	queues map[string]client.Queue
	fleet  map[string]client.FleetWorker
}

// Observe implements driver.Driver.
func (d *Driver) Observe(ctx context.Context, cluster string) (*driver.World, error) {
	s, err := d.site(cluster)
	if errors.Is(err, navvy.ErrNotFound) {
		return &driver.World{}, nil
	} else if err != nil {
		return nil, err
	}
	l, err := s.look(ctx)
	if err != nil {
		return nil, err
	}
	records, err := s.all()
	if err != nil {
		return nil, err
	}
	w := &driver.World{Config: s.mark.Config, Salt: s.mark.Salt, Resources: []driver.Observed{l.mark()}}
	_, runs := l.units[serverID.Name]
	if recorded := slices.ContainsFunc(records, func(m *made) bool { return m.ID == serverID }); !recorded && (runs || l.data) {
		records = append(records, &made{ID: serverID, Needs: []driver.ID{w.Resources[0].ID}}) // it was lost
	}
	var elsewhere []*made
	for _, m := range records {
		if d.o.Elsewhere != nil && !ofThisMachine(m.ID.Kind) {
			elsewhere = append(elsewhere, m)
			continue
		}
		o := l.observe(ctx, m)
		if m.ID.Kind == kindServer || m.ID.Kind == kindWorker {
			delete(l.units, m.ID.Name)
		}
		w.Resources = append(w.Resources, o)
	}
	beside := kindWorker
	if d.o.Elsewhere != nil {
		beside = kindUnit
		list, err := l.observeElsewhere(ctx, elsewhere)
		if err != nil {
			return nil, err
		}
		w.Resources = append(w.Resources, list...)
	}
	w.Resources = append(w.Resources, l.beside(beside)...)
	return w, nil
}

// beside are the units that somebody has put beside ours.
func (l *look) beside(kind string) (list []driver.Observed) {
	for name := range l.units {
		list = append(list, driver.Observed{
			ID: driver.ID{Kind: kind, Name: name}, Needs: []driver.ID{l.mark().ID}, Properties: driver.Properties{},
			Health: driver.HealthOK, Detail: "nobody has asked for it",
		})
	}
	return list
}

// lookTime is how long it may take to ask the server for all that it has.
const lookTime = 10 * time.Second

// look looks at all that is asked once.
func (s *site) look(ctx context.Context) (*look, error) {
	l := &look{site: s, units: map[string]unit.State{}, queues: map[string]client.Queue{}, fleet: map[string]client.FleetWorker{}}
	list, err := s.units.List(ctx)
	if err != nil {
		return nil, err
	}
	for _, state := range list {
		l.units[state.Name] = state
	}
	if state, there := l.units[serverID.Name]; s.mark.Ports != (ports{}) {
		if !there {
			state.Phase = unit.Down
		}
		l.moves = s.taken(state)
	}
	entries, err := os.ReadDir(s.path(serverDir))
	if l.data = len(entries) > 0 || err != nil && !errors.Is(err, fs.ErrNotExist); s.mark.Ports == (ports{}) && !l.data {
		return l, nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	l.away = s.withServer(ctx, func(c *client.Client) error {
		for q, err := range c.Queues(ctx) {
			if err != nil {
				return err
			}
			l.queues[q.Name] = q
		}
		fleet, err := c.Fleet(ctx)
		for i := range fleet {
			l.fleet[fleet[i].Name] = fleet[i]
		}
		return err
	})
	return l, nil
}

func (l *look) mark() driver.Observed {
	return driver.Observed{
		ID: driver.ID{Kind: driver.KindCluster, Name: l.name}, Health: driver.HealthOK,
		Properties: driver.Properties{"directory": l.dir, "supervisor": l.site.mark.Supervisor, "file": shortSum(compact(l.site.mark.Config))},
	}
}

// observe tells how a resource is that was made.
func (l *look) observe(ctx context.Context, m *made) driver.Observed {
	o := driver.Observed{ID: m.ID, Needs: m.Needs, Properties: maps.Clone(m.Properties), Health: driver.HealthOK}
	if o.Properties == nil {
		o.Properties = driver.Properties{}
	}
	switch m.ID.Kind {
	case kindServer:
		l.observeServer(ctx, m, &o)
	case kindWorker:
		l.observeWorker(ctx, m, &o)
	case kindFiles:
		l.observeFiles(ctx, m, &o)
	case kindQueue:
		l.observeQueue(ctx, m, &o)
	case kindMonitor:
		l.observeMonitor(m, &o)
	}
	finished(m, &o)
	return o
}

// finished tells of a resource that was begun and no more.
func finished(m *made, o *driver.Observed) {
	if !m.Done && o.Health != driver.HealthUnknown {
		fail(o, "it was begun and not finished")
	}
}

func fail(o *driver.Observed, format string, args ...any) {
	o.Health, o.Detail = driver.HealthFailed, fmt.Sprintf(format, args...)
}

// observeUnit tells how the unit of a resource is.
func (l *look) observeUnit(m *made, o *driver.Observed) {
	state, there := l.units[m.ID.Name]
	observeUnit(&state, there, m.Data["unit"], lastLine(state.Log), o)
}

// observeUnit tells how a unit is that was put as a digest says; said is the last line of its log.
func observeUnit(state *unit.State, there bool, digest, said string, o *driver.Observed) {
	switch {
	case !there:
		fail(o, "it does not run")
	case state.Digest != digest:
		fail(o, "its unit is not what it was made as: %s", state.Exit)
	case state.Phase == unit.Alone:
		fail(o, "it runs as process %d, and nobody would start it again: the supervisor has ended", state.Pid)
	case state.Phase == unit.Down:
		fail(o, "it does not run: %s", cmp.Or(state.Exit, "the supervisor has ended"))
	case state.Phase == unit.GaveUp:
		fail(o, "it has ended too many times (%s): %s", state.Exit, said)
	case state.Phase == unit.Waiting && state.Starts >= many:
		fail(o, "it was started %d times again, and ends (%s): %s", state.Starts, state.Exit, said)
	case state.Phase != unit.Up:
		o.Health, o.Detail = driver.HealthStarting, strings.TrimSpace(string(state.Phase)+" "+state.Exit)
	default:
		o.Detail = fmt.Sprintf("process %d", state.Pid)
		if state.Starts > 0 {
			o.Detail += fmt.Sprintf(", started %d times again", state.Starts)
		}
	}
}

// held tells what is lost with the server: all that is in its queues, whoever has made them.
func (l *look) held() string {
	if l.away != nil && l.data {
		return work.Unknown
	}
	return work.Held(l.queues)
}

func (l *look) observeServer(ctx context.Context, m *made, o *driver.Observed) {
	o.Holds = l.held()
	if l.observeUnit(m, o); o.Health != driver.HealthOK {
		return
	}
	if err := l.ready(ctx); err != nil {
		o.Health, o.Detail = driver.HealthStarting, err.Error()
		return
	}
	at := l.site.mark.Ports
	o.Detail += fmt.Sprintf("; clients: navvy --data %s; gRPC %s, HTTP http://%s, metrics http://%s/metrics", l.path(serverDir), loopback(at.GRPC), loopback(at.HTTP), loopback(at.Health))
}

func (l *look) observeWorker(ctx context.Context, m *made, o *driver.Observed) {
	if l.observeUnit(m, o); o.Health != driver.HealthOK {
		return
	}
	if _, err := os.Stat(l.path(workersDir, m.ID.Name)); err != nil {
		fail(o, "its directory is gone: %v", err)
		return
	}
	if files, alone := m.Data["files"]; alone {
		if files != "" {
			if _, err := os.Stat(l.filesAt(files)); err != nil {
				fail(o, "the directory of its service is gone: %v", err)
			}
		}
		return
	}
	if at := m.Data["join"]; at != "" && (at != loopback(l.site.mark.Ports.GRPC) || l.moves) {
		fail(o, "it would join the server at %s, where somebody else is, or was", at)
		return
	}
	if l.away != nil {
		return // the server says so itself
	}
	id, err := l.identity(m.ID.Name)
	if err != nil {
		fail(o, "its certificate: %v", err)
		return
	}
	l.observeJoined(ctx, id, o)
}

// observeJoined tells how the server sees a worker.
func (l *look) observeJoined(ctx context.Context, id Identity, o *driver.Observed) {
	name := id.name()
	if name == "" {
		o.Health, o.Detail = driver.HealthStarting, "it joins"
		return
	}
	if ours, err := l.joined(id); err == nil && !ours {
		fail(o, "its certificate has expired, or is of another server, of which the data are gone")
		return
	}
	w, known := l.fleet[name]
	switch {
	case !known:
		o.Health, o.Detail = driver.HealthStarting, "the server does not see it yet"
	case w.Quarantine != "":
		o.Detail = "it gets no tasks for a while: " + w.Quarantine
	default:
		o.Detail += ", " + w.State
		if w.State == "lost" || w.State == "left" || w.State == "silent" {
			o.Health = driver.HealthStarting
		}
	}
	if o.Health != driver.HealthStarting {
		return
	}
	if refused, err := l.refused(ctx, id); err == nil && refused {
		fail(o, "the server does not let it in: its certificate was revoked")
	}
}

func (l *look) observeFiles(ctx context.Context, m *made, o *driver.Observed) {
	p, err := navvy.ParsePackage(m.Data["package"])
	if err != nil { // it is a directory
		if _, err := os.Stat(l.filesAt(m.Properties["contents"])); err != nil {
			o.Properties["contents"] = ""
		}
		return
	}
	if l.away != nil {
		o.Health, o.Detail = driver.HealthUnknown, l.away.Error()
		return
	}
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	err = l.withServer(ctx, func(c *client.Client) error { _, err := c.Files().Stat(ctx, p.File()); return err })
	if errors.Is(err, navvy.ErrNotFound) {
		o.Properties["contents"] = ""
	} else if err != nil {
		o.Health, o.Detail = driver.HealthUnknown, err.Error()
	}
}

func (l *look) observeQueue(ctx context.Context, m *made, o *driver.Observed) {
	if side := m.Data["side"]; side != "" {
		l.observeBroker(ctx, side, o)
		return
	}
	if l.away != nil {
		o.Health, o.Detail = driver.HealthUnknown, l.away.Error()
		if l.data {
			o.Holds = work.Unknown
		}
		return
	}
	q, there := l.queues[m.ID.Name]
	if !there || !q.Has {
		o.Properties = queueProperties(nil, nil, nil)
		o.Properties["paused"] = ""
		fail(o, "its settings were removed")
		return
	}
	// Values that were made as secrets are told as such, and those that somebody else has put there.
	plain := func(name string) bool {
		was, ours := m.Properties["environment."+name]
		return ours && !strings.HasPrefix(was, "secret:")
	}
	o.Properties = queueProperties(q.Settings.Work, plain, l.site.mark.Salt)
	for key := range m.Properties { // a variable that is not there any more
		if _, there := o.Properties[key]; !there {
			o.Properties[key] = ""
		}
	}
	if q.Settings.Paused {
		o.Properties["paused"] = "yes"
	}
	o.Detail, o.Holds = work.Contents(&q), work.Holds(&q)
}

// observeBroker asks a broker whether it has a queue.
func (l *look) observeBroker(ctx context.Context, side string, o *driver.Observed) {
	path := l.urlFile(side)
	at, err := os.ReadFile(path)
	connection, err2 := os.ReadFile(connectionFile(path))
	if err := errors.Join(err, err2); err != nil {
		o.Properties["broker"] = ""
		fail(o, "where it is was lost: %v", err)
		return
	}
	err = l.d.o.OpenQueue(ctx, strings.TrimSpace(string(at)), string(connection), true)
	switch {
	case errors.Is(err, navvy.ErrNotFound):
		o.Properties["broker"] = ""
	case err != nil:
		o.Health, o.Detail = driver.HealthUnknown, err.Error()
	default:
		o.Detail = "it stays when the cluster goes"
	}
}
