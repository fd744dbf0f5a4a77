package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"

	"github.com/navvy-run/navvy"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/engine"
	"github.com/navvy-run/navvy/engine/driver"
	"github.com/navvy-run/navvy/internal/holder"
	"github.com/navvy-run/navvy/runner"
	"github.com/navvy-run/navvy/share"
)

// need is what a verb needs of the other end.
type need int

const (
	needLook   need = iota // to read; no task runs because of it
	needSteer              // the same, and nothing runs that a dead navvy has left
	needRun                // that tasks run, if need be in this process
	needBehind             // that tasks run, if need be in a background process
)

// conn is a connection to the API, in this process or another.
type conn struct {
	*client.Client
	app    *app
	need   need
	holder *holder.Holder   // if this process holds the directory
	remote *grpc.ClientConn // otherwise
	server string           // its address, if it is not the holder of the directory
	me     string           // who we are to it; empty for the holder of the directory
}

// whoever is the name that our jobs bear there.
func (c *conn) whoever() string { return cmp.Or(c.me, owner()) }

// handover is how long somebody else may take to begin serving, or to leave.
const handover = 10 * time.Second

// connect reaches the server, if one is named, else the holder of the data
// directory, or becomes it.
func (a *app) connect(ctx context.Context, n need) (*conn, error) {
	t, err := a.target()
	if err != nil {
		return nil, err
	}
	if t != nil {
		return a.connectServer(ctx, t, n)
	}
	return a.connectData(ctx, n)
}

// connectData reaches the holder of the data directory, or becomes it.
func (a *app) connectData(ctx context.Context, n need) (*conn, error) {
	if n == needLook || n == needSteer {
		if err := errors.Join(a.expectData(), a.lookFromTask()); err != nil {
			return nil, err
		}
	}
	dir, err := a.dir()
	if err != nil {
		return nil, err
	}
	cfg, err := a.holderConfig(dir, a.logger())          // wrong settings are an error also when somebody else is the holder
	if err == nil && (n == needRun || n == needBehind) { // who accepts no jobs can be used without a policy
		cfg.Policy, err = a.loadPolicy(dir)
	}
	if err != nil {
		return nil, err
	}
	until := time.Now().Add(a.patience)
	for wait := time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		c, pid, err := a.tryConnect(ctx, cfg, n, until)
		if c != nil || err != nil {
			return c, err
		}
		if time.Now().After(until) {
			return nil, a.silent(dir, pid)
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(wait):
		}
	}
}

// silent says that a process has the lock and does not answer; 0 is one that has not
// written its id.
func (a *app) silent(dir *holder.Dir, pid int) error {
	err := fmt.Errorf("the data directory %s is held by %s, which does not answer: %w", dir.Path(), processName(pid), navvy.ErrUnavailable)
	if pid == 0 {
		return withHint(err, "see which one with fuser -v %s, or lsof; or give another directory with --data", dir.LockPath())
	}
	return withHint(err, "see what it is doing with ps %d, or give another directory with --data", pid)
}

func processName(pid int) string {
	if pid == 0 {
		return "another process"
	}
	return fmt.Sprintf("process %d", pid)
}

// overview asks the holder about itself. Without an answer or an error it has gone,
// which whoever calls it next finds out.
func (c *conn) overview(ctx context.Context) (*navvyv1.OverviewResponse, error) {
	m, err := c.Overview(ctx)
	if err == nil {
		return m, nil
	}
	if c.lost(err) {
		return nil, nil //nolint:nilnil // see above
	}
	return nil, err
}

// checkStore refuses a holder with another store than the one that was asked for.
func (c *conn) checkStore(ctx context.Context, dir *holder.Dir) error {
	at, err := c.app.storeURL()
	if err != nil || at == "" {
		return err
	}
	asked, err := storePlace(at)
	if err != nil {
		return err
	}
	m, err := c.overview(ctx)
	if m == nil {
		return err
	}
	if held := m.GetStore(); held != asked {
		return withHint(fmt.Errorf("process %d holds %s with the store %s, not with %s: %w", m.GetPid(), dir.Path(), held, asked, navvy.ErrConflict),
			"wait until it has ended, or give another directory with --data")
	}
	return nil
}

// tryConnect is one try: nil without an error if somebody has the lock and does not serve, now.
func (a *app) tryConnect(ctx context.Context, cfg holder.Config, n need, until time.Time) (*conn, int, error) {
	dir := cfg.Dir
	dialing, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	if remote, err := dir.Dial(dialing); err == nil {
		c := &conn{Client: client.New(remote), app: a, need: n, remote: remote}
		err := c.checkStore(ctx, dir)
		if err == nil && (n == needRun || n == needBehind) {
			err = c.checkPolicy(ctx, dir, until)
		}
		if errors.Is(err, errOtherPolicy) {
			return nil, 0, remote.Close()
		}
		if err != nil {
			return nil, 0, errors.Join(err, remote.Close())
		}
		return c, 0, nil
	}
	lock, pid, err := dir.TryLock()
	if err != nil || lock == nil {
		return nil, pid, err
	}
	if n == needBehind {
		// The background process takes the lock itself.
		if err := errors.Join(lock.Unlock(), a.startBehind(ctx, dir)); err != nil {
			return nil, 0, err
		}
		return nil, 0, nil
	}
	switch n {
	case needLook:
		cfg.Runners = nil
	case needSteer:
		cfg.RecoverOnly = true
	case needRun, needBehind:
	}
	h, err := holder.Start(ctx, lock, cfg)
	if err != nil {
		return nil, 0, err
	}
	return &conn{Client: client.New(h.Conn()), app: a, need: n, holder: h}, 0, nil
}

func (a *app) holderConfig(dir *holder.Dir, log *slog.Logger) (holder.Config, error) {
	read, err := a.duration("NAVVY_KEEP_READ", engine.DefaultKeepRead)
	if err != nil {
		return holder.Config{}, err
	}
	unread, err := a.duration("NAVVY_KEEP_UNREAD", engine.DefaultKeepUnread)
	if err != nil {
		return holder.Config{}, err
	}
	size, err := a.size("NAVVY_KEEP_SIZE")
	if err != nil {
		return holder.Config{}, err
	}
	at, err := a.storeURL()
	if err != nil {
		return holder.Config{}, err
	}
	py, err := a.pythonOptions()
	if err != nil {
		return holder.Config{}, err
	}
	o := &runnerOptions{python: py, env: a.env, docker: a.dockerConfig(), version: a.version}
	if o.engine, err = a.containerEngine(); err != nil {
		return holder.Config{}, err
	}
	return holder.Config{
		Dir: dir,
		OpenStore: func(ctx context.Context, full func(bool), fatal func(error)) (driver.Store, error) {
			return openStore(ctx, at, dir, log, full, fatal)
		},
		OpenFiles: func(context.Context, *engine.Engine) (*share.Share, error) { return dir.OpenShare() },
		Runners: func(ctx context.Context, j *runner.Journal) ([]*runner.Runner, error) {
			return newRunners(ctx, dir, j, o, log)
		},
		Abilities: func() []navvy.KindAbilities { return abilities(o) },
		Engine:    engine.Options{Logger: log, KeepRead: read, KeepUnread: unread, KeepSize: size},
		Brokers:   a.outerBrokers(),
		Owner:     owner(), Version: a.version, Logger: log,
	}, nil
}

// storeURL is where the store is, if it is not the data directory. A password
// must not stand in the arguments, where every user of the machine can read it.
func (a *app) storeURL() (string, error) {
	if a.store == "" {
		return a.env("NAVVY_STORE"), nil
	}
	u, err := url.Parse(a.store)
	if err != nil {
		return "", usagef("--store: this is no URL; want postgres://HOST/DATABASE")
	}
	if _, has := u.User.Password(); has || u.Query().Has("password") {
		return "", withHint(usagef("--store holds a password, which other users of this machine can see"), "put the URL into NAVVY_STORE instead")
	}
	return a.store, nil
}

// close leaves. A holder waits until what runs has ended.
func (c *conn) close(ctx context.Context) error { return c.leave(ctx, false) }

// leave is close; with interrupt a holder ends what runs, and when ctx ends, at once.
func (c *conn) leave(ctx context.Context, interrupt bool) error {
	if c.remote != nil {
		return c.remote.Close()
	}
	left, err := c.holder.Close(ctx, interrupt)
	if err != nil || !left || c.need != needRun {
		return err // who only looks sets nothing going
	}
	dir, err := c.app.dir()
	if err != nil {
		return err
	}
	return c.app.startBehind(ctx, dir)
}

// lost tells whether an error means that the holder went away, so that another
// one may be found.
func (c *conn) lost(err error) bool {
	return c.remote != nil && (errors.Is(err, navvy.ErrUnavailable) || errors.Is(err, navvy.ErrClosed))
}

// startBehind starts a background holder and waits until it serves.
func (a *app) startBehind(ctx context.Context, dir *holder.Dir) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("start a background process: %w", err)
	}
	log, err := os.OpenFile(filepath.Join(dir.Path(), holder.LogName), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("start a background process: %w", err)
	}
	defer log.Close()
	ready, tell, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("start a background process: %w", err)
	}
	defer ready.Close()
	args := []string{"holder", "--data", dir.Path()}
	if a.store != "" {
		args = append(args, "--store", a.store)
	}
	path, err := a.policyPath()
	if err != nil {
		return err
	}
	if path != "" {
		args = append(args, "--policy", path)
	}
	cmd := exec.Command(self, args...)
	cmd.Dir, cmd.Env = "/", outside(a.environ())
	if a.engine != "" {
		cmd.Env = append(cmd.Env, "NAVVY_ENGINE="+a.engine)
	}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{tell}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := errors.Join(cmd.Start(), tell.Close()); err != nil {
		return fmt.Errorf("start a background process: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = ready.SetReadDeadline(time.Now()) })
	defer stop()
	word, err := io.ReadAll(ready)
	if err != nil {
		return fmt.Errorf("wait for the background process: %w", err)
	}
	return errors.Join(heard(string(word)), cmd.Process.Release())
}

// serving is what a background holder says on file descriptor 3 once it serves.
// It says nothing if somebody else was faster, which the next try finds out, and
// otherwise its exit code and why it cannot serve.
const serving = "serving\n"

// heard is the error that a background holder tells of, if any.
func heard(word string) error {
	if word == serving || word == "" {
		return nil
	}
	var code int
	_, why, ok := strings.Cut(word, " ")
	if _, err := fmt.Sscan(word, &code); err != nil || !ok {
		return fmt.Errorf("the background process says %q", word)
	}
	return &exitError{code, fmt.Errorf("the background process cannot start: %s", why)}
}
