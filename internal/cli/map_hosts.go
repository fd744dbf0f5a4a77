package cli

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/cluster"
	"github.com/navvy-run/navvy/cluster/config"
)

// replaceHosts puts the hosts of a file into the place of those that a cluster has; an empty
// path for none.
func (a *app) replaceHosts(c *config.Cluster, path string) (err error) {
	if path == "" {
		return nil
	}
	if c.Provider != config.ProviderSSH {
		return usagef("--hosts goes with provider: ssh, and the file says %s", c.Provider)
	}
	if c.SSH == nil {
		c.SSH = &config.SSH{}
	}
	c.SSH.Hosts, err = a.readHosts(path)
	return err
}

// hostsRun is a run on hosts that have workers for it alone.
type hostsRun struct {
	app     *app
	cluster *config.Cluster
	made    int // workers
	quiet   bool

	ended  context.CancelCauseFunc            // ends all but the removal
	leaves atomic.Pointer[context.CancelFunc] // ends the removal, once that has begun
}

// mapOnHosts makes a cluster on hosts, runs map there, and removes the cluster.
func (a *app) mapOnHosts(ctx context.Context, f *mapFlags, args []string) (err error) {
	if err := f.checkHosts(a); err != nil {
		return err
	}
	hosts, err := a.readHosts(f.hosts)
	if err != nil {
		return err
	}
	name := make([]byte, 4)
	_, _ = rand.Read(name) // it never fails
	r := &hostsRun{app: a, quiet: f.quiet, cluster: config.Defaults(&config.Cluster{
		Version: config.Version, Name: "map-" + hex.EncodeToString(name), Provider: config.ProviderSSH,
		Queue: config.Queue{Kind: config.QueueNavvy}, Service: config.Service{Kind: config.ServiceEcho},
		Workers: config.Workers{Count: len(hosts)}, SSH: &config.SSH{Hosts: hosts},
	})}
	if err := config.Validate(r.cluster); err != nil {
		return fmt.Errorf("--hosts %s: %w", f.hosts, err)
	}
	d, err := a.openSSH("100%")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	c := cluster.New(d, r.options())
	ctx, r.ended = context.WithCancelCause(ctx)
	defer r.ended(nil)
	defer r.catchSignals()()
	defer func() { err = errors.Join(err, r.remove(ctx, c)) }()
	if err := r.apply(ctx, c); err != nil {
		return err
	}
	address, clients, err := d.Reach(r.cluster.Name)
	if err != nil {
		return err
	}
	me := filepath.Join(clients, userName(owner()))
	a.remote = remoteFlags{serverContext: serverContext{Server: address, Cert: me + ".crt", Key: me + ".key", CA: filepath.Join(clients, caFile)}}
	f.hosts = ""
	return r.run(ctx, f, args)
}

// options are how the cluster is made: as many hosts at once as apply has, however many there are.
func (r *hostsRun) options() *cluster.Options {
	return &cluster.Options{Who: whoami(r.app.env), Lose: true, Tell: r.tell}
}

// run runs the job. Whoever reads standard input for it does not see that ctx has ended, and
// is not waited for.
func (r *hostsRun) run(ctx context.Context, f *mapFlags, args []string) error {
	r.app.passing = true
	over := make(chan error, 1)
	go func() { over <- r.app.runMap(ctx, f, args) }()
	select {
	case err := <-over:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// catchSignals has no signal end this process, as long as there is something on hosts: what is
// begun is given up, and removed. An attachment sees to them by itself.
func (r *hostsRun) catchSignals() (stop func()) {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	done := make(chan struct{})
	go func() {
		for told := false; ; {
			select {
			case <-done:
				return
			case s := <-signals:
				leave := r.leaves.Load()
				switch {
				case leave != nil && told:
					(*leave)()
				case leave != nil:
					told = true
					r.app.tell("navvy: removing what the run has on its hosts; once more to leave it there\n")
				case !r.app.catching.Load():
					number, _ := s.(syscall.Signal)
					r.ended(&exitError{128 + int(number), errors.New("interrupted before anything ran")})
				}
			}
		}
	}()
	return func() {
		signal.Stop(signals)
		close(done)
	}
}

// onHosts tells whether there is something to do on hosts of this run's own.
func (f *mapFlags) onHosts(command []string) bool {
	return f.hosts != "" && !f.dryRun && (len(command) > 0 || f.noop || f.service != "" || f.fn != "" || f.container.image != "")
}

// checkHosts refuses what does not go with hosts of this run's own.
func (f *mapFlags) checkHosts(a *app) error {
	with := ""
	switch {
	case a.remote != remoteFlags{}:
		with = "--server, --context and certificates: the run has a server of its own"
	case a.localFlag() != "":
		with = a.localFlag() + ": the run has a directory of its own"
	case f.detach:
		with = "--detach: the run ends with this command"
	case f.broker.wanted(f.queue):
		with = "the queue of a broker: its workers are where they are"
	case f.ownQueue:
		with = "--queue: the run has queues of its own"
	case f.fn != "":
		with = "--fn: nobody has registered functions with the run's own server"
	case f.container.image != "":
		with = "--image: the hosts run commands"
	default:
		return nil
	}
	return usagef("map: --hosts does not go with %s", with)
}

// readHosts reads hosts, one a line; what is behind # is for people.
func (a *app) readHosts(path string) ([]string, error) {
	if path == "-" {
		return nil, usagef("--hosts -: standard input is for something else; give a file")
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, &usageError{fmt.Errorf("--hosts: %w", err)}
	}
	var hosts []string
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "#")
		if line = strings.TrimSpace(line); line != "" {
			hosts = append(hosts, line)
		}
	}
	if len(hosts) == 0 {
		return nil, usagef("--hosts %s: there is none in it; want [USER@]HOST[:PORT] a line", path)
	}
	return hosts, nil
}

// tell is told of changes, one at a time.
func (r *hostsRun) tell(e cluster.Event) {
	switch {
	case e.Phase == cluster.Failed:
		r.app.say("%s %s: %v", e.Change.Action, e.Change.ID, e.Err)
	case e.Phase == cluster.Done && e.Change.Kind == "worker" && e.Change.Action == cluster.Create:
		r.made++
	}
}

// apply makes the cluster. A host that does not answer is told, and not waited for, as long as
// there is another one.
func (r *hostsRun) apply(ctx context.Context, c *cluster.Controller) error {
	_, err := c.Apply(ctx, r.cluster)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if _, failed := errors.AsType[*cluster.FailedError](err); failed && r.made > 0 {
		r.app.say("%d of %d hosts have a worker, and the run goes on with these", r.made, len(r.cluster.SSH.Hosts))
		return nil
	}
	if err == nil && !r.quiet {
		r.app.say("%s have a worker each", count(int64(r.made), "host"))
	}
	return err
}

// removal is how long that may take.
const removal = 10 * time.Minute

// remove removes all that the run has had, whatever became of it. The second signal leaves it.
func (r *hostsRun) remove(ctx context.Context, c *cluster.Controller) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removal)
	defer cancel()
	r.leaves.Store(&cancel)
	if _, err := c.Destroy(ctx, r.cluster.Name); err != nil && !errors.Is(err, navvy.ErrNotFound) {
		return withHint(fmt.Errorf("what the run had on its hosts is not all removed: %w", err), "navvy cluster destroy %s --provider ssh removes the rest", r.cluster.Name)
	}
	return nil
}
