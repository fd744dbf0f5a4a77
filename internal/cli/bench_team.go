package cli

import (
	"bufio"
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/internal/cli/format"
	"github.com/navvy-run/navvy/output"
	"github.com/navvy-run/navvy/quantity"
	"github.com/navvy-run/navvy/server/auth"
)

// team is a server and perhaps a worker, in processes of their own, and this process
// as their administrator, over mTLS on loopback.
type team struct {
	b     *bench
	addr  string
	conn  *grpc.ClientConn
	c     *client.Client
	procs []*exec.Cmd // the server first
}

// newTeam starts a server, and a worker with so many slots unless that is 0.
func (b *bench) newTeam(ctx context.Context, slots int) (*team, error) {
	t := &team{b: b}
	server := t.command("server", "--data", filepath.Join(b.dir, "server"), "--listen", "127.0.0.1:0", "--http", "")
	out, err := server.StdoutPipe()
	if err == nil {
		err = t.start(server)
	}
	if err == nil {
		t.addr, err = addressIn(out)
	}
	if err == nil {
		err = t.connect(ctx)
	}
	if err == nil && slots > 0 {
		err = t.hire(ctx, slots)
	}
	if err != nil {
		return nil, errors.Join(err, t.close())
	}
	return t, nil
}

// command is one of our own, whose files all lie in the benchmark's directory.
func (t *team) command(args ...string) *exec.Cmd {
	cmd := exec.Command(t.b.self, args...)
	cmd.Env = append(outside(t.b.app.environ()), "HOME="+t.b.dir, "XDG_CONFIG_HOME=", "XDG_STATE_HOME=", "NAVVY_DATA=", "NAVVY_SERVER=", "NAVVY_CONTEXT=")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

func (t *team) start(cmd *exec.Cmd) error {
	if err := cmd.Start(); err != nil {
		return err
	}
	t.procs = append(t.procs, cmd)
	return nil
}

// addressIn reads the address from what a server prints at its start, and lets it print on.
func addressIn(out io.Reader) (string, error) {
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if _, addr, ok := strings.Cut(lines.Text(), "gRPC with certificates on "); ok {
			go func() { _, _ = io.Copy(io.Discard, out) }()
			return addr, nil
		}
	}
	return "", errors.Join(errors.New("the server does not start"), lines.Err())
}

func (t *team) connect(ctx context.Context) (err error) {
	if t.conn, err = t.dial(ctx); err != nil {
		return err
	}
	t.c = client.New(t.conn)
	return nil
}

// dial makes a connection more, as the administrator.
func (t *team) dial(ctx context.Context) (*grpc.ClientConn, error) {
	clients := filepath.Join(t.b.dir, "server", "clients")
	pair, err := auth.LoadPair(filepath.Join(clients, "admin.crt"), filepath.Join(clients, "admin.key"))
	if err != nil {
		return nil, err
	}
	pool, err := auth.LoadPool(filepath.Join(clients, "ca.crt"))
	if err != nil {
		return nil, err
	}
	conn, _, err := client.Dial(ctx, t.addr, auth.ClientTLS(auth.Fixed(pair), pool))
	return conn, err
}

// hire starts a worker and waits until it is there.
func (t *team) hire(ctx context.Context, slots int) error {
	token, _, err := t.c.CreateToken(ctx, time.Hour, 1)
	if err != nil {
		return err
	}
	worker := t.command("worker", "start", "--join", t.addr, "--data", filepath.Join(t.b.dir, "worker"), "-j", fmt.Sprint(slots))
	worker.Env = append(worker.Env, "NAVVY_TOKEN="+token)
	if err := t.start(worker); err != nil {
		return err
	}
	_, err = roundTrip(ctx, t.c)
	return err
}

// close ends the processes.
func (t *team) close() error {
	var errs []error
	if t.conn != nil {
		errs = append(errs, t.conn.Close())
	}
	for _, cmd := range slices.Backward(t.procs) {
		errs = append(errs, cmd.Process.Signal(syscall.SIGTERM), cmd.Wait())
	}
	return errors.Join(errs...)
}

// with runs fn with a team.
func (b *bench) with(ctx context.Context, slots int, fn func(*team) (*figure, error)) (*figure, error) {
	t, err := b.newTeam(ctx, slots)
	if err != nil {
		return nil, err
	}
	f, err := fn(t)
	return f, errors.Join(err, t.close())
}

func benchTeam(ctx context.Context, b *bench) (*figure, error) {
	n := b.n
	if n == 0 {
		n = 100_000
	}
	return b.with(ctx, noopParallelism, func(t *team) (*figure, error) {
		inputs := make([][]byte, n)
		for i := range inputs {
			inputs[i] = fmt.Appendf(nil, "%-100d", i)
		}
		started := time.Now()
		id, err := submitAll(ctx, t.c, noopJob(0), inputs)
		if err != nil {
			return nil, err
		}
		st, err := t.c.Wait(ctx, id)
		took := time.Since(started)
		if err == nil && st.Counts.Succeeded != int64(n) {
			err = fmt.Errorf("%d of %d tasks succeeded", st.Counts.Succeeded, n)
		}
		rate := float64(n) / took.Seconds()
		f := &figure{goal: "at least 100,000 tasks/s on 2 cores", ok: rate >= 100_000}
		f.add("tasks", float64(n), format.Count(int64(n)))
		f.add("tasks_per_second", rate, format.Rate(rate))
		return f, err
	})
}

func benchTeamLatency(ctx context.Context, b *bench) (*figure, error) {
	n := b.n
	if n == 0 {
		n = 500
	}
	return b.with(ctx, 2, func(t *team) (*figure, error) {
		return b.measureLatency(ctx, t.c, n, "p50 at most 3 fsyncs + 1 ms",
			func(sync time.Duration) time.Duration { return 3*sync + time.Millisecond })
	})
}

// benchTeamSubmit lets many submit a task each, wait for it, and submit again.
func benchTeamSubmit(ctx context.Context, b *bench) (*figure, error) {
	const submitters = 200
	n := b.n
	if n == 0 {
		n = 40_000
	}
	return b.with(ctx, noopParallelism, func(t *team) (*figure, error) {
		var left atomic.Int64
		left.Store(int64(n))
		started := time.Now()
		g, ctx := errgroup.WithContext(ctx)
		for range submitters {
			g.Go(func() error {
				for left.Add(-1) >= 0 {
					res, err := t.c.Run(ctx, noopJob(1), []byte("x"))
					if err != nil {
						return err
					}
					if res.State != navvy.Succeeded {
						return fmt.Errorf("task %s: %s", res.Task, res.Message)
					}
				}
				return nil
			})
		}
		err := g.Wait()
		rate := float64(n) / time.Since(started).Seconds()
		f := &figure{goal: "at least 20,000 tasks/s from 200 submitters", ok: rate >= 20_000}
		f.add("tasks", float64(n), format.Count(int64(n)))
		f.add("tasks_per_second", rate, format.Rate(rate))
		return f, err
	})
}

// benchTeamOutput streams what one task writes through worker and server to a client.
func benchTeamOutput(ctx context.Context, b *bench) (*figure, error) {
	size := int64(1 << 30)
	if b.n > 0 {
		size = int64(b.n) << 20
	}
	return b.with(ctx, 2, func(t *team) (*figure, error) {
		job := navvy.Job{Name: "bench", Detached: true, Spec: navvy.Spec{Command: &navvy.Command{
			Args: []string{"head", "-c", fmt.Sprint(size), "/dev/zero"}, Literal: true, Env: []string{"PATH=/usr/bin:/bin"},
		}}}
		started := time.Now()
		id, err := submitAll(ctx, t.c, job, [][]byte{nil})
		if err != nil {
			return nil, err
		}
		var got int64
		err = t.c.Output(ctx, navvy.TaskID{Job: id}, client.OutputOptions{Follow: true}, client.OutputSink{
			Write: func(_ output.Stream, p []byte) error {
				got += int64(len(p))
				return nil
			},
		})
		if err == nil && got != size {
			err = fmt.Errorf("%d of %d bytes came", got, size)
		}
		rate := float64(got) / time.Since(started).Seconds()
		f := &figure{goal: "at least 150 MB/s", ok: rate >= 150e6}
		f.add("bytes", float64(got), quantity.Size(got))
		f.add("bytes_per_second", rate, quantity.Size(int64(rate))+"/s")
		return f, err
	})
}

// idleTime is how long the server of many idle workers is watched.
const idleTime = 10 * time.Second

// benchTeamIdle connects many workers that do nothing, all from this process.
func benchTeamIdle(ctx context.Context, b *bench) (*figure, error) {
	n := b.n
	if n == 0 {
		n = 1000
	}
	return b.with(ctx, 0, func(t *team) (*figure, error) {
		ctx, cancel := context.WithCancel(ctx)
		var all sync.WaitGroup
		defer all.Wait()
		defer cancel()
		if err := t.hireIdle(ctx, n, &all); err != nil {
			return nil, err
		}
		pid := t.procs[0].Process.Pid
		before, err := cpuOf(pid)
		if err != nil {
			return nil, err
		}
		timer := time.NewTimer(idleTime)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-timer.C:
		}
		after, err := cpuOf(pid)
		if err != nil {
			return nil, err
		}
		resident, _, err := memoryOf(fmt.Sprint(pid))
		share := (after - before).Seconds() / idleTime.Seconds()
		f := &figure{goal: "at most 200 MB and 5 % of a core", ok: resident <= 200e6 && share < 0.05}
		f.add("workers", float64(n), format.Count(int64(n)))
		f.add("resident_bytes", float64(resident), quantity.Size(resident))
		f.add("core_share", share, fmt.Sprintf("%.1f %%", 100*share))
		return f, err
	})
}

// hireIdle connects workers, each with a certificate and a connection of its own,
// that say that they are there until ctx ends.
func (t *team) hireIdle(ctx context.Context, n int, all *sync.WaitGroup) error {
	key, err := auth.NewKey(auth.Ed25519)
	if err != nil {
		return err
	}
	for i := range n {
		issued, err := t.c.Issue(ctx, key, fmt.Sprint("idle-", i), auth.RoleWorker, time.Hour)
		if err != nil {
			return err
		}
		conn, err := t.dialAs(ctx, &issued, key)
		if err != nil {
			return err
		}
		session, err := client.NewWorkers(conn).Work(ctx, client.WorkerInfo{Kinds: []string{navvy.KindNoop}, Slots: 1, Returns: true})
		if err != nil {
			return errors.Join(err, conn.Close())
		}
		all.Go(func() {
			defer conn.Close()
			beat(ctx, session)
		})
	}
	return nil
}

// dialAs connects as whoever a certificate was issued to.
func (t *team) dialAs(ctx context.Context, issued *client.Issued, key crypto.Signer) (*grpc.ClientConn, error) {
	cert, err := issued.Parsed()
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(issued.CA)
	pair := &tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
	conn, _, err := client.Dial(ctx, t.addr, auth.ClientTLS(auth.Fixed(pair), pool))
	return conn, err
}

// beat says that a worker is there until ctx ends.
func beat(ctx context.Context, session *client.Session) {
	ticker := time.NewTicker(session.Idle)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if session.Alive(nil) != nil {
				return
			}
		}
	}
}

// cpuOf is the processor time that the threads of a process have used.
func cpuOf(pid int) (time.Duration, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	var sum time.Duration
	for _, file := range files {
		text, readErr := os.ReadFile(file)
		if readErr != nil {
			continue // a thread that has ended
		}
		var ns int64
		if _, err := fmt.Sscan(string(text), &ns); err != nil {
			return 0, fmt.Errorf("%s: %w", file, err)
		}
		sum += time.Duration(ns)
	}
	if sum == 0 && err == nil {
		err = fmt.Errorf("/proc/%d does not tell the time that its threads have used", pid)
	}
	return sum, err
}
