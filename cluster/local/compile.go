package local

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/cluster/config"
	"github.com/navvy-run/navvy/cluster/driver"
	"github.com/navvy-run/navvy/cluster/unit"
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
	env   []string        // of the service
	plain map[string]bool // names in env that are no secrets
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
		k.dir = besideFile(k.c, local.Dir)
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
	text := compact(config.Encode(absolute(k.c)))
	p := driver.Properties{"directory": resolved(k.dir), "supervisor": supervisor, "file": shortSum(text)}
	k.add(driver.KindCluster, k.c.Name, p, &markPart{dir: k.dir, config: text, salt: k.salt, supervisor: supervisor, server: k.c.Queue.Kind.Server()})
	return nil
}

// absolute is a file whose paths begin nowhere else, so that what is kept of it means the same
// to whoever scales the cluster later, from anywhere.
func absolute(c *config.Cluster) *config.Cluster {
	a := *c
	a.Share = slices.Clone(c.Share)
	for i := range a.Share {
		a.Share[i].From = besideFile(c, a.Share[i].From)
	}
	if at := besideFile(c, c.Service.Package); c.Service.Package != "" {
		if _, err := os.Stat(at); err == nil {
			a.Service.Package = at
		}
	}
	if c.Monitor.Dir != "" {
		a.Monitor.Dir = besideFile(c, c.Monitor.Dir)
	}
	if c.Local != nil && c.Local.Dir != "" {
		local := *c.Local
		local.Dir = besideFile(c, local.Dir)
		a.Local = &local
	}
	if c.SSH != nil {
		ssh := *c.SSH
		for _, path := range []*string{&ssh.Identity, &ssh.KnownHosts} {
			if *path != "" {
				*path = besideFile(c, *path)
			}
		}
		a.SSH = &ssh
	}
	beside := func(v config.Value) config.Value {
		if v.File != "" {
			v.File = besideFile(c, v.File)
		}
		return v
	}
	if c.Queue.URL != nil {
		v := beside(*c.Queue.URL)
		a.Queue.URL = &v
	}
	a.Workers.Environment = maps.Clone(c.Workers.Environment)
	for name, v := range a.Workers.Environment {
		a.Workers.Environment[name] = beside(v)
	}
	return &a
}

// besideFile is a path that begins at the cluster's file.
func besideFile(c *config.Cluster, path string) string {
	if !filepath.IsAbs(path) {
		path = filepath.Join(c.Dir, path)
	}
	return filepath.Clean(path)
}

func shortSum(text []byte) string {
	sum := sha256.Sum256(text)
	return "sha256:" + hex.EncodeToString(sum[:8])
}

// value is what a value of the file stands for, and whether it is a secret.
func (k *compiler) value(key string, v *config.Value) (text string, secret bool, err error) {
	text, err = v.Resolve(func(name string) string { text, _ := k.d.lookup(name); return text }, k.c.Dir)
	if errors.Is(err, navvy.ErrNotFound) {
		err = fmt.Errorf("%w: %w", err, navvy.ErrInvalid)
	}
	if err != nil {
		return "", true, fmt.Errorf("%s: %w", key, err)
	}
	return text, !v.Plain(), nil
}

func (k *compiler) environment(context.Context) error {
	k.plain = map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(k.c.Workers.Environment)) {
		v := k.c.Workers.Environment[name]
		text, secret, err := k.value("workers.environment."+name, &v)
		if err != nil {
			return err
		}
		if name == "" || strings.ContainsAny(name, "=\x00") || strings.ContainsRune(text, 0) {
			return fmt.Errorf("workers.environment: no process can be given %q: %w", name, navvy.ErrInvalid)
		}
		k.plain[name] = !secret
		k.env = append(k.env, name+"="+text)
	}
	return nil
}

// environmentProperties tell of an environment without its secrets, and the names together, for
// people.
func environmentProperties(p driver.Properties, env []string, plain func(name string) bool, salt []byte) {
	names := make([]string, 0, len(env))
	for _, pair := range env {
		name, value, _ := strings.Cut(pair, "=")
		names = append(names, name)
		if !plain(name) {
			value = driver.Secret(salt, []byte(value))
		}
		p["environment."+name] = value
	}
	slices.Sort(names)
	p["variables"] = cmp.Or(strings.Join(names, " "), "none")
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
	spec := &navvy.Spec{
		Service: &navvy.Service{Form: k.c.Service.Form(), Env: k.env},
		Timeout: time.Duration(k.c.Service.Timeout), Retry: navvy.Retry{Max: max(0, cmp.Or(k.c.Queue.Attempts, defaultAttempts)-1)},
	}
	if err := k.limits(&spec.Limits); err != nil {
		return err
	}
	if k.tree != nil {
		p := k.tree.pkg(k.c.Name)
		spec.Service.Package = &p
	} else if name := k.c.Service.Package; name != "" {
		p, err := navvy.ParsePackage(name)
		if err != nil {
			return fmt.Errorf("service.package: %w", err)
		}
		spec.Service.Package = &p
	}
	if err := spec.Validate(); err != nil {
		return fmt.Errorf("service: %w", err)
	}
	name := cmp.Or(k.c.Queue.Request, "requests")
	if err := navvy.ValidateQueue(name); err != nil {
		return fmt.Errorf("queue.request: %w", err)
	}
	p := queueProperties(spec, func(name string) bool { return k.plain[name] }, k.salt)
	k.add(kindQueue, name, p, &queuePart{spec: spec}, serverID, k.files)
	return nil
}

const defaultAttempts = 5

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
	p := driver.Properties{"kind": string(config.QueueNavvy), "paused": "no", "service": "", "package": "", "attempts": "", "timeout": "none", "cpus": "any", "memory": "any"}
	if spec == nil || spec.Service == nil {
		return p
	}
	p["service"], p["attempts"] = spec.Service.Form, strconv.Itoa(spec.Retry.Max+1)
	if spec.Service.Package != nil {
		p["package"] = spec.Service.Package.String()
	}
	if spec.Timeout != 0 {
		p["timeout"] = spec.Timeout.String()
	}
	if spec.Limits.CPUs != 0 {
		p["cpus"] = quantity.CPUs(spec.Limits.CPUs)
	}
	if spec.Limits.Memory != 0 {
		p["memory"] = quantity.ExactSize(spec.Limits.Memory)
	}
	environmentProperties(p, spec.Service.Env, plain, salt)
	return p
}

// brokerQueues are the two of a broker's.
func (k *compiler) brokerQueues(context.Context) error {
	if k.c.Queue.URL == nil {
		return fmt.Errorf("queue.url: the provider %s makes no broker: say where the one of kind %s is: %w", k.c.Provider, k.c.Queue.Kind, navvy.ErrInvalid)
	}
	base, secret, err := k.value("queue.url", k.c.Queue.URL)
	if err != nil {
		return err
	}
	for _, one := range []struct{ name, side string }{
		{cmp.Or(k.c.Queue.Request, "requests"), requestSide}, {cmp.Or(k.c.Queue.Response, "responses"), responseSide},
	} {
		b, err := brokerQueue(k.c.Queue.Kind, base, one.name)
		if err == nil {
			err = k.d.o.CheckQueue(b.url, b.connection)
		}
		if err != nil {
			return fmt.Errorf("queue.url: %w", err)
		}
		b.side = one.side
		p := driver.Properties{"kind": string(k.c.Queue.Kind), "broker": b.shown, "used for": one.side}
		if secret {
			p["url"] = driver.Secret(k.salt, []byte(base))
		}
		k.add(kindQueue, one.name, p, b)
	}
	return nil
}

// connectionVariables are where brokers have connection strings, and the schemes of their URLs.
var connectionVariables = map[config.QueueKind]struct{ variable, scheme string }{
	config.QueueServiceBus: {"AZURE_SERVICEBUS_CONNECTION_STRING", "azservicebus"},
	config.QueueStorage:    {"AZURE_STORAGE_CONNECTION_STRING", "azqueue"},
}

// brokerQueue is one of a broker's queues: base is the broker's URL, or its connection string.
func brokerQueue(kind config.QueueKind, base, name string) (*brokerPart, error) {
	if c, ok := connectionVariables[kind]; ok && strings.Contains(base, "=") && !strings.HasPrefix(base, c.scheme+"://") {
		at := c.scheme + ":///" + url.PathEscape(name)
		return &brokerPart{url: at, connection: base, variable: c.variable, shown: at}, nil
	}
	u, err := url.Parse(base)
	if err != nil || u.Scheme == "" {
		return nil, fmt.Errorf("it is no URL of a broker: %w", navvy.ErrInvalid) // which may have a password in it
	}
	at := u.JoinPath(name)
	shown := *at
	shown.User, shown.RawQuery = nil, ""
	return &brokerPart{url: at.String(), shown: shown.String()}, nil
}

func (k *compiler) monitor(context.Context) error {
	if k.c.Monitor.Kind != config.MonitorPrometheus {
		return nil
	}
	m := &monitorPart{}
	if k.c.Monitor.Dir != "" {
		m.dir = besideFile(k.c, k.c.Monitor.Dir)
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
	if k.d.o.Elsewhere != nil {
		return k.elsewhere(w, p, needs)
	}
	for i := range k.c.Workers.Count {
		k.add(kindWorker, fmt.Sprintf("worker-%03d", i+1), maps.Clone(p), w, needs...)
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
	set("--attempts", "attempts", strconv.Itoa(cmp.Or(k.c.Queue.Attempts, defaultAttempts)), "")
	set("--lease", "lease", durationText(k.c.Queue.Lease), "1m0s")
	set("--timeout", "timeout", durationText(k.c.Service.Timeout), "none")
	set("--cpus", "cpus", k.c.Workers.CPUs, "any")
	set("--memory", "memory", k.c.Workers.Memory, "any")
	if err := k.limits(new(navvy.Limits)); err != nil {
		return err
	}
	w.args, w.env = args, map[string]string{}
	for _, pair := range k.env {
		name, value, _ := strings.Cut(pair, "=")
		w.env[name] = value
	}
	environmentProperties(p, k.env, func(name string) bool { return k.plain[name] }, k.salt)
	for i := range k.list {
		b, ok := k.list[i].Spec.(*brokerPart)
		if !ok {
			continue
		}
		if b.variable != "" {
			w.env[b.variable] = b.connection
		}
		// It is started again when the broker is another one.
		p[b.side] = strings.TrimSpace(b.shown + " " + k.list[i].Properties["url"])
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
