package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/internal/holder"
	"github.com/navvy-run/navvy/runner"
	"github.com/navvy-run/navvy/server/auth"
	"github.com/navvy-run/navvy/worker"
)

func newWorker(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "worker", Short: "run the tasks of a server on this machine, and see who does",
		Example: "  navvy worker start --join build1 --token-file token\n  navvy worker ls", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newWorkerStart(a), newWorkerLs(a), newWorkerShow(a), newWorkerDrain(a), newWorkerRm(a))
	return cmd
}

// workerFlags are the flags of worker start.
type workerFlags struct {
	logFlags
	join, tokenFile, name string
	jobs, drain           string
	label, resource       []string
	keyType, singleOwner  string
	shareDir              string
	answer                answerFlags

	drainTime time.Duration
	slots     int
	py        python
	engine    string // what containers run on
	shared    sharedDir
	labels    map[string]string
	resources map[string]int64
}

// workerStateDir is the name of a worker's data directory.
const workerStateDir = "navvy-worker"

func newWorkerStart(a *app) *cobra.Command {
	f := &workerFlags{}
	cmd := &cobra.Command{
		Use:   "start {--join ADDR --token-file FILE | --requests URL --responses URL --service FORM}",
		Short: "run the tasks of a server, or answer the requests on a broker's queue, until told to end",
		Long: `start --join makes this machine a worker of a server: it runs tasks of all users whom the
server lets in. Those of users are isolated, with user ids of their own where it was
started by root; one that cannot keep owners apart runs tasks of one at a time.

The first time it needs a token (navvy token create), in a file or in NAVVY_TOKEN,
which it exchanges for a certificate; the key is made here and stays here. After that
the certificate in its data directory is enough, and renews itself. One that was
issued for a worker is given with --cert, --key and --ca instead of a token.

It goes on when its server is away, comes back with what it runs, and reports what has
ended meanwhile, also after a restart of its own. SIGTERM lets what runs end, for as
long as --drain-timeout says; then, or with a second one, it is ended, to run again
elsewhere, but containers go on, and whoever has their tasks next takes them over.
Without --data the data directory is $XDG_STATE_HOME/navvy-worker, else
~/.local/state/navvy-worker: one for each worker of a machine. NAVVY_DATA, which is
where navvy on its own or a server keeps jobs, is not looked at.

` + answerHelp,
		Example: `  navvy worker start --join build1 --token-file token
  NAVVY_TOKEN=$(cat token) navvy worker start --join build1:7433 --name big -j 32
  navvy worker start --join build1 --cert w.crt --key w.key --ca ca.crt --data /var/lib/navvy-worker
  navvy worker start --requests redis://localhost:6379/in --responses redis://localhost:6379/out --service 'lines:./score'
  navvy worker start --requests-file in.url --responses-file out.url -j 10 --lease 60s --service 'grpc-cmd:python3 svc.py'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.answer.wanted(a, f.join) {
				if err := onlyWith(cmd, "--join", "token-file", "name", "label", "resource", "single-owner", "share-dir", "key-type", "processes", "python", "python-path", "engine"); err != nil {
					return err
				}
				return a.startAnswering(cmd.Context(), f)
			}
			if err := onlyWith(cmd, "--requests", append(f.answer.names(), "lease", "timeout", "attempts", "must-exist", "package", "claims", "claims-over")...); err != nil {
				return err
			}
			return a.startWorker(cmd.Context(), f)
		},
	}
	fs := cmd.Flags()
	f.logFlags.add(fs)
	a.python.add(fs)
	addEngine(fs, &a.engine, engineKubernetes)
	fs.StringVar(&f.join, "join", "", "the `ADDR` of the server to join, HOST or HOST:PORT")
	fs.StringVar(&f.tokenFile, "token-file", "", "the `FILE` that holds the token; - for standard input (default $NAVVY_TOKEN)")
	fs.StringVar(&f.name, "name", "", "what it would like to be called; the server adds a few characters (default the host's name)")
	fs.StringVarP(&f.jobs, "jobs", "j", "", "tasks at once: a number, or a share of the cores as 50% (default: the cores; 10 requests of a broker)")
	fs.StringArrayVar(&f.label, "label", nil, "what kind of worker it is, for jobs that ask for it: `NAME=VALUE`, such as gpu=a100; may be repeated")
	fs.StringArrayVar(&f.resource, "resource", nil, "what it has that can be counted: `NAME=N`, such as gpu=4; may be repeated")
	fs.StringVar(&f.singleOwner, "single-owner", "", "run tasks of this `NAME` alone; where tasks cannot be isolated they then run without, unless the job or the policy asks for it")
	fs.StringVar(&f.shareDir, "share-dir", "", "where this machine has the server's share itself: tasks are shown folders of --mount there, and get no copies")
	fs.StringVar(&f.drain, "drain-timeout", "1m", "how long what runs may take to end after SIGTERM")
	fs.StringVar(&f.keyType, "key-type", "ed25519", "the type of the key that is made: ed25519 or p256")
	f.answer.add(cmd)
	return cmd
}

// startWorker checks what the flags say, and works.
func (a *app) startWorker(ctx context.Context, f *workerFlags) error {
	log, err := f.logger(a)
	if err != nil {
		return err
	}
	if f.slots, err = parallelism(f.jobs); err != nil {
		return err
	}
	if f.drainTime, err = durationFlag("drain-timeout", f.drain); err != nil {
		return err
	}
	if f.singleOwner != "" {
		if err := auth.ValidateName(f.singleOwner); err != nil {
			return usagef("--single-owner: %w", err)
		}
	}
	if f.shared, err = openSharedDir(f.shareDir, f.singleOwner); err != nil {
		return err
	}
	if err := f.offers(); err != nil {
		return err
	}
	a.python.look, a.forOthers = true, true
	if f.py, err = a.pythonOptions(); err != nil {
		return err
	}
	if f.engine, err = a.containerEngine(); err != nil {
		return err
	}
	path, err := a.stateDir(workerStateDir)
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return err
	}
	a.data = "" // it says where the worker's data are, and no more that there is no server
	badge, err := a.badge(f, path)
	if err != nil {
		return err
	}
	dir, err := holder.OpenDir(path)
	if err != nil {
		return err
	}
	lock, err := takeLock(dir)
	if err != nil {
		return err
	}
	err = untilTold(ctx, func(soft, hard context.Context) error {
		w := &workerService{app: a, flags: f, dir: dir, badge: badge, log: log}
		return w.run(soft, hard)
	})
	return errors.Join(err, lock.Unlock())
}

// offers reads what the worker says of itself.
func (f *workerFlags) offers() error {
	f.labels, f.resources = map[string]string{}, map[string]int64{}
	for _, text := range f.label {
		name, value, ok := strings.Cut(text, "=")
		if _, twice := f.labels[name]; !ok || name == "" || twice {
			return usagef("--label %s: want NAME=VALUE, and each name once", text)
		}
		f.labels[name] = value
	}
	for _, text := range f.resource {
		name, value, ok := strings.Cut(text, "=")
		n, err := strconv.ParseInt(value, 10, 64)
		if _, twice := f.resources[name]; !ok || name == "" || twice || err != nil || n < 0 {
			return usagef("--resource %s: want NAME=N, a whole number, and each name once", text)
		}
		f.resources[name] = n
	}
	if err := navvy.ValidateLabels(f.labels); err != nil {
		return usagef("--label: %w", err)
	}
	if err := navvy.ValidateResources(f.resources); err != nil {
		return usagef("--resource: %w", err)
	}
	return nil
}

// workerService is a worker that runs.
type workerService struct {
	app   *app
	flags *workerFlags
	dir   *holder.Dir
	badge *badge
	log   *slog.Logger
}

func (s *workerService) run(soft, hard context.Context) error {
	if err := s.badge.obtain(soft, s.log); err != nil {
		return s.untold(soft, err)
	}
	conn, me, err := s.connect(soft)
	if err != nil {
		return s.untold(soft, err)
	}
	journal, err := s.dir.OpenJournal()
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	runners, err := newRunners(soft, s.dir, journal, &runnerOptions{
		python: s.flags.py, slots: s.flags.slots, env: s.app.env, engine: s.flags.engine, docker: s.app.dockerConfig(), version: s.app.version, reached: true,
	}, s.log)
	if err == nil {
		err = s.work(soft, hard, conn, me, runners)
	}
	for _, r := range runners {
		err = errors.Join(err, r.Close())
	}
	return errors.Join(err, journal.Close(), conn.Close())
}

// untold is no error if the worker was told to end before it had begun.
func (s *workerService) untold(soft context.Context, err error) error {
	if soft.Err() != nil {
		return nil
	}
	return err
}

// connect reaches the server, for as long as it takes.
func (s *workerService) connect(ctx context.Context) (*grpc.ClientConn, client.Me, error) {
	config, err := s.badge.identity()
	if err != nil {
		return nil, client.Me{}, err
	}
	pauses := awayPauses()
	for first := true; ; first = false {
		trying, cancel := context.WithTimeout(ctx, s.app.patience)
		conn, me, err := client.Dial(trying, s.badge.Server, config)
		cancel()
		if err == nil {
			return conn, me, s.badge.check(&me)
		}
		if errors.Is(err, navvy.ErrDenied) {
			err = withHint(err, "if its certificate is no good any more, remove %s and join again with a new token", s.badge.dir)
		}
		if !waitsFor(err, trying) || ctx.Err() != nil {
			return nil, me, err
		}
		if first {
			s.log.Warn("the server cannot be reached; trying again", "server", s.badge.Server, "error", err)
		}
		if err := pauses.Wait(ctx); err != nil {
			return nil, me, err
		}
	}
}

// waitsFor tells whether a try may go better the next time.
func waitsFor(err error, trying context.Context) bool {
	return errors.Is(err, navvy.ErrUnavailable) || errors.Is(trying.Err(), context.DeadlineExceeded)
}

// work works until it is told to end, or the server wants it no more.
func (s *workerService) work(soft, hard context.Context, conn *grpc.ClientConn, me client.Me, runners []*runner.Runner) error {
	w := worker.New(client.NewWorkers(conn), runners, &worker.Options{
		Name: me.Name, Slots: s.flags.slots, Labels: s.flags.labels, Resources: s.flags.resources, Dir: s.dir.WorkerDir(),
		TaskSocket: s.dir.TaskSocket(), SingleOwner: s.flags.singleOwner, Version: s.app.version, Logger: s.log,
		OpenCache: openCache, ShareFolder: s.flags.shared.finder(),
	})
	if err := s.app.notify(notifyReady); err != nil {
		s.log.Warn("systemd", "error", err)
	}
	s.log.Info("worker started", "worker", me.Name, "server", s.badge.Server, "slots", s.flags.slots)
	running, stop := context.WithCancel(context.WithoutCancel(soft))
	defer stop()
	renewing, renewed := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(renewed)
		s.badge.renew(soft, renewing, client.New(conn), s.log)
	}()
	leaving, left := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(left)
		s.leave(soft, hard, leaving, w, stop)
	}()
	err := w.Run(running)
	close(leaving)
	close(renewing)
	<-left
	<-renewed
	if soft.Err() != nil && errors.Is(err, context.Canceled) {
		err = nil // what has not ended in time runs again elsewhere
	}
	return err
}

// killTime is how long attempts have to end that were asked to, beyond their grace.
const killTime = 30 * time.Second

// leave drains the worker once it is told to end: what runs has its time to end,
// then it is asked to, then stop ends it.
func (s *workerService) leave(soft, hard context.Context, over <-chan struct{}, w *worker.Worker, stop func()) {
	select {
	case <-over:
		return
	case <-soft.Done():
	}
	s.log.Info("the worker is about to end", "drain_timeout", s.flags.drainTime)
	if err := s.app.notify(notifyStopping); err != nil {
		s.log.Warn("systemd", "error", err)
	}
	w.Drain()
	wait := func(d time.Duration) bool {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-over:
			return true
		case <-hard.Done():
		case <-timer.C:
		}
		return false
	}
	if wait(s.flags.drainTime) {
		return
	}
	w.Interrupt(hard.Err() != nil)
	hard = context.Background() // a further signal has nothing to hurry
	if !wait(killTime) {
		stop()
	}
}

// token reads the token, from the file or the environment; empty if there is none.
func (f *workerFlags) token(a *app) (string, error) {
	if f.tokenFile == "" {
		return a.env("NAVVY_TOKEN"), nil
	}
	var text []byte
	var err error
	if f.tokenFile == "-" {
		text, err = io.ReadAll(io.LimitReader(a.in, 4<<10))
	} else {
		text, err = os.ReadFile(f.tokenFile)
	}
	if err != nil {
		return "", &usageError{fmt.Errorf("--token-file: %w", err)}
	}
	return string(text), nil
}
