package local_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/cluster/config"
	"github.com/navvy-run/navvy/cluster/driver"
	"github.com/navvy-run/navvy/cluster/local"
	"github.com/navvy-run/navvy/cluster/unit"
	"github.com/navvy-run/navvy/internal/holder"
	"github.com/navvy-run/navvy/queue"
	queuedriver "github.com/navvy-run/navvy/queue/driver"
	"github.com/navvy-run/navvy/queue/natsqueue"
	"github.com/navvy-run/navvy/queue/rabbitqueue"
	"github.com/navvy-run/navvy/queue/redisqueue"
	"github.com/navvy-run/navvy/queue/servicebusqueue"
	"github.com/navvy-run/navvy/queue/storagequeue"
	"github.com/navvy-run/navvy/runner/service"
)

// patience is for slow machines; nothing takes as long.
const patience = 3 * time.Minute

// brokers are what the clusters of the tests may use, with a broker's connection string if it
// has one.
func brokers(connection string) map[string]queuedriver.Driver {
	return map[string]queuedriver.Driver{
		"amqp":         rabbitqueue.Driver,
		"azqueue":      storagequeue.Driver(&storagequeue.Options{ConnectionString: connection}),
		"azservicebus": servicebusqueue.Driver(&servicebusqueue.Options{ConnectionString: connection}),
		"nats":         natsqueue.Driver,
		"redis":        redisqueue.Driver,
	}
}

// open opens the provider over a directory of state, with a few secrets at hand.
func open(t testing.TB, state string, more ...string) *local.Driver {
	t.Helper()
	return local.New(options(state, more...))
}

func options(state string, more ...string) local.Options {
	return local.Options{
		State: state, Navvy: navvyBinary, Supervise: []string{navvyBinary, "cluster", "supervise"},
		Environ: append([]string{"PATH=/usr/bin:/bin", "HOME=" + state, "LEFT=out"}, more...),
		Dial: func(ctx context.Context, data string) (*grpc.ClientConn, error) {
			dir, err := holder.OpenDir(data)
			if err != nil {
				return nil, err
			}
			return dir.Dial(ctx)
		},
		CheckQueue: func(url, connection string) error { return queue.Check(url, brokers(connection)) },
		OpenQueue: func(ctx context.Context, url, connection string, mustExist bool) error {
			q, err := queue.Open(ctx, url, brokers(connection), &queue.Options{MustExist: mustExist})
			if err != nil {
				return err
			}
			return q.Close(ctx)
		},
		CheckService: service.Check,
	}
}

// world is a directory of state, with clusters in it.
type world struct {
	t     *testing.T
	state string
	*local.Driver
}

func newWorld(t *testing.T, more ...string) *world {
	t.Helper()
	w := &world{t: t, state: t.TempDir()}
	w.Driver = open(t, w.state, more...)
	t.Cleanup(func() {
		for _, name := range names(t, w.Driver) {
			w.destroy(name)
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
		w.nothing()
	})
	return w
}

func names(t *testing.T, d *local.Driver) []string {
	t.Helper()
	list, err := d.Clusters(context.Background())
	if err != nil {
		t.Error(err)
	}
	return list
}

// nothing checks that no process and no file is left.
func (w *world) nothing() {
	w.t.Helper()
	w.eventually("nothing is left", func() bool { return len(w.left()) == 0 })
}

// left lists processes and files of clusters.
func (w *world) left() (list []string) { return left(w.state) }

func left(state string) (list []string) {
	for _, pid := range processes(state) {
		list = append(list, "process "+strconv.Itoa(pid))
	}
	base := filepath.Join(state, "navvy-clusters")
	_ = filepath.Walk(base, func(path string, _ os.FileInfo, err error) error {
		if err == nil && path != base {
			list = append(list, path)
		}
		return nil
	})
	return list
}

// processes lists those that live and have a text in their arguments.
func processes(text string) (list []int) {
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range all {
		line, err := os.ReadFile(path)
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err == nil && strings.Contains(string(line), text) && pid != os.Getpid() {
			list = append(list, pid)
		}
	}
	return list
}

// eventually waits until what is asked for is so.
func (w *world) eventually(what string, so func() bool) {
	w.t.Helper()
	for end := time.Now().Add(patience); !so(); time.Sleep(20 * time.Millisecond) { //nolint:forbidigo // other processes are waited for
		if time.Now().After(end) {
			w.t.Fatalf("it never is so: %s; there is %q", what, w.left())
		}
	}
}

func (w *world) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	w.t.Cleanup(cancel)
	return ctx
}

// salt is every cluster's here.
var salt = []byte("0123456789abcdef")

// apply puts all of a cluster, in its order, workers at once.
func (w *world) apply(c *config.Cluster) []driver.Resource {
	w.t.Helper()
	list, err := w.Compile(w.ctx(), c, salt)
	if err != nil {
		w.t.Fatal(err)
	}
	w.put(c.Name, list)
	return list
}

func (w *world) put(cluster string, list []driver.Resource) {
	w.t.Helper()
	var all sync.WaitGroup
	for i := range list {
		put := func() {
			if err := w.Put(w.ctx(), cluster, &list[i]); err != nil {
				w.t.Error(err)
			}
		}
		if list[i].Kind == "worker" {
			all.Go(put)
		} else {
			put()
		}
	}
	all.Wait()
}

// observed is how a resource is; nil if it is not there.
func (w *world) observed(cluster, kind, name string) *driver.Observed {
	w.t.Helper()
	world, err := w.Observe(w.ctx(), cluster)
	if err != nil {
		w.t.Fatal(err)
	}
	for i := range world.Resources {
		if world.Resources[i].ID == (driver.ID{Kind: kind, Name: name}) {
			return &world.Resources[i]
		}
	}
	return nil
}

// well waits until all of a cluster is what it should be, and works.
func (w *world) well(c *config.Cluster) {
	w.t.Helper()
	var why string
	defer func() {
		if w.t.Failed() {
			w.t.Log(why)
		}
	}()
	w.eventually("all is well", func() bool {
		why = w.differs(c)
		return why == ""
	})
}

// differs tells how a cluster is not what it should be; empty if it is.
func (w *world) differs(c *config.Cluster) string {
	w.t.Helper()
	list, err := w.Compile(w.ctx(), c, salt)
	if err != nil {
		w.t.Fatal(err)
	}
	world, err := w.Observe(w.ctx(), c.Name)
	if err != nil {
		w.t.Fatal(err)
	}
	there := map[driver.ID]driver.Observed{}
	for _, o := range world.Resources {
		there[o.ID] = o
	}
	for _, r := range list {
		o, ok := there[r.ID]
		delete(there, r.ID)
		if !ok {
			return r.ID.String() + " is not there"
		}
		for key, want := range r.Properties {
			if is := o.Properties[key]; is != want {
				return fmt.Sprintf("%s: %s is %q, and is to be %q", r.ID, key, is, want)
			}
		}
		if o.Health != driver.HealthOK {
			return fmt.Sprintf("%s is %s: %s", r.ID, o.Health, o.Detail)
		}
	}
	for id := range there {
		return id.String() + " is too much"
	}
	return ""
}

// destroy removes all of a cluster, what needs others before these.
func (w *world) destroy(cluster string) {
	w.t.Helper()
	world, err := w.Observe(w.ctx(), cluster)
	if err != nil {
		w.t.Error(err)
		return
	}
	order := map[string]int{"worker": 0, "queue": 1, "files": 2, "monitor": 3, "server": 4, driver.KindCluster: 5}
	for step := range len(order) {
		var all sync.WaitGroup
		for i := range world.Resources {
			if o := &world.Resources[i]; order[o.Kind] == step {
				all.Go(func() {
					if err := w.Remove(w.ctx(), cluster, o); err != nil {
						w.t.Errorf("remove: %v", err)
					}
				})
			}
		}
		all.Wait()
	}
	lock, err := w.Lock(w.ctx(), cluster, driver.Holder{Who: "the last"}) // it goes when it is released
	if err == nil {
		err = lock.Release(w.ctx())
	}
	if err != nil {
		w.t.Error(err)
	}
}

// client calls fn with a client of the cluster's server.
func (w *world) client(cluster string, fn func(c *client.Client) error) {
	w.t.Helper()
	withClient(w.t, filepath.Join(w.state, "navvy-clusters", cluster, "server"), fn)
}

// withClient calls fn with a client of the server of a data directory.
func withClient(t testing.TB, data string, fn func(c *client.Client) error) {
	t.Helper()
	dir, err := holder.OpenDir(data)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := dir.Dial(t.Context())
	if err == nil {
		err = errors.Join(fn(client.New(conn)), conn.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// answers sends requests to a queue of the cluster's server, and gives what comes back.
func (w *world) answers(cluster, name string, requests ...string) (got []string) {
	w.t.Helper()
	w.client(cluster, func(c *client.Client) error {
		var list []client.OutMessage
		for _, text := range requests {
			list = append(list, client.OutMessage{Body: []byte(text)})
		}
		q := c.Messages(name)
		if _, err := q.Send(w.ctx(), list, client.SendOptions{}); err != nil {
			return err
		}
		for len(got) < len(requests) {
			more, err := q.Receive(w.ctx(), client.ReceiveOptions{Max: len(requests), Wait: 5 * time.Second})
			if err != nil {
				return err
			}
			for i := range more {
				got = append(got, string(more[i].Body))
				if err := q.Ack(w.ctx(), more[i].Receipt); err != nil {
					return err
				}
			}
		}
		return nil
	})
	return got
}

// state is how a unit of a cluster is.
func (w *world) unit(cluster, name string) unit.State {
	w.t.Helper()
	m, err := unit.OpenSupervised(filepath.Join(w.state, "navvy-clusters", cluster, "units"), []string{"/bin/false"}, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	list, err := m.List(w.ctx())
	if err != nil {
		w.t.Fatal(err)
	}
	for _, s := range list {
		if s.Name == name {
			return s
		}
	}
	return unit.State{}
}

func (w *world) kill(pid int, s syscall.Signal) {
	w.t.Helper()
	if err := syscall.Kill(pid, s); err != nil {
		w.t.Fatal(err)
	}
}

// echoes is a small cluster.
func echoes(name string, workers int) *config.Cluster {
	return config.Defaults(&config.Cluster{
		Version: 1, Name: name, Provider: config.ProviderLocal,
		Queue:   config.Queue{Kind: config.QueueNavvy, Request: "requests"},
		Service: config.Service{Kind: config.ServiceEcho},
		Workers: config.Workers{Count: workers, Concurrency: 2},
		Local:   &config.Local{Supervisor: "navvy"},
	})
}

var _ = navvy.ErrExists
