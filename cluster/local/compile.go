package local

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/cluster/config"
	"github.com/navvy-run/navvy/cluster/driver"
	"github.com/navvy-run/navvy/cluster/unit"
	"github.com/navvy-run/navvy/cluster/work"
	"github.com/navvy-run/navvy/quantity"
)

// compiler makes resources of a file.
type compiler struct {
	d    *Driver
	c    *config.Cluster
	salt []byte
	dir  string
	list []driver.Resource

	files driver.ID // what workers find; zero if there is nothing
	tree  *tree
	env   *work.Environment // of the service
}

// Compile implements driver.Driver. It reads the files that are shared, to know what is in them.
func (d *Driver) Compile(ctx context.Context, c *config.Cluster, salt []byte) ([]driver.Resource, error) {
	if err := d.check(c); err != nil {
		return nil, err
	}
	k := &compiler{d: d, c: c, salt: salt}
	for _, step := range []func(context.Context) error{k.cluster, k.environment, k.serverResource, k.filesResource, k.queues, k.monitor, k.workers} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return k.list, nil
}

// check refuses what this provider cannot do.
func (d *Driver) check(c *config.Cluster) error {
	cannot := func(key, why string, args ...any) error {
		return fmt.Errorf("%s: %s: %w", key, fmt.Sprintf(why, args...), navvy.ErrUnsupported)
	}
	const upTime = 30 * time.Second
	switch {
	case c.Workers.Autoscale != nil:
		return cannot("workers.autoscale", "the provider %s has as many workers as workers.count says, and no autoscaling; navvy cluster scale changes it", c.Provider)
	case c.Workers.Image != "":
		return cannot("workers.image", "workers of the provider %s are processes, not containers; leave it out", c.Provider)
	case c.Service.UpTimeout != 0 && time.Duration(c.Service.UpTimeout) != upTime:
		return cannot("service.up_timeout", "workers wait %s for a service; leave it out", upTime)
	case c.Monitor.Kind != config.MonitorNone && c.Monitor.Kind != config.MonitorPrometheus:
		return cannot("monitor.kind", "the provider %s has prometheus, not %s", c.Provider, c.Monitor.Kind)
	case c.Monitor.Kind != config.MonitorNone && !c.Queue.Kind.Server():
		return cannot("monitor.kind", "with queue.kind %s there is no navvy server that Prometheus could ask; watch the broker itself", c.Queue.Kind)
	case c.Workers.Count < 0:
		return fmt.Errorf("workers.count: %d, want 0 or more: %w", c.Workers.Count, navvy.ErrInvalid)
	}
	if err := config.ValidateName(c.Name); err != nil {
		return fmt.Errorf("name: %w", err)
	}
	if err := d.o.CheckService(c.Service.Form()); err != nil {
		return fmt.Errorf("service: %w", err)
	}
	return nil
}

// add adds a resource, which needs others and the mark.
func (k *compiler) add(kind, name string, p driver.Properties, spec part, needs ...driver.ID) driver.ID {
	id := driver.ID{Kind: kind, Name: name}
	all := []driver.ID{}
	if kind != driver.KindCluster {
		all = append(all, k.list[0].ID)
	}
	for _, need := range needs {
		if need != (driver.ID{}) {
			all = append(all, need)
		}
	}
	k.list = append(k.list, driver.Resource{ID: id, Needs: all, Properties: p, Spec: spec})
	return id
}

func (k *compiler) cluster(context.Context) error {
	local := k.c.Local
	if local == nil {
		local = &config.Local{}
	}
	k.dir = filepath.Join(k.d.base(), k.c.Name)
	if local.Dir != "" {
		k.dir = work.Beside(k.c, local.Dir)
	}
	supervisor := local.Supervisor
	switch supervisor {
	case supervisorNavvy:
	case supervisorSystemd:
		if k.d.o.Systemd == nil || !unit.HasSystemd(k.d.o.Systemd) {
			return fmt.Errorf("local.supervisor: you have no running systemd of your own here; leave it out, or say navvy: %w", navvy.ErrUnsupported)
		}
	case "":
		supervisor = supervisorNavvy
		if m, err := readMark(k.dir); err == nil && m.Name == k.c.Name {
			supervisor = m.Supervisor
		} else if k.d.o.Systemd != nil && unit.HasSystemd(k.d.o.Systemd) {
			supervisor = supervisorSystemd
		}
	default:
		return fmt.Errorf("local.supervisor: %q, want %s or %s: %w", supervisor, supervisorSystemd, supervisorNavvy, navvy.ErrInvalid)
	}
	text := compact(config.Encode(work.Absolute(k.c)))
	p := driver.Properties{"directory": resolved(k.dir), "supervisor": supervisor, "file": shortSum(text)}
	k.add(driver.KindCluster, k.c.Name, p, &markPart{dir: k.dir, config: text, salt: k.salt, supervisor: supervisor, server: k.c.Queue.Kind.Server()})
	return nil
}

func shortSum(text []byte) string {
	sum := sha256.Sum256(text)
	return "sha256:" + hex.EncodeToString(sum[:8])
}

func (k *compiler) environment(context.Context) (err error) {
	k.env, err = work.NewEnvironment(k.c, k.d.getenv)
	return err
}

var serverID = driver.ID{Kind: kindServer, Name: "server"}

func (k *compiler) serverResource(context.Context) error {
	if k.c.Queue.Kind.Server() {
		s := newServerPart(k.c)
		k.add(kindServer, serverID.Name, driver.Properties{"program": k.d.o.Navvy, "listens": s.listens()}, s)
	}
	return nil
}

// server is what needs it if there is one.
func (k *compiler) server() driver.ID {
	if k.c.Queue.Kind.Server() {
		return serverID
	}
	return driver.ID{}
}

func (k *compiler) filesResource(ctx context.Context) error {
	t, err := k.d.newTree(ctx, k.c)
	if err != nil || t == nil {
		return err
	}
	k.tree = t
	k.files = k.add(kindFiles, "service", t.properties(k.c.Queue.Kind.Server()), &filesPart{tree: t, server: k.c.Queue.Kind.Server()}, k.server())
	return nil
}

func (k *compiler) queues(ctx context.Context) error {
	if k.c.Queue.Kind.Server() {
		return k.ownQueue()
	}
	return k.brokerQueues(ctx)
}

// ownQueue is the queue of the cluster's server, whose service workers are sent.
func (k *compiler) ownQueue() error {
	var limits navvy.Limits
	if err := k.limits(&limits); err != nil {
		return err
	}
	var pkg *navvy.Package
	if k.tree != nil {
		p := k.tree.pkg(k.c.Name)
		pkg = &p
	}
	spec, err := work.Spec(k.c, k.env, pkg, limits)
	if err != nil {
		return err
	}
	k.add(kindQueue, work.RequestQueue(k.c), queueProperties(spec, k.env.Plain, k.salt), &queuePart{spec: spec}, serverID, k.files)
	return nil
}

func (k *compiler) limits(l *navvy.Limits) (err error) {
	if text := k.c.Workers.CPUs; text != "" {
		if l.CPUs, err = quantity.ParseCPUs(text); err != nil {
			return fmt.Errorf("workers.cpus: %w", err)
		}
	}
	if text := k.c.Workers.Memory; text != "" {
		if l.Memory, err = quantity.ParseSize(text); err != nil {
			return fmt.Errorf("workers.memory: %w", err)
		}
	}
	return nil
}

// queueProperties tell of the service of a queue; those of a queue that there is are made in
// the same way.
func queueProperties(spec *navvy.Spec, plain func(string) bool, salt []byte) driver.Properties {
	p := work.QueueProperties(spec, plain, salt)
	p["cpus"], p["memory"] = "any", "any"
	if spec == nil || spec.Service == nil {
		return p
	}
	if spec.Limits.CPUs != 0 {
		p["cpus"] = quantity.CPUs(spec.Limits.CPUs)
	}
	if spec.Limits.Memory != 0 {
		p["memory"] = quantity.ExactSize(spec.Limits.Memory)
	}
	return p
}

// brokerQueues are the two of a broker's.
func (k *compiler) brokerQueues(context.Context) error {
	if k.c.Queue.URL == nil {
		return fmt.Errorf("queue.url: the provider %s makes no broker: say where the one of kind %s is: %w", k.c.Provider, k.c.Queue.Kind, navvy.ErrInvalid)
	}
	base, err := work.Resolve(k.c, "queue.url", k.c.Queue.URL, k.d.getenv)
	if err != nil {
		return err
	}
	for _, one := range []struct{ name, side string }{
		{work.RequestQueue(k.c), requestSide}, {work.ResponseQueue(k.c), responseSide},
	} {
		b, err := work.NewBroker(k.c.Queue.Kind, base, one.name)
		if err == nil {
			err = k.d.o.CheckQueue(b.URL, b.Connection)
		}
		if err != nil {
			return fmt.Errorf("queue.url: %w", err)
		}
		p := driver.Properties{"kind": string(k.c.Queue.Kind), "broker": b.Shown, "used for": one.side}
		if !k.c.Queue.URL.Plain() {
			p["url"] = driver.Secret(k.salt, []byte(base))
		}
		k.add(kindQueue, one.name, p, &brokerPart{Broker: *b, side: one.side})
	}
	return nil
}

func (k *compiler) monitor(context.Context) error {
	if k.c.Monitor.Kind != config.MonitorPrometheus {
		return nil
	}
	m := &monitorPart{}
	if k.c.Monitor.Dir != "" {
		m.dir = work.Beside(k.c, k.c.Monitor.Dir)
	} else {
		m.dir = filepath.Join(k.dir, monitorDir)
	}
	k.add(kindMonitor, "prometheus", driver.Properties{"directory": m.dir, "files": monitorSum()}, m, serverID)
	return nil
}

// workers are as many as the file says; one more is one more name.
func (k *compiler) workers(context.Context) error {
	p := driver.Properties{"program": k.d.o.Navvy, "concurrency": strconv.Itoa(max(1, k.c.Workers.Concurrency))}
	w := &workerPart{concurrency: max(1, k.c.Workers.Concurrency), labels: k.c.Workers.Labels, server: k.c.Queue.Kind.Server()}
	needs := []driver.ID{k.files}
	for i := range k.list {
		if k.list[i].Kind == kindQueue {
			needs = append(needs, k.list[i].ID)
		}
	}
	var err error
	if w.server {
		p["labels"] = labelText(w.labels)
		p[requestSide], p[responseSide] = "of the server", "of the server" // one without a server has others
		err = navvy.ValidateLabels(w.labels)
	} else {
		err = k.answering(w, p)
	}
	if err != nil {
		return fmt.Errorf("workers: %w", err)
	}
	if err := k.supervised(w); err != nil {
		return err
	}
	if k.d.o.Elsewhere != nil {
		return k.elsewhere(w, p, needs)
	}
	for i := range k.c.Workers.Count {
		k.add(kindWorker, fmt.Sprintf("worker-%03d", i+1), maps.Clone(p), w, needs...)
	}
	return nil
}

// supervised refuses what systemd would not run, where that is to keep it up, before anything is
// made.
func (k *compiler) supervised(w *workerPart) error {
	if mark, is := k.list[0].Spec.(*markPart); !is || mark.supervisor != supervisorSystemd {
		return nil
	}
	s := &unit.Spec{Args: append([]string{k.d.o.Navvy}, w.args...), Dir: k.dir, Env: k.d.environment(w.env)}
	if !w.server {
		s.Dir = filepath.Join(k.dir, workersDir)
	}
	if k.d.o.Elsewhere != nil { // what is there is kept up otherwise
		s.Args, s.Env = s.Args[:1], k.d.environment(nil)
	}
	if err := unit.SystemdTakes(s); err != nil {
		return fmt.Errorf("local.supervisor: %w; the supervisor navvy takes more", err)
	}
	return nil
}

// answering is a worker without a server, which has all that a queue of a server's has.
func (k *compiler) answering(w *workerPart, p driver.Properties) error {
	if len(k.c.Workers.Labels) > 0 {
		return fmt.Errorf("labels: without a navvy server (queue.kind navvy) nobody asks for them; leave them out: %w", navvy.ErrUnsupported)
	}
	form := k.c.Service.Form()
	if name := k.c.Service.Package; name != "" && k.tree == nil {
		return fmt.Errorf("service.package: %s: without a navvy server there is none; name a directory or an archive: %w", name, navvy.ErrUnsupported)
	}
	args := []string{"--service", form}
	p["service"] = form
	set := func(flag, property, value, none string) {
		p[property] = cmp.Or(value, none)
		if value != "" {
			args = append(args, flag, value)
		}
	}
	set("--attempts", "attempts", strconv.Itoa(cmp.Or(k.c.Queue.Attempts, work.DefaultAttempts)), "")
	set("--lease", "lease", durationText(k.c.Queue.Lease), "1m0s")
	set("--timeout", "timeout", durationText(k.c.Service.Timeout), "none")
	set("--cpus", "cpus", k.c.Workers.CPUs, "any")
	set("--memory", "memory", k.c.Workers.Memory, "any")
	if err := k.limits(new(navvy.Limits)); err != nil {
		return err
	}
	w.args, w.env = args, map[string]string{}
	for _, pair := range k.env.Pairs {
		name, value, _ := strings.Cut(pair, "=")
		w.env[name] = value
	}
	work.AddEnvironment(p, k.env.Pairs, k.env.Plain, k.salt)
	for i := range k.list {
		b, ok := k.list[i].Spec.(*brokerPart)
		if !ok {
			continue
		}
		if b.Variable != "" {
			w.env[b.Variable] = b.Connection
		}
		// It is started again when the broker is another one.
		p[b.side] = strings.TrimSpace(b.Shown + " " + k.list[i].Properties["url"])
	}
	if k.tree != nil {
		p["files"] = k.tree.short()
		w.files = k.tree.short()
	}
	return nil
}

func durationText(d config.Duration) string {
	if d == 0 {
		return ""
	}
	return time.Duration(d).String()
}

func labelText(labels map[string]string) string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		list = append(list, name+"="+labels[name])
	}
	return strings.Join(list, ",")
}
