package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/gateway/netrpc"
	"github.com/navvy-run/navvy/internal/holder"
	"github.com/navvy-run/navvy/manager"
	"github.com/navvy-run/navvy/server/auth"
)

// serverFlags are the flags of server, and most of them of dev.
type serverFlags struct {
	logFlags
	listen, http, health string
	netrpc               string
	faas                 holder.FaaSOptions
	scaler               string
	mstcFlags
	keyType          string
	cert, key, ca    string // an outside authority's
	hosts            []string
	dispatch         string
	heartbeat        string
	slots            int // of this process; 0 for no worker in it
	share, shareFile string
	claimsFlags
}

// Defaults of a server's addresses.
const (
	defaultListen = ":7433"
	defaultHTTP   = "127.0.0.1:7480"
	serverDir     = "navvy-server"
)

func newServer(a *app) *cobra.Command {
	f := &serverFlags{}
	cmd := &cobra.Command{
		Use:   "server [flags]",
		Short: "serve a team: keep jobs and answers, and hand tasks to workers",
		Long: `server keeps the jobs of a team and hands their tasks to workers, which connect to
it with navvy worker start. It runs no tasks itself; navvy dev does both.

On the first start it makes an authority for certificates, a certificate for itself,
one for an administrator and one for you, and a context for your account: navvy
--server localhost ls works at once. What is near its end later starts renew. With
--tls-cert, --tls-key and --tls-ca the certificates are those of an authority that
you have already.

It listens with TLS 1.3 and asks everybody for a certificate. Plain HTTP is served
on loopback only: /v1, the API in JSON, which wants a token (navvy token create --api),
/healthz, /readyz and /metrics; --health serves the last three on any address. An address that begins with https:// asks for certificates, too.

--mstc has images run for clients of the MSTC Cloud Worker, whose requests come over
RabbitMQ: --mstc-url-file or WORK_QUEUE_HOST says where it is.

Without --data the data directory is $NAVVY_DATA, else $XDG_STATE_HOME/navvy-server,
else ~/.local/state/navvy-server. SIGTERM lets reports that have come in get to disk
and ends it; what workers run goes on, and they come back with it.`,
		Example: `  navvy server
  navvy server --data /var/lib/navvy --listen :7433 --host build1.example,10.0.0.5
  navvy server --http '' --health :7481 --log-format json
  navvy server --mstc --mstc-url-file rabbitmq.url
  navvy token create > token; scp token other:; ssh other navvy worker start --join build1 --token-file token`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.local("server"); err != nil {
				return err
			}
			return a.runServer(cmd.Context(), f)
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&f.listen, "listen", defaultListen, "the `ADDR` of the port for gRPC")
	f.add(fs)
	fs.StringVar(&f.netrpc, "netrpc", "", "an `ADDR` on loopback for programs that speak net/rpc with a Manager, which tells nobody apart (docs/gateways.md)")
	fs.StringVar(&f.scaler, "scaler", "", "an `ADDR` on loopback where KEDA asks how much there is to do; or https://ADDR, which asks for a viewer's certificate (docs/kubernetes.md)")
	fs.BoolVar(&f.faas.Insecure, "insecure-listen", false, "let --faas and --mstc speak plain HTTP on any address: whoever reaches it runs code as this account, or images")
	fs.StringVar(&f.dispatch, "dispatch", string(manager.Pull), "how tasks come to workers: pull, push or round-robin")
	fs.StringVar(&f.cert, "tls-cert", "", "the server's certificate, if an authority of your own has issued it: a `FILE` that ends with the authority's")
	fs.StringVar(&f.key, "tls-key", "", "its key, a `FILE`")
	fs.StringVar(&f.ca, "tls-ca", "", "the certificate of the authority that clients' certificates come from, a `FILE`")
	fs.StringSliceVar(&f.hosts, "host", nil, "further `NAMES` and addresses that clients reach this server by, for its certificate")
	ways(cmd)
	return cmd
}

// add declares what server and dev share.
func (f *serverFlags) add(fs *pflag.FlagSet) {
	f.logFlags.add(fs)
	fs.StringVar(&f.http, "http", defaultHTTP, "the `ADDR` for HTTP, on loopback; or https://ADDR, which asks for certificates; empty for none")
	fs.StringVar(&f.health, "health", "", "an `ADDR` where /healthz, /readyz and /metrics are served, and nothing else, to anybody")
	fs.StringVar(&f.faas.Address, "faas", "", "an `ADDR` for clients of the MPCS FaaS, such as 127.0.0.1:8000: whoever reaches it runs code as this account; or https://ADDR, which asks for certificates (docs/gateways.md)")
	f.mstcFlags.add(fs)
	fs.StringVar(&f.share, "share", "", "the `URL` of the share that keeps the files of owners; engine: for the store of jobs (docs/share.md; default: in the data directory, with --store in the store; NAVVY_SHARE says it, too)")
	fs.StringVar(&f.shareFile, "share-file", "", "a `FILE` that holds that URL, for one with a password; - for standard input")
	f.claimsFlags.add(fs)
	fs.StringVar(&f.keyType, "key-type", string(auth.Ed25519), "the type of keys that are made: ed25519 or p256")
	fs.StringVar(&f.heartbeat, "heartbeat", "1s", "how often a worker says that it is there; what it runs is lost after two that are missing")
}

func newDev(a *app) *cobra.Command {
	f := &serverFlags{listen: "127.0.0.1:7433", dispatch: string(manager.Push)}
	cmd := &cobra.Command{
		Use:   "dev [flags]",
		Short: "a server with a worker in one process, on loopback",
		Long: `dev is navvy server and one worker in one process, on loopback only: to try out what
a team has, or to write programs against it. Its data are those of navvy server
unless --data names others.`,
		Example: `  navvy dev
  navvy dev --data /tmp/try -j 4 & navvy --server localhost map -- echo {} ::: a b c
  navvy dev --faas 127.0.0.1:8000`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.local("dev"); err != nil {
				return err
			}
			if host, _, err := net.SplitHostPort(f.listen); err != nil || !holder.Loopback(host) {
				return withHint(usagef("--listen %s: dev listens on loopback only", f.listen), "navvy server listens anywhere")
			}
			if f.slots < 1 {
				return usagef("-j %d: want 1 or more", f.slots)
			}
			a.python.look = true
			return a.runServer(cmd.Context(), f)
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&f.listen, "listen", f.listen, "the `ADDR` of the port for gRPC, on loopback")
	fs.IntVarP(&f.slots, "jobs", "j", runtime.NumCPU(), "tasks at once")
	a.python.add(fs)
	addEngine(fs, &a.engine, engineAuto)
	f.add(fs)
	return cmd
}

// serverConfig is what the flags say, checked.
func (a *app) serverConfig(f *serverFlags, dir *holder.Dir, log *slog.Logger) (holder.Config, error) {
	cfg, err := a.holderConfig(dir, log)
	if err == nil {
		cfg.Policy, err = a.loadPolicy(dir)
	}
	if err != nil {
		return cfg, err
	}
	if cfg.Dispatch = manager.Dispatch(f.dispatch); cfg.Dispatch == manager.Local || cfg.Dispatch == "" || cfg.Dispatch.Validate() != nil {
		return cfg, usagef("--dispatch %s: want pull, push or round-robin", f.dispatch)
	}
	beat, err := durationFlag("heartbeat", f.heartbeat)
	if err != nil {
		return cfg, err
	}
	if beat < 50*time.Millisecond || beat > time.Hour {
		return cfg, usagef("--heartbeat %s: want 50ms to 1h", f.heartbeat)
	}
	cfg.Lease, cfg.Parallelism = 2*beat, maxParallelism
	if err := a.shareOf(f, &cfg); err != nil {
		return cfg, err
	}
	if cfg.Slots = f.slots; f.slots == 0 {
		cfg.Runners = nil
	}
	return cfg, nil
}

// checkAddresses refuses addresses before anything is made.
func (f *serverFlags) checkAddresses() error {
	plain := func(address string) string { return strings.TrimPrefix(address, "https://") }
	for _, one := range []struct{ flag, address string }{
		{"listen", f.listen}, {"health", f.health}, {"http", plain(f.http)}, {"faas", plain(f.faas.Address)},
		{"mstc", plain(f.mstc.Address)}, {"scaler", plain(f.scaler)},
	} {
		_, port, err := net.SplitHostPort(one.address)
		if one.address == "" && one.flag != "listen" {
			continue
		}
		if err != nil {
			return usagef("--%s %s: want HOST:PORT, or :PORT for all addresses", one.flag, one.address)
		}
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return usagef("--%s %s: the port is no number up to 65535", one.flag, one.address)
		}
	}
	if err := f.checkHosts(); err != nil {
		return err
	}
	if f.http != "" {
		if err := plainAddress(holder.CheckHTTP(f.http), f.http, "--health serves the health paths alone"); err != nil {
			return err
		}
	}
	return f.checkGateways()
}

// checkGateways refuses addresses where other systems' clients must not be served.
func (f *serverFlags) checkGateways() error {
	if f.netrpc != "" {
		if err := netrpc.CheckAddress(f.netrpc); err != nil && !errors.Is(err, navvy.ErrDenied) {
			return &usageError{err}
		} else if err != nil {
			return err
		}
	}
	if f.faas.Insecure && f.faas.Address == "" && f.mstc.Address == "" {
		return usagef("--insecure-listen is about --faas and --mstc, of which none is given")
	}
	if f.faas.Address != "" {
		if err := plainAddress(f.faas.Check(), f.faas.Address, "with --insecure-listen navvy server lets anybody in"); err != nil {
			return err
		}
	}
	if f.scaler != "" {
		if err := plainAddress(holder.CheckScaler(f.scaler), f.scaler, "--health serves the same numbers to anybody"); err != nil {
			return err
		}
	}
	return f.checkMSTC()
}

// plainAddress says what to do about an address where HTTP must not be plain.
func plainAddress(err error, address, otherwise string) error {
	if errors.Is(err, navvy.ErrDenied) {
		return withHint(err, "give an address on loopback, or https://%s, which asks for certificates; %s", address, otherwise)
	} else if err != nil {
		return &usageError{err}
	}
	return nil
}

// checkHosts refuses what no client can reach a server by: neither an address nor a
// name of DNS, which may begin with "*.".
func (f *serverFlags) checkHosts() error {
	for _, host := range f.hosts {
		name := strings.TrimSpace(host)
		if net.ParseIP(name) != nil {
			continue
		}
		if len(name) > 253 || !hostName.MatchString(name) {
			return usagef("--host %.300q: want a name such as build1.example, or an address", host)
		}
	}
	return nil
}

var hostName = regexp.MustCompile(`^(\*\.)?[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_][A-Za-z0-9_-]{0,62})*$`)

func (a *app) runServer(ctx context.Context, f *serverFlags) (err error) {
	if err := a.findMSTC(f); err != nil {
		return err
	}
	if err := f.checkAddresses(); err != nil {
		return err
	}
	log, err := f.logger(a)
	if err != nil {
		return err
	}
	if a.data = cmp.Or(a.data, a.env("NAVVY_DATA")); a.data == "" {
		if a.data, err = a.stateDir(serverDir); err != nil {
			return err
		}
	}
	dir, err := a.dir()
	if err != nil {
		return err
	}
	a.forOthers = f.slots == 0
	cfg, err := a.serverConfig(f, dir, log)
	if err != nil {
		return err
	}
	large, err := a.serverPlace(ctx, &f.claimsFlags)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, large.close()) }()
	cfg.Claims, cfg.ClaimOver = large.claims()
	lock, err := takeLock(dir)
	if err != nil {
		return err
	}
	people, err := a.openPeople(f, dir)
	if err != nil {
		return errors.Join(err, lock.Unlock())
	}
	cfg.Serving = &holder.Serving{
		Listen: f.listen, Authority: people.authority, Prepare: people.prepare, Certificate: people.certificate, Pool: people.pool,
		HTTP: holder.HTTPOptions{Address: f.http, Health: f.health}, NetRPC: f.netrpc, FaaS: f.faas, MSTC: f.mstc, Scaler: f.scaler,
	}
	return untilTold(ctx, func(soft, hard context.Context) error {
		h, err := holder.Start(soft, lock, cfg)
		if err != nil {
			return cannotListen(err)
		}
		return a.serve(soft, hard, f, h, people, log)
	})
}

// cannotListen says what an error means that comes of an address, and what to do; any
// other error it gives as it is.
func cannotListen(err error) error {
	const others = "with --listen, --http, --health, --faas, --mstc, --scaler or --netrpc"
	_, unknown := errors.AsType[*net.DNSError](err)
	op, address := errors.AsType[*net.OpError](err)
	switch {
	case !address || op.Op != "listen":
		return err
	case errors.Is(err, syscall.EADDRINUSE):
		return withHint(fmt.Errorf("%w: %w", err, navvy.ErrUnavailable), "another program listens there; end it, or give another address %s", others)
	case errors.Is(err, syscall.EACCES):
		return withHint(fmt.Errorf("%w: %w", err, navvy.ErrDenied), "ports below 1024 are not for everybody; give another address %s", others)
	case unknown || errors.Is(err, syscall.EADDRNOTAVAIL):
		return withHint(&usageError{err}, "this machine has no such address; give another %s", others)
	default:
		return err
	}
}

// takeLock takes the lock of a data directory for a service.
func takeLock(dir *holder.Dir) (*holder.Lock, error) {
	lock, pid, err := dir.TryLock()
	if err == nil && lock == nil {
		err = withHint(fmt.Errorf("%s holds %s: %w", processName(pid), dir.Path(), navvy.ErrUnavailable), "give another directory with --data, or end that process")
	}
	return lock, err
}

// serve serves until it is told to end, or fails.
func (a *app) serve(soft, hard context.Context, f *serverFlags, h *holder.Holder, p *people, log *slog.Logger) error {
	err := a.welcome(f, h, p)
	if err == nil {
		err = a.notify(notifyReady)
	}
	renewing, cancel := context.WithCancel(soft)
	renewed := make(chan struct{})
	go func() {
		defer close(renewed)
		p.renew(renewing, log)
	}()
	if err == nil {
		select {
		case <-soft.Done():
			log.Info("the server is about to end", "busy", h.Busy())
		case <-h.Failed():
			err = h.Err()
		}
	}
	cancel()
	<-renewed
	if notifyErr := a.notify(notifyStopping); notifyErr != nil {
		log.Warn("systemd", "error", notifyErr)
	}
	leaving, stop := context.WithTimeout(hard, a.patience)
	defer stop()
	_, closeErr := h.Close(leaving, true)
	return errors.Join(err, closeErr)
}
