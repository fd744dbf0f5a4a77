package fleet

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/engine"
	"github.com/navvy-run/navvy/engine/memory"
	"github.com/navvy-run/navvy/manager"
	"github.com/navvy-run/navvy/output"
	"github.com/navvy-run/navvy/policy"
	"github.com/navvy-run/navvy/runner"
	"github.com/navvy-run/navvy/runner/function"
	"github.com/navvy-run/navvy/runner/process"
	"github.com/navvy-run/navvy/server"
	"github.com/navvy-run/navvy/server/auth"
	"github.com/navvy-run/navvy/test/lifetest"
	"github.com/navvy-run/navvy/worker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// lease is short, and long enough for a loaded machine.
const lease = 2 * time.Second

// site is a place with one server, which may die and come back, and workers.
type site struct {
	*testing.T
	store *memory.Store
	ca    *auth.Authority
	wire  *lifetest.Wire // which clients and workers are connected by
	log   *slog.Logger
	opts  manager.Options

	mgr  *manager.Manager
	srv  *server.Server
	eng  *engine.Engine
	kill func()
}

func newSite(t *testing.T, opts manager.Options) *site {
	t.Helper()
	s := &site{T: t, store: memory.New(), log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})), opts: opts}
	s.opts.Lease, s.opts.Logger = lease, s.log
	s.wire = lifetest.NewWire(t)
	var err error
	s.ca, _, err = auth.OpenAuthority(t.TempDir(), nil)
	s.must(err)
	s.start()
	t.Cleanup(func() { s.kill() })
	return s
}

func (s *site) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// start brings the server up, on what an earlier one has kept.
func (s *site) start() {
	s.Helper()
	eng, err := engine.Open(s.Context(), s.store, &engine.Options{Logger: s.log})
	s.must(err)
	s.opts.Awaited, err = server.Roster(s.Context(), eng)
	s.must(err)
	mgr := manager.New(eng, &s.opts)
	gate := auth.NewGate(nil)
	pair := s.issue(auth.Subject{Name: "server", Server: true, Hosts: []string{"127.0.0.1"}})
	g := grpc.NewServer(server.GRPCOptions(gate, auth.ServerTLS(auth.Fixed(pair), s.ca.Pool(), nil))...)
	rules, err := policy.Parse("policy.yaml", []byte("roles: {user: {isolate: off}}")) // these workers isolate nothing
	s.must(err)
	s.srv = server.New(mgr, eng, &server.Options{Logger: s.log, Gate: gate, Authority: s.ca, Policy: rules})
	s.srv.Register(g)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	s.must(err)
	s.wire.Lead(l.Addr().String())
	ctx, cancel := context.WithCancelCause(context.Background())
	var all sync.WaitGroup
	all.Go(func() {
		if err := g.Serve(l); err != nil {
			s.Errorf("serve: %v", err)
		}
	})
	all.Go(func() {
		if err := mgr.Run(ctx); ctx.Err() == nil {
			s.Errorf("the manager ended: %v", err)
		}
	})
	s.mgr, s.eng = mgr, eng
	s.kill = sync.OnceFunc(func() {
		cancel(errors.New("killed")) // nothing is settled any more
		mgr.Leave(navvy.ErrUnavailable)
		g.Stop()
		all.Wait()
	})
}

// issue makes a certificate.
func (s *site) issue(subject auth.Subject) *tls.Certificate {
	s.Helper()
	key, err := auth.NewKey(auth.Ed25519)
	s.must(err)
	cert, err := s.ca.Issue(key.Public(), subject, 0)
	s.must(err)
	if s.srv != nil {
		s.must(s.srv.RecordCertificate(s.Context(), cert))
	}
	return &tls.Certificate{Certificate: [][]byte{cert.Raw, s.ca.Certificate().Raw}, PrivateKey: key}
}

// connect makes a connection of somebody.
func (s *site) connect(addr, name string, role auth.Role) *grpc.ClientConn {
	s.Helper()
	return s.connectSkewed(addr, name, role, time.Now)
}

// connectSkewed is connect for a machine with another clock.
func (s *site) connectSkewed(addr, name string, role auth.Role, clock func() time.Time) *grpc.ClientConn {
	s.Helper()
	config := auth.ClientTLS(auth.Fixed(s.issue(auth.Subject{Name: name, Role: role})), s.ca.Pool())
	config.Time = clock
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(credentials.NewTLS(config)), client.Reconnect())
	s.must(err)
	return conn
}

// dial connects over the wire.
func (s *site) dial() *grpc.ClientConn {
	s.Helper()
	conn := s.connect(s.wire.Addr, "ann", auth.RoleUser)
	s.Cleanup(func() { _ = conn.Close() })
	return conn
}

// direct connects past the wire.
func (s *site) direct() *grpc.ClientConn {
	s.Helper()
	conn := s.connect(s.wire.Past(), "ann", auth.RoleUser)
	s.Cleanup(func() { _ = conn.Close() })
	return conn
}

// crew is a worker of a site.
type crew struct {
	*worker.Worker
	dir   string
	stop  func() error // ends it and what it runs, as a kill would, and gives what it returned
	ended func() error // waits until it has ended by itself
}

// hire starts a worker in a directory, which an earlier one may have used.
func (s *site) hire(name, dir string, slots int) *crew {
	s.Helper()
	return s.hireAt(s.wire.Addr, name, dir, slots)
}

func (s *site) hireAt(addr, name, dir string, slots int) *crew {
	s.Helper()
	return s.hireWith(addr, &worker.Options{Name: name, Slots: slots, Dir: dir})
}

func (s *site) hireWith(addr string, opts *worker.Options) *crew {
	s.Helper()
	return s.hireSkewed(addr, opts, 0)
}

// hireSkewed hires a worker on a machine whose clock is ahead, or behind.
func (s *site) hireSkewed(addr string, opts *worker.Options, ahead time.Duration) *crew {
	s.Helper()
	opts.Logger = s.log.With("worker", opts.Name)
	clock := func() time.Time { return time.Now().Add(ahead) }
	processes := process.NewDriver(&process.Options{Work: s.TempDir(), Logger: s.log})
	r := runner.New(processes, &runner.Options{Logger: s.log, Clock: clock})
	f := runner.New(function.New(&function.Options{Python: python, Processes: processes, Hosts: 4, Logger: s.log}), &runner.Options{Logger: s.log, Clock: clock})
	conn := s.connectSkewed(addr, opts.Name, auth.RoleWorker, clock)
	c := &crew{dir: opts.Dir, Worker: worker.New(client.NewWorkers(conn), []*runner.Runner{r, f}, opts)}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- errors.Join(c.Run(ctx), f.Close(), r.Close(), conn.Close()) }()
	c.ended = sync.OnceValue(func() error { return <-ended })
	c.stop = func() error {
		cancel()
		return c.ended()
	}
	s.Cleanup(func() { _ = c.stop() })
	return c
}

// script is a job of a shell script, which finds its input in $1.
func script(text string) navvy.Job {
	return navvy.Job{Detached: true, Spec: navvy.Spec{
		Grace: time.Millisecond,
		Command: &navvy.Command{
			Args: []string{"/bin/sh", "-c", text, "sh"}, Literal: true, Dir: "/", Env: []string{"PATH=/usr/bin:/bin"},
		},
	}}
}

// submit hands a job in.
func (s *site) submit(c *client.Client, job navvy.Job, inputs int) navvy.JobID {
	s.Helper()
	sub, err := c.Submit(s.Context(), job, client.SubmitOptions{})
	s.must(err)
	defer sub.Close()
	s.must(sub.Send(make([][]byte, inputs)))
	s.must(sub.Seal())
	id, _, err := sub.Accepted(s.Context())
	s.must(err)
	return id
}

// await waits for a status.
func (s *site) await(c *client.Client, id navvy.JobID, what string, ok func(*navvy.Status) bool) {
	s.Helper()
	for st, err := range c.Watch(s.Context(), id, true) {
		s.must(err)
		if ok(&st) {
			return
		}
	}
	s.Fatalf("never %s", what)
}

// answers gives the results of a job that ends, and what each wrote to standard output.
func (s *site) answers(c *client.Client, id navvy.JobID) (results []navvy.Result, texts []string) {
	s.Helper()
	for a, err := range c.Results(s.Context(), id, client.ResultsOptions{Follow: true}) {
		s.must(err)
		results = append(results, a.Result)
		var text strings.Builder
		s.must(c.Output(s.Context(), a.Task, client.OutputOptions{}, client.OutputSink{Write: func(_ output.Stream, p []byte) error {
			text.Write(p)
			return nil
		}}))
		texts = append(texts, text.String())
	}
	return results, texts
}

// lines are those of a file that a task may be writing.
func lines(t *testing.T, path string) []string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(b)), "\n")
}

// eventually waits for what processes do.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	timeout := time.After(20 * time.Second)
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for !ok() {
		select {
		case <-ticker.C:
		case <-timeout:
			t.Fatalf("never: %s", what)
		}
	}
}

func awaitFile(t *testing.T, path string) {
	t.Helper()
	eventually(t, path, func() bool {
		info, err := os.Stat(path)
		return err == nil && info.Size() > 0
	})
}

func awaitFileSize(t *testing.T, path string, size int64) {
	t.Helper()
	eventually(t, path+" has its size", func() bool {
		info, err := os.Stat(path)
		return err == nil && info.Size() == size
	})
}

func awaitLines(t *testing.T, path string, n int) {
	t.Helper()
	eventually(t, path+" has its lines", func() bool {
		b, _ := os.ReadFile(path)
		return strings.Count(string(b), "\n") == n
	})
}

func awaitDeath(t *testing.T, pid string) {
	t.Helper()
	eventually(t, "process "+pid+" ends", func() bool {
		_, err := os.Stat("/proc/" + pid)
		return err != nil
	})
}

// entries are the names in a directory.
func entries(t *testing.T, dir string) []string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

// gate is a file for which tasks wait.
func gate(t *testing.T) (path string, open func()) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "gate")
	return path, func() {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Error(err)
		}
	}
}
