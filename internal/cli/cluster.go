package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/api"
	"github.com/navvy-run/navvy/cluster"
	"github.com/navvy-run/navvy/cluster/config"
)

func newClusterVerbs(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "cluster", Short: "queues, shares, a service and its workers, from one file",
		Long: `A file describes a pair of queues, what workers find in their file systems, the service
that answers requests, what watches it all, and the workers. apply makes that, on this
machine or elsewhere; when the file has changed, it makes the change; destroy removes it.

Nothing about a cluster is kept here: what there is of it bears its mark where it is.
What navvy did not make is never changed and never removed. Two people can apply one
file: the second is told who is at it. What was interrupted, or failed, goes on with the
next apply. docs/cluster.md has the keys of the file.`,
		Example: `  navvy cluster init --provider local > cluster.yaml
  navvy cluster plan -f cluster.yaml
  navvy cluster apply -f cluster.yaml
  navvy cluster status demo
  navvy cluster scale demo --workers 8
  navvy cluster destroy demo`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newClusterInit(a), newClusterSchema(a), newClusterPlan(a), newClusterApply(a), newClusterStatus(a), newClusterLs(a),
		newClusterScale(a), newClusterDestroy(a), newClusterSupervise(a), newClusterUnit(a), newClusterTunnel(a), newClusterPipe(a))
	return cmd
}

func newClusterInit(a *app) *cobra.Command {
	provider := ""
	cmd := &cobra.Command{
		Use: "init [--provider NAME]", Short: "print a file to begin with, with comments",
		Example: "  navvy cluster init > cluster.yaml\n  navvy cluster init --provider kubernetes > cluster.yaml", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			p, err := clusterProvider(provider)
			if err != nil {
				return err
			}
			text, err := config.Template(p)
			if err != nil {
				return err
			}
			_, err = a.out.Write(text)
			return err
		},
	}
	addProvider(cmd.Flags(), &provider, string(config.ProviderLocal), "where the cluster is to be")
	return cmd
}

func newClusterSchema(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "schema", Short: "print the JSON Schema of the file, for editors and programs",
		Example: "  navvy cluster schema > cluster.schema.json", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := a.out.Write(config.Schema())
			return err
		},
	}
}

// addProvider declares --provider.
func addProvider(fs *pflag.FlagSet, to *string, def, what string) {
	fs.StringVar(to, "provider", def, what+": "+providerNames())
}

func providerNames() string {
	var names []string
	for _, p := range config.Providers() {
		names = append(names, string(p))
	}
	return strings.Join(names[:len(names)-1], ", ") + " or " + names[len(names)-1]
}

// clusterProvider checks the name of a provider.
func clusterProvider(name string) (config.Provider, error) {
	for _, p := range config.Providers() {
		if string(p) == name {
			return p, nil
		}
	}
	return "", usagef("--provider %s: want %s", name, providerNames())
}

// clusterFlags are those of verbs that look at a cluster or change it.
type clusterFlags struct {
	file, provider string
	hosts          string // a file of those that take the place of ssh.hosts
	named          bool   // a NAME does, too
	wait           string
	yes            bool
	atOnce         int

	waitTime time.Duration
}

// addFile declares what names a cluster: its file, or the provider of its name.
func (f *clusterFlags) addFile(fs *pflag.FlagSet, name bool) {
	f.named = name
	fs.StringVarP(&f.file, "file", "f", "", "the `FILE` that describes the cluster, YAML or JSON; - for standard input")
	if name {
		addProvider(fs, &f.provider, "", "with a NAME, where that cluster is (default: on this machine)")
	}
}

// addHosts declares what stands for ssh.hosts.
func (f *clusterFlags) addHosts(fs *pflag.FlagSet) {
	fs.StringVar(&f.hosts, "hosts", "", "with provider: ssh, the hosts of this `FILE`, [USER@]HOST[:PORT] a line, in place of ssh.hosts")
}

// addChange declares what verbs have that change a cluster.
func (f *clusterFlags) addChange(fs *pflag.FlagSet, yes string) {
	fs.BoolVar(&f.yes, "yes", false, yes)
	fs.StringVar(&f.wait, "wait", "0", "how long to wait for somebody else who changes the cluster")
	fs.IntVar(&f.atOnce, "at-once", 0, "so many changes at once at most (default 16)")
}

// check reads the flags of verbs that change a cluster.
func (f *clusterFlags) check() (err error) {
	if f.wait != "" && f.wait != "0" {
		f.waitTime, err = durationFlag("wait", f.wait)
	}
	if err == nil && f.atOnce < 0 {
		err = usagef("--at-once %d: want 1 or more", f.atOnce)
	}
	return err
}

// readCluster reads the file of a cluster.
func (a *app) readCluster(path, hosts string) (*config.Cluster, error) {
	text, err := a.smallFile(path)
	if err != nil {
		return nil, &usageError{fmt.Errorf("-f: %w", err)}
	}
	dir, name := filepath.Dir(path), path
	if path == "-" {
		dir, name = ".", "standard input"
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	c, err := config.ReadWith(name, []byte(text), dir, func(c *config.Cluster) error { return a.replaceHosts(c, hosts) })
	if err != nil {
		return nil, err
	}
	if err := checkService(c.Service.Form()); err != nil {
		return nil, fmt.Errorf("%s: service.command: %w", name, err)
	}
	return config.Defaults(c), nil
}

// clusterTarget is what a verb is about.
type clusterTarget struct {
	*cluster.Controller
	name string
	file *config.Cluster // if it was given
}

// withCluster opens the provider of a cluster that a name or a file names, and closes it after
// do. What is under way ends with the first signal.
func (a *app) withCluster(ctx context.Context, f *clusterFlags, args []string, o *cluster.Options, do func(context.Context, *clusterTarget) error) (err error) {
	t := &clusterTarget{}
	p := config.ProviderLocal
	switch {
	case f.file == "" && !f.named:
		return withHint(usagef("-f FILE is missing"), "navvy cluster init > cluster.yaml makes one")
	case f.file != "" && len(args) > 0, f.file == "" && len(args) == 0:
		return usagef("want the NAME of a cluster, or its file with -f: one of both")
	case f.file != "" && f.provider != "":
		return usagef("--provider: the file says it")
	case f.file != "":
		if t.file, err = a.readCluster(f.file, f.hosts); err != nil {
			return err
		}
		t.name, p = t.file.Name, t.file.Provider
	default:
		if t.name = args[0]; f.provider != "" {
			if p, err = clusterProvider(f.provider); err != nil {
				return err
			}
		}
		if err := config.ValidateName(t.name); err != nil {
			return &usageError{err}
		}
	}
	return a.withProvider(ctx, p, t.file, o, func(ctx context.Context, c *cluster.Controller) error {
		t.Controller = c
		return do(ctx, t)
	})
}

// withProvider opens a provider, and closes it after do.
func (a *app) withProvider(ctx context.Context, p config.Provider, file *config.Cluster, o *cluster.Options, do func(context.Context, *cluster.Controller) error) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	defer context.AfterFunc(ctx, stop)() // a second one does not wait
	d, err := a.openProvider(ctx, p, file)
	if err != nil {
		return err
	}
	err = errors.Join(do(ctx, cluster.New(d, o)), d.Close())
	if err != nil && ctx.Err() != nil && errors.Is(err, context.Canceled) {
		a.complain(err)
		return &exitError{code: api.ExitInterrupted}
	}
	return err
}

// changing are the options of verbs that change a cluster.
func (a *app) changing(f *clusterFlags) *cluster.Options {
	return a.changingTold(f, &clusterProgress{app: a})
}

func (a *app) changingTold(f *clusterFlags, told *clusterProgress) *cluster.Options {
	return &cluster.Options{
		Who: whoami(a.env), AtOnce: f.atOnce, Wait: f.waitTime, Lose: f.yes,
		Waiting: told.waiting, Planned: told.planned, Tell: told.tell,
	}
}

// whoami tells who calls, and where.
func whoami(env func(string) string) string {
	name := env("USER")
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	host, _ := os.Hostname() // it is for people
	return cmp.Or(name, "somebody") + "@" + cmp.Or(host, "somewhere")
}

// hintCluster says what to do about an error.
func hintCluster(err error) error {
	if _, loses := errors.AsType[*cluster.LoseError](err); loses {
		return withHint(err, "give --yes if it may be lost")
	}
	if _, failed := errors.AsType[*cluster.FailedError](err); failed {
		return withHint(err, "what needs none of that was done; call it again, and it goes on from there")
	}
	if errors.Is(err, context.Canceled) {
		return withHint(err, "call it again, and it goes on from there")
	}
	if errors.Is(err, navvy.ErrConflict) {
		return withHint(err, "--wait 5m waits for somebody else")
	}
	return err
}
