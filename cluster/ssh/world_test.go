package ssh_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/cluster"
	"github.com/navvy-run/navvy/cluster/config"
	"github.com/navvy-run/navvy/cluster/driver"
	"github.com/navvy-run/navvy/cluster/local"
	"github.com/navvy-run/navvy/cluster/ssh"
	"github.com/navvy-run/navvy/cluster/ssh/sshdtest"
	"github.com/navvy-run/navvy/internal/holder"
	"github.com/navvy-run/navvy/queue"
	queuedriver "github.com/navvy-run/navvy/queue/driver"
	"github.com/navvy-run/navvy/queue/natsqueue"
	"github.com/navvy-run/navvy/runner/service"
)

// patience is for slow machines; nothing takes as long.
const patience = 4 * time.Minute

// world is a directory of state, and hosts.
type world struct {
	t     testing.TB
	state string
	net   *sshdtest.Net
	// program is what is copied to hosts; empty for navvy.
	program string
	agent   string // empty for none
}

func newWorld(t testing.TB, hosts int) *world {
	t.Helper()
	return &world{t: t, state: t.TempDir(), net: sshdtest.Start(t, hosts)}
}

// open opens the provider, as another process would.
func (w *world) open() *ssh.Driver {
	brokers := map[string]queuedriver.Driver{"nats": natsqueue.Driver}
	return ssh.New(ssh.Options{
		User: w.net.User, Home: w.state, Agent: w.agent, Program: w.program, Tunnel: []string{navvyBinary, "cluster", "tunnel"},
		Local: local.Options{
			State: w.state, Navvy: navvyBinary, Supervise: []string{navvyBinary, "cluster", "supervise"},
			Environ: []string{"PATH=/usr/bin:/bin", "HOME=" + w.state},
			Dial: func(ctx context.Context, data string) (*grpc.ClientConn, error) {
				dir, err := holder.OpenDir(data)
				if err != nil {
					return nil, err
				}
				return dir.Dial(ctx)
			},
			CheckQueue: func(url, _ string) error { return queue.Check(url, brokers) },
			OpenQueue: func(ctx context.Context, url, _ string, mustExist bool) error {
				q, err := queue.Open(ctx, url, brokers, &queue.Options{MustExist: mustExist})
				if err != nil {
					return err
				}
				return q.Close(ctx)
			},
			CheckService: service.Check,
		},
	})
}

// cluster describes a small one on all hosts.
func (w *world) cluster(name string, workers int) *config.Cluster {
	return config.Defaults(&config.Cluster{
		Version: 1, Name: name, Provider: config.ProviderSSH,
		Queue:   config.Queue{Kind: config.QueueNavvy, Request: "requests"},
		Service: config.Service{Kind: config.ServiceEcho},
		Workers: config.Workers{Count: workers, Concurrency: 2},
		SSH:     &config.SSH{Hosts: w.net.Names(), Identity: w.net.Identity, KnownHosts: w.net.KnownHosts},
	})
}

// with calls fn with a controller of its own, which is closed after it.
func (w *world) with(fn func(c *cluster.Controller) error) error {
	d := w.open()
	return errors.Join(fn(cluster.New(d, &cluster.Options{Who: "test", Lose: true, Wait: patience})), d.Close())
}

func (w *world) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	w.t.Cleanup(cancel)
	return ctx
}

// apply applies a cluster, which goes when the test ends.
func (w *world) apply(c *config.Cluster) error {
	w.t.Helper()
	return w.with(func(k *cluster.Controller) error { _, err := k.Apply(w.ctx(), c); return err })
}

// up applies a cluster, which goes when the test ends.
func (w *world) up(c *config.Cluster) {
	w.t.Helper()
	w.t.Cleanup(func() { w.destroy(c.Name) })
	if err := w.apply(c); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) destroy(name string) {
	w.t.Helper()
	if err := w.with(func(k *cluster.Controller) error { _, err := k.Destroy(w.ctx(), name); return err }); err != nil {
		w.t.Errorf("it is not removed: %v", err)
	}
	if left := w.left(name); len(left) > 0 {
		w.t.Errorf("there is left %q", left)
	}
}

// well waits until there is nothing to do, and all is healthy.
func (w *world) well(c *config.Cluster) {
	w.t.Helper()
	why := ""
	for end := time.Now().Add(patience); ; <-time.After(50 * time.Millisecond) {
		err := w.with(func(k *cluster.Controller) error {
			p, err := k.Plan(w.ctx(), c)
			if err != nil || !p.Empty() {
				why = describe(p)
				return errors.Join(err, errNotWell)
			}
			s, err := k.Status(w.ctx(), c.Name)
			if err == nil && s.Health() != driver.HealthOK {
				why, err = "starting", errNotWell
			}
			return err
		})
		if err == nil {
			return
		}
		if time.Now().After(end) {
			w.t.Fatalf("it does not get well: %v %s", err, why)
		}
	}
}

var errNotWell = errors.New("it is not well")

func describe(p *cluster.Plan) string {
	var b strings.Builder
	for i := range p.Changes {
		c := &p.Changes[i]
		b.WriteString(string(c.Action) + " " + c.ID.String() + " " + c.Why + "; ")
	}
	return b.String()
}

// observed is how resources are, by kind and name.
func (w *world) observed(name string) map[string]driver.Observed {
	w.t.Helper()
	d := w.open()
	defer d.Close() //nolint:errcheck // it was looked at
	seen, err := d.Observe(w.ctx(), name)
	if err != nil {
		w.t.Fatal(err)
	}
	all := map[string]driver.Observed{}
	for i := range seen.Resources {
		all[seen.Resources[i].ID.String()] = seen.Resources[i]
	}
	return all
}

// clusterDir is where a cluster is on this machine, hostDir on a host.
func (w *world) clusterDir(name string) string { return filepath.Join(w.state, "navvy-ssh", name) }

func hostDir(h *sshdtest.Host, name string) string {
	return filepath.Join(h.Home, ".local/state/navvy-hosted", name, strings.ReplaceAll(h.Name(), ":", "_"))
}

// left lists what there is of a cluster: files here and on the hosts, and processes.
func (w *world) left(name string) (list []string) {
	roots := []string{w.clusterDir(name), filepath.Join(w.state, "navvy-ssh", "."+name+".lock")}
	for _, h := range w.net.Hosts {
		roots = append(roots, filepath.Dir(hostDir(h, name)))
	}
	for _, root := range roots {
		if _, err := os.Lstat(root); err == nil {
			list = append(list, root)
		}
		list = append(list, commands(root+"/")...)
	}
	return list
}

// commands lists what runs with a text in its arguments.
func commands(text string) (list []string) {
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range all {
		line, err := os.ReadFile(path)
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err == nil && strings.Contains(string(line), text) && pid != os.Getpid() {
			list = append(list, strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return list
}

// send sends requests to the cluster's queue.
func (w *world) send(cluster string, requests ...string) client.Messages {
	w.t.Helper()
	q := client.New(w.conn(cluster)).Messages("requests")
	var list []client.OutMessage
	for _, text := range requests {
		list = append(list, client.OutMessage{Body: []byte(text)})
	}
	if _, err := q.Send(w.ctx(), list, client.SendOptions{}); err != nil {
		w.t.Fatal(err)
	}
	return q
}

// conn is a connection to the server of a cluster.
func (w *world) conn(cluster string) *grpc.ClientConn {
	w.t.Helper()
	dir, err := holder.OpenDir(filepath.Join(w.clusterDir(cluster), "server"))
	if err != nil {
		w.t.Fatal(err)
	}
	conn, err := dir.Dial(w.ctx())
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = conn.Close() }) // all was said
	return conn
}

// answers sends requests to the cluster's queue, and gives what comes back.
func (w *world) answers(cluster string, requests ...string) (got []string) {
	w.t.Helper()
	q := w.send(cluster, requests...)
	for len(got) < len(requests) {
		more, err := q.Receive(w.ctx(), client.ReceiveOptions{Max: len(requests), Wait: 5 * time.Second})
		if err != nil {
			w.t.Fatal(err)
		}
		for i := range more {
			got = append(got, string(more[i].Body))
			if err := q.Ack(w.ctx(), more[i].Receipt); err != nil {
				w.t.Fatal(err)
			}
		}
	}
	return got
}
