package cli

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine/driver"
	"github.com/navvy-run/navvy/engine/pebble"
	"github.com/navvy-run/navvy/engine/postgres"
	"github.com/navvy-run/navvy/internal/holder"
	"github.com/navvy-run/navvy/placeholder"
	"github.com/navvy-run/navvy/quantity"
	queuedriver "github.com/navvy-run/navvy/queue/driver"
	"github.com/navvy-run/navvy/queue/memqueue"
	"github.com/navvy-run/navvy/queue/natsqueue"
	"github.com/navvy-run/navvy/queue/rabbitqueue"
	"github.com/navvy-run/navvy/queue/redisqueue"
	"github.com/navvy-run/navvy/queue/servicebusqueue"
	"github.com/navvy-run/navvy/queue/storagequeue"
	"github.com/navvy-run/navvy/runner"
	"github.com/navvy-run/navvy/runner/container"
	"github.com/navvy-run/navvy/runner/container/inpod"
	runnerdriver "github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/runner/engine"
	"github.com/navvy-run/navvy/runner/function"
	"github.com/navvy-run/navvy/runner/late"
	"github.com/navvy-run/navvy/runner/noop"
	"github.com/navvy-run/navvy/runner/process"
	"github.com/navvy-run/navvy/runner/process/cgroup"
	"github.com/navvy-run/navvy/runner/process/isolate"
	"github.com/navvy-run/navvy/runner/service"
	"github.com/navvy-run/navvy/worker/answer"
)

// What is linked in: the stores and the runners. Nobody else names them.

// openStore opens the store that a URL names; empty means the embedded one.
func openStore(ctx context.Context, url string, dir *holder.Dir, log *slog.Logger, full func(bool), fatal func(error)) (driver.Store, error) {
	scheme, _, _ := strings.Cut(url, "://")
	switch {
	case url == "":
		return pebble.Open(holder.StoreDir(dir.Path()), &pebble.Options{Logger: log, OnFull: full, OnFatal: fatal})
	case scheme == "postgres" || scheme == "postgresql":
		return postgres.Open(ctx, url, &postgres.Options{Logger: log, OnFatal: fatal})
	default:
		return nil, noSuchStore(scheme)
	}
}

// storePlace tells where the store of a URL is, as a holder of it does.
func storePlace(url string) (string, error) {
	if scheme, _, _ := strings.Cut(url, "://"); scheme != "postgres" && scheme != "postgresql" {
		return "", noSuchStore(scheme)
	}
	place, err := postgres.Place(url, nil)
	return "postgres " + place, err
}

func noSuchStore(scheme string) error {
	return fmt.Errorf("store %s://…: there is no such kind of store, only postgres:// and the data directory itself: %w", scheme, navvy.ErrInvalid)
}

// brokers lists the drivers of queues by the schemes of their URLs. The connection string
// is for those that have one; empty for the one of the environment.
func (a *app) brokers(connection string) map[string]queuedriver.Driver {
	storage, bus := connection, connection
	if connection == "" {
		storage, bus = a.env("AZURE_STORAGE_CONNECTION_STRING"), a.env("AZURE_SERVICEBUS_CONNECTION_STRING")
	}
	return map[string]queuedriver.Driver{
		"amqp":         rabbitqueue.Driver,
		"amqps":        rabbitqueue.Driver,
		"azqueue":      storagequeue.Driver(&storagequeue.Options{ConnectionString: storage}),
		"azservicebus": servicebusqueue.Driver(&servicebusqueue.Options{ConnectionString: bus}),
		"mem":          new(memqueue.Broker).Driver,
		"nats":         natsqueue.Driver,
		"redis":        redisqueue.Driver,
		"rediss":       redisqueue.Driver,
		"tls":          natsqueue.Driver,
	}
}

// outerBrokers are those that others reach, too.
func (a *app) outerBrokers() map[string]queuedriver.Driver {
	drivers := a.brokers("")
	delete(drivers, "mem")
	return drivers
}

// serviceForms lists how a service can be written.
func serviceForms() []string { return service.Forms() }

// checkService refuses a form of a service that is wrong on any host.
func checkService(form string) error { return service.Check(form) }

// serviceProgram is the program that a form names; empty if it names none.
func serviceProgram(form string) string { return service.Program(form) }

// openedService is a service, and what starts its processes.
type openedService struct {
	service.Service
	processes *process.Driver
}

// openService opens the service of a worker without a server, whose processes have their
// private directories in work, and start in tree if there is one.
func (s *answering) openService(ctx context.Context, work, tree string) (*openedService, error) {
	name := "navvy-service-" + strconv.Itoa(os.Getpid())
	processes := process.NewDriver(&process.Options{
		Groups: cgroup.Open(&cgroup.Options{Name: name}), Isolation: isolate.Open(), Work: work, Logger: s.log,
	})
	limits := &s.flags.answer.limitFlags
	dir := s.dir
	if tree != "" {
		dir = ""
	}
	svc, err := service.Open(ctx, s.service, &service.Options{
		Processes: processes, Env: outside(s.app.environ()), Dir: dir, Tree: tree, Limits: limits.limits,
		Isolate: limits.isolate, Network: limits.network, Concurrency: s.slots,
		Timeout: s.timeout, StartTimeout: s.upTime, Logger: s.log,
	})
	if err != nil {
		return nil, errors.Join(err, processes.Close())
	}
	return &openedService{svc, processes}, nil
}

// invoke has the service answer a request.
func (s *openedService) invoke(ctx context.Context, r *answer.Request) ([]byte, error) {
	body, err := s.Invoke(ctx, &service.Request{ID: r.ID, Attempt: r.Attempt, Body: r.Body})
	if failure, ok := errors.AsType[*service.Failure](err); ok && failure.Final {
		return nil, fmt.Errorf("%w: %w", err, navvy.ErrInvalid)
	}
	return body, err
}

// openBare opens a service for benchmarks, which works in dir.
func openBare(ctx context.Context, form, work, dir string) (*openedService, error) {
	processes := process.NewDriver(&process.Options{Work: work})
	s, err := service.Open(ctx, form, &service.Options{Processes: processes, Dir: dir})
	if err != nil {
		return nil, errors.Join(err, processes.Close())
	}
	return &openedService{s, processes}, nil
}

// ask has the service answer a text.
func (s *openedService) ask(ctx context.Context, body []byte) ([]byte, error) {
	return s.Invoke(ctx, &service.Request{Body: body})
}

// Close disposes of the service and ends its processes.
func (s *openedService) Close(ctx context.Context) error {
	return errors.Join(s.Service.Close(ctx), s.processes.Close())
}

// runnerOptions are how the kinds of work are done.
type runnerOptions struct {
	python  python
	slots   int                 // how many attempts run at once, for services to know; 0 if that is not known
	env     func(string) string // the environment, which says where containers run
	engine  string              // what they run on: one of engines
	docker  string              // the directory of the configuration with which an engine's images are pulled; empty for none
	version string              // of this program
	reached bool                // a cluster's containers are taken only once it has answered
}

// newDrivers lists the kinds of work that there are. Control groups are made in
// the place of that name, private directories in work. Each is closed before those
// behind it, on which it may stand.
func newDrivers(place, work string, o *runnerOptions, log *slog.Logger) []runnerdriver.Driver {
	commands, isolation := &templates{}, isolate.Open()
	containers := make(chan runnerdriver.Driver, 1) // an engine is asked what it can do meanwhile
	go func() { containers <- newContainers(place, work, o, commands, log) }()
	go isolation.Abilities() // which takes as long as all that is found out about groups meanwhile
	processes := process.NewDriver(&process.Options{
		Render: commands.render, Groups: cgroup.Open(&cgroup.Options{Name: place}),
		Isolation: isolation, Work: work, Logger: log,
	})
	functions := function.New(&function.Options{
		Python: o.python.exe, Path: o.python.path, Hosts: o.python.hosts, Look: o.python.look, Processes: processes, Name: place, Logger: log,
	})
	services := service.NewDriver(&service.DriverOptions{
		Processes: processes, Name: place, Concurrency: o.slots, Packages: filepath.Join(filepath.Dir(work), "packages"), Logger: log,
	})
	return []runnerdriver.Driver{functions, services, <-containers, processes, noop.Driver{}}
}

// onCluster tells whether containers run on Kubernetes, if anywhere.
func (o *runnerOptions) onCluster() bool {
	return o.engine == "" || o.engine == engineKubernetes || o.engine == engineAuto && container.Found(o.env) == nil
}

// ownEngine tells whether containers are to run on one engine of this machine, and on nothing else.
func (o *runnerOptions) ownEngine() bool {
	return o.engine == engineDocker || o.engine == engineContainerd
}

// clusterOptions are what the environment tells of the cluster that containers run on.
func clusterOptions(env func(string) string) (*container.Options, error) {
	if err := container.Found(env); err != nil {
		return nil, err
	}
	most, err := mostJobs(env("NAVVY_KUBE_MAX_JOBS"))
	if err != nil {
		return nil, err
	}
	patience, err := imagePatience(env("NAVVY_KUBE_IMAGE_PATIENCE"))
	if err != nil {
		return nil, err
	}
	template, err := readPodTemplate(env("NAVVY_POD_TEMPLATE"))
	if err != nil {
		return nil, fmt.Errorf("NAVVY_POD_TEMPLATE: %w", err)
	}
	buckets, err := bucketSettings(env)
	if err != nil {
		return nil, err
	}
	return &container.Options{
		Context: env("NAVVY_KUBE_CONTEXT"), Namespace: env("NAVVY_KUBE_NAMESPACE"), Instance: env("NAVVY_KUBE_INSTANCE"),
		PodTemplate: template, ImagePatience: patience, MaxJobs: most, Buckets: buckets,
	}, nil
}

// The verbs with which a pod that tasks share calls navvy, and what they do.
const podTasks, podCopy = container.PodTasks, container.PodCopy

// runPod runs the tasks of a pod.
func runPod(pieces, env []string, out *os.File) int { return inpod.Run(pieces, env, out) }

// noContainers tells why containers cannot be run from here; nil if they can be.
func noContainers(ctx context.Context, o *runnerOptions) error {
	if o.onCluster() {
		c, err := clusterOptions(o.env)
		if err != nil {
			return err
		}
		return container.Check(c)
	}
	d, err := findContainers(ctx, "", noWork, o, nil, nil)
	if err != nil {
		return err
	}
	return d.Close()
}

// newContainers makes the runner of containers. An engine that is not there may come, and so may
// a cluster: it is looked for as long as there is a place for attempts.
func newContainers(place, work string, o *runnerOptions, commands *templates, log *slog.Logger) runnerdriver.Driver {
	find := func(ctx context.Context) (runnerdriver.Driver, error) {
		return findContainers(ctx, place, work, o, commands, log)
	}
	d, err := find(context.Background())
	switch {
	case err == nil:
		return d
	case work == noWork, !errors.Is(err, navvy.ErrUnavailable), o.onCluster() && container.Found(o.env) != nil:
		return container.Absent(err)
	}
	return late.New(container.Absent(err), find, log)
}

// findContainers makes the runner of containers on what there is. The error wraps
// navvy.ErrUnavailable if that may come.
func findContainers(ctx context.Context, place, work string, o *runnerOptions, commands *templates, log *slog.Logger) (runnerdriver.Driver, error) {
	switch {
	case o.onCluster():
		d, err := newCluster(o, commands, log)
		if err == nil && o.reached {
			err = d.Ping(ctx)
			if err != nil {
				err = errors.Join(err, d.Close())
			}
		}
		if err != nil {
			return nil, err // d is a pointer to nothing
		}
		return d, nil
	case o.engine != engineAuto:
		return newEngine(ctx, o.engine, place, work, o, commands, log)
	}
	why := []error{container.Found(o.env)}
	for _, kind := range []string{engineDocker, engineContainerd} {
		d, err := newEngine(ctx, kind, place, work, o, commands, log)
		if err == nil {
			return d, nil
		}
		why = append(why, err)
	}
	return nil, noEngine(why)
}

// newEngine makes the runner of containers on an engine of this machine. What is to be done
// there is begun unless there is no place for attempts.
func newEngine(ctx context.Context, kind, place, work string, o *runnerOptions, commands *templates, log *slog.Logger) (runnerdriver.Driver, error) {
	options := &engine.Options{
		Kind: kind, Host: o.env("DOCKER_HOST"), Certificates: o.env("DOCKER_CERT_PATH"), Address: o.env("CONTAINERD_ADDRESS"),
		Instance: place, Logs: filepath.Join(filepath.Dir(work), "containers"), Ending: filepath.Join(filepath.Dir(work), "ending"), Sweep: work != noWork,
		Credentials: o.docker, Render: commands.render, Logger: log,
	}
	d, err := engine.Open(ctx, options)
	if err != nil {
		return nil, err // d is a pointer to nothing
	}
	return d, nil
}

// newCluster makes the runner of containers on the cluster that the environment tells of.
func newCluster(r *runnerOptions, commands *templates, log *slog.Logger) (*container.Driver, error) {
	o, err := clusterOptions(r.env)
	if err != nil {
		return nil, err
	}
	o.Render, o.Logger, o.NavvyImage = commands.render, log, cmp.Or(r.env("NAVVY_IMAGE"), "navvy:"+r.version)
	return container.New(o)
}

// mostJobs reads how many Jobs there may be; empty for any number.
func mostJobs(text string) (int, error) {
	if text == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("NAVVY_KUBE_MAX_JOBS=%.20q: want a number of Jobs, 1 or more: %w", text, navvy.ErrInvalid)
	}
	return n, nil
}

// imagePatience reads for how long an image is waited for; empty for the usual time.
func imagePatience(text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	d, err := quantity.ParseDuration(text)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("NAVVY_KUBE_IMAGE_PATIENCE=%.20q: want a time, as in 30s or 10m: %w", text, navvy.ErrInvalid)
	}
	return d, nil
}

// bucketSettings say where the buckets of containers are, and what copies their objects.
func bucketSettings(env func(string) string) (container.Buckets, error) {
	server, here, err := bucketServer(env)
	return container.Buckets{
		Server: server, Here: here, Secret: env("NAVVY_BUCKET_SECRET"),
		TempDir: env("SCRATCH_DIR"), Fill: fillBuckets,
	}, err
}

// noWork is where drivers would make directories of attempts that start none.
const noWork = "/nonexistent/navvy"

// abilities is what the runners would enforce on this machine, if they were made.
func abilities(o *runnerOptions) []navvy.KindAbilities {
	var list []navvy.KindAbilities
	for _, d := range newDrivers("navvy-probe-"+strconv.Itoa(os.Getpid()), noWork, o, nil) {
		caps := d.Capabilities()
		list = append(list, caps.Abilities())
		_ = d.Close() // nothing was started
	}
	return list
}

// noPython tells why functions cannot be called with an interpreter; nil if they can be.
func noPython(exe string) error { return function.Offered(exe) }

// newRunners makes the runners, and ends what a dead predecessor has left.
func newRunners(ctx context.Context, dir *holder.Dir, journal *runner.Journal, o *runnerOptions, log *slog.Logger) ([]*runner.Runner, error) {
	place, err := groupName(dir.Path())
	if err != nil {
		return nil, err
	}
	drivers := newDrivers(place, dir.WorkDir(), o, log)
	left, err := runner.RecoverAll(ctx, journal, drivers...)
	if err != nil {
		for _, d := range drivers {
			err = errors.Join(err, d.Close())
		}
		return nil, err
	}
	var list []*runner.Runner
	for _, d := range drivers {
		if caps := d.Capabilities(); caps.Absent != "" {
			level := slog.LevelWarn
			if caps.Kind == navvy.KindContainer && !o.ownEngine() {
				level = slog.LevelInfo // most machines have neither cluster nor engine, and nobody misses one
			}
			if _, awaited := d.(runnerdriver.Latecomer); awaited {
				log.Log(ctx, level, "this kind of work is not done here yet: what it lacks is looked for until it is there", "kind", caps.Kind, "why", caps.Absent)
			} else {
				log.Log(ctx, level, "this kind of work is not done here", "kind", caps.Kind, "why", caps.Absent)
			}
		}
		r := runner.New(d, &runner.Options{Journal: journal, Logger: log})
		r.Left(left) // whoever is given its task next finds it by its name; the worker ends what nobody is
		list = append(list, r)
	}
	return list, nil
}

// groupName names the place of a data directory's control groups: the same
// whenever the directory is held, and another for each other directory, also of
// a container that shows the same path.
func groupName(dir string) (string, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return "", fmt.Errorf("data directory %s: %w", dir, err)
	}
	id := dir
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		id = fmt.Sprintf("%s %d %d", dir, st.Dev, st.Ino)
	}
	sum := sha256.Sum256([]byte(id))
	return "navvy-" + hex.EncodeToString(sum[:6]), nil
}

// outside is env without what a task that navvy runs finds there about itself:
// what we start or keep from inside one is not a part of it.
func outside(env []string) []string { return process.WithoutTask(env) }

// templates keeps the parsed command of the job that was seen last.
type templates struct {
	mu   sync.Mutex
	spec *navvy.Spec
	last *placeholder.Template
}

func (c *templates) get(spec *navvy.Spec, program *navvy.Command) (*placeholder.Template, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.spec == spec {
		return c.last, nil
	}
	t, err := placeholder.Parse(program.Args, placeholderOptions(spec, 0))
	if err != nil {
		return nil, err
	}
	c.spec, c.last = spec, t
	return t, nil
}

// placeholderOptions are those of the command of a spec that has one.
func placeholderOptions(spec *navvy.Spec, fields int) placeholder.Options {
	c := spec.Program()
	return placeholder.Options{Shell: c.Shell, Columns: c.Columns, Fields: fields, Stdin: c.Stdin || inBuckets(spec)}
}

// render makes the arguments of one task.
func (c *templates) render(t *runnerdriver.Task) ([]string, error) {
	program := t.Spec.Program()
	if program.Literal {
		return program.Args, nil
	}
	fields, err := t.Format.Fields(t.Input)
	if err != nil {
		return nil, err
	}
	if len(program.Args) == 0 { // of a container, whose image says the rest
		if inBuckets(t.Spec) {
			return nil, nil
		}
		return fields, nil
	}
	template, err := c.get(t.Spec, program)
	if err != nil {
		return nil, err
	}
	argv, err := template.Render(nil, placeholder.Values{Fields: fields, Seq: t.ID.Index + 1, Slot: t.Slot})
	if err != nil {
		return nil, err
	}
	if program.Shell {
		if len(argv) < 3 {
			return nil, errors.New("the shell line is empty")
		}
		return argv[2:], nil
	}
	return argv, nil
}
