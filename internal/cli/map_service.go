package cli

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/internal/input"
)

// completeForms completes --service of a verb with the forms that there are, and other words.
func completeForms(cmd *cobra.Command, others ...string) {
	words := slices.Clone(others)
	for _, form := range serviceForms() {
		name, _, command := strings.Cut(form, ":")
		if command {
			name += ":"
		}
		words = append(words, name)
	}
	_ = cmd.RegisterFlagCompletionFunc("service", cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp|cobra.ShellCompDirectiveNoSpace))
}

// formHint says where the forms of services are told.
const formHint = "docs/services.md has the forms, with what each expects of a program"

// checkForm refuses a form of --service that is wrong anywhere.
func checkForm(form string) error {
	if err := checkService(form); err != nil {
		return withHint(usagef("--service: %w", err), formHint)
	}
	return nil
}

// atPath refuses a form that names a socket by a relative path: who opens it is elsewhere.
func atPath(form string) error {
	for _, at := range []string{"grpc:unix:", "grpc-any:unix:", "grpc-any-cmd:unix:"} {
		if path, ok := strings.CutPrefix(form, at); ok && !filepath.IsAbs(strings.TrimPrefix(path, "//")) {
			return usagef("--service %s: the path of a socket is an absolute one", form)
		}
	}
	return nil
}

// service makes the service of a job or a queue of a form: on a server if
// remote, else on this machine, in the environment and the directory of this process.
func (f *jobFlags) service(a *app, form string, remote bool) (*navvy.Service, error) {
	s := &navvy.Service{Form: form}
	err := checkForm(form)
	if err == nil {
		err = atPath(form)
	}
	if err != nil {
		return nil, err
	}
	if s.Package, err = f.servicePackage(form); err != nil {
		return nil, err
	}
	if s.Package != nil {
		if remote {
			s.Env, err = f.environment(nil)
		} else {
			s.Env, err = f.environment(a.environ())
		}
		return s, err
	}
	if remote {
		if s.Dir = f.workdir; s.Dir != "" && !filepath.IsAbs(s.Dir) {
			return nil, withHint(usagef("--workdir %s: a relative path leads nowhere on another machine", s.Dir), "give an absolute path that the workers have")
		}
		s.Env, err = f.environment(nil)
	} else if s.Env, err = f.environment(a.environ()); err == nil {
		s.Dir, err = f.directory()
	}
	if program := serviceProgram(form); err == nil && s.Dir == "" && strings.Contains(program, "/") && !filepath.IsAbs(program) {
		err = withHint(usagef("--service: %s is a relative path, and the service has a directory of its own", program), "give an absolute path, or --workdir")
	}
	return s, err
}

// addPackage declares what goes with --service.
func (f *jobFlags) addPackage(fs *pflag.FlagSet) {
	fs.StringVar(&f.pkg, "package", "", "with --service: its programs start in this package, `NAME@VERSION`; see navvy package")
}

// servicePackage is the package that a service of a form starts in; nil if there is none.
func (f *jobFlags) servicePackage(form string) (*navvy.Package, error) {
	if f.pkg == "" {
		return nil, nil //nolint:nilnil // most have none
	}
	p, err := packageArg(f.pkg)
	switch {
	case err != nil:
		return nil, err
	case f.workdir != "":
		return nil, usagef("--workdir and --package both say where the service starts: give one of them")
	case serviceProgram(form) == "":
		return nil, withHint(usagef("--package %s: service %s starts no program that could use it", f.pkg, form), formHint)
	}
	return &p, nil
}

// forArguments names a flag that was given and that only makes arguments of commands.
func (f *mapFlags) forArguments(sources int) string {
	for _, flag := range []struct {
		name  string
		given bool
	}{{"--shell", f.shell}, {"--stdin", f.stdin}, {"--dry-run", f.dryRun}, {"--noop", f.noop}, {"--spread", f.spread}, {"--fn", f.fn != ""}} {
		if flag.given {
			return flag.name
		}
	}
	return f.fielded(sources)
}

// answered tells whether a service answers the inputs: one that is named, or that of the queue.
func (f *mapFlags) answered(command []string) bool {
	return f.service != "" || f.ownQueue && len(command) == 0 && f.fn == "" && !f.noop
}

// mapService has a service answer each input: that of --service, or if there is none that
// of the queue.
func (a *app) mapService(ctx context.Context, f *mapFlags, command []string, behind []input.Source) error {
	what := "--service"
	if f.service == "" {
		what = "the service of queue " + f.queue
	}
	sources, _, err := f.sources(behind)
	if err != nil {
		return err
	}
	if len(command) > 0 {
		return withHint(usagef("map: %s takes the place of a command, and there is %q", what, command[0]), "inputs stand behind :::, or in a file that -a names")
	}
	if flag := f.forArguments(len(sources)); flag != "" {
		return usagef("map: a request is one text: %s does not go with %s", what, flag)
	}
	if err := f.check(); err != nil {
		return err
	}
	job, err := f.serviceJob(a)
	if err != nil {
		return err
	}
	a.quiet = f.quiet
	open := func() (*input.Reader, error) {
		return input.Open(sources, &input.Options{Null: f.null, Stdin: a.in})
	}
	in, err := open()
	if err != nil {
		return &usageError{err}
	}
	defer in.Close()
	job.Format = in.Format()
	if err := f.openJoblog(f.detach); err != nil {
		return err
	}
	return a.mapOver(ctx, f, &job, in, open)
}

// serviceJob makes the job of a service.
func (f *mapFlags) serviceJob(a *app) (navvy.Job, error) {
	job, t, err := f.base(a)
	switch {
	case err != nil:
	case f.service != "":
		job.Spec.Service, err = f.jobFlags.service(a, f.service, t != nil)
	case f.workdir != "" || f.env != nil || f.envFrom != nil:
		err = usagef("map: the service of queue %s has an environment and a directory: --env, --env-from and --workdir go with a command, or with --service", f.queue)
	default:
		job.Spec.Service = &navvy.Service{}
	}
	return job, err
}

// serviceHint says what to do about a job for a queue that has no service.
func serviceHint(j *navvy.Job, err error) error {
	if p := j.Spec.Service.Package; lacksPackage(err, p) {
		return packageHint(err, p)
	}
	if errors.Is(err, navvy.ErrNotFound) && j.Spec.Service.Form == "" {
		return withHint(err, "if it has no settings yet, navvy queue create %s --service FORM; or give a command, or map --service", j.Queue)
	}
	return err
}

// lacksPackage tells whether an error is that there is no such package.
func lacksPackage(err error, p *navvy.Package) bool {
	return p != nil && errors.Is(err, navvy.ErrNotFound) && strings.Contains(err.Error(), "package "+p.String())
}

// packageHint says what to do then.
func packageHint(err error, p *navvy.Package) error {
	return withHint(err, "navvy package put %s DIRECTORY makes it, and navvy package ls lists those that there are", p)
}

// workFlags are the flags that say what answers the messages of a queue.
type workFlags struct {
	jobFlags
	service string
}

// noService takes the service of a queue away.
const noService = "none"

// withService are those that go with --service, but for limits.
var withService = []string{"timeout", "grace", "retries", "env", "env-from", "workdir", "package"}

func (f *workFlags) add(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVar(&f.service, "service", "", "what answers its messages, and jobs that name no work of their own: a `FORM` as of map --service; none takes it away")
	fs.StringVar(&f.timeout, "timeout", "", "with --service: end a task that takes longer: 90s, 5m, 2h")
	fs.StringVar(&f.grace, "grace", "", "with --service: time between SIGTERM and SIGKILL (default 5s)")
	fs.IntVar(&f.retries, "retries", 0, "with --service: try a failed task again, so often at most, with growing pauses")
	fs.StringArrayVar(&f.env, "env", nil, "with --service: NAME=VALUE in its environment, which users of the queue can read; may be repeated")
	fs.StringArrayVar(&f.envFrom, "env-from", nil, "with --service: a file of NAME=VALUE lines")
	fs.StringVarP(&f.workdir, "workdir", "w", "", "with --service: the working directory of its programs (default: this one; with --isolate, and with a server, one of their own)")
	f.addPackage(fs)
	f.limitFlags.add(cmd)
	completeForms(cmd, noService)
}

// workThere is what the flags say to whoever is connected to. The service of a server runs
// on its workers: neither the environment nor the directory of who makes it is meant, not
// even of an administrator on the server's machine.
func (f *workFlags) workThere(cmd *cobra.Command, c *conn) (*navvy.Spec, error) {
	server, err := c.ofServer(cmd.Context())
	if err != nil {
		return nil, err
	}
	return f.work(cmd, c.app, server)
}

// ofServer tells whether a connection is to a server, or to what one has left of its data.
func (c *conn) ofServer(ctx context.Context) (bool, error) {
	if t, err := c.app.target(); t != nil || err != nil {
		return t != nil, err
	}
	if c.holder != nil {
		dir, err := c.app.dir()
		if err != nil {
			return false, err
		}
		_, err = os.Stat(filepath.Join(dir.Path(), caDir))
		return err == nil, nil
	}
	o, err := c.Overview(ctx)
	return len(o.GetAbilities()) == 0, err // which are those of whoever has no workers but its own
}

// work is what the flags say, of a server or of this machine; nil if they say nothing.
func (f *workFlags) work(cmd *cobra.Command, a *app, server bool) (*navvy.Spec, error) {
	if f.service == "" || f.service == noService {
		if err := onlyWith(cmd, "--service", append(f.names(), withService...)...); err != nil {
			return nil, err
		}
		if !cmd.Flags().Changed("service") {
			return nil, nil //nolint:nilnil // it stays as it is
		}
		if f.service == "" {
			return nil, usagef("--service: say what answers, or %s", noService)
		}
		return &navvy.Spec{}, nil
	}
	f.queue = navvy.DefaultQueue
	job, t, err := f.base(a)
	if err != nil {
		return nil, err
	}
	if job.Spec.Service, err = f.jobFlags.service(a, f.service, server || t != nil); err != nil {
		return nil, err
	}
	return &job.Spec, job.Spec.Validate()
}

// workObject is the service of a queue as -o json shows it.
type workObject struct {
	Form      string        `json:"form"`
	Directory string        `json:"directory,omitempty"`
	Package   string        `json:"package,omitempty"` // NAME@VERSION
	Owner     string        `json:"package_owner,omitempty"`
	Timeout   float64       `json:"timeout,omitempty"` // seconds
	Retries   int           `json:"retries,omitempty"`
	Limits    *limitsObject `json:"limits,omitempty"`
	Isolate   bool          `json:"isolate,omitempty"`
	Network   string        `json:"network,omitempty"`
}

// newWork is nil for a queue without a service.
func newWork(s *navvy.Spec) *workObject {
	if s == nil || s.Service == nil {
		return nil
	}
	o := &workObject{
		Form: s.Service.Form, Directory: s.Service.Dir, Timeout: s.Timeout.Seconds(), Retries: s.Retry.Max,
		Limits: newLimitsObject(&s.Limits), Isolate: s.Isolate, Network: s.Network,
	}
	if p := s.Service.Package; p != nil {
		o.Package, o.Owner = p.String(), p.Owner
	}
	return o
}

// workText is the service of a queue in a table.
func workText(s *navvy.Spec) string {
	if s == nil || s.Service == nil {
		return ""
	}
	return short(s.Service.Form + packageText(s.Service.Package))
}

// packageText is a package behind the form of its service; empty if there is none.
func packageText(p *navvy.Package) string {
	if p == nil {
		return ""
	}
	return " (" + p.String() + ")"
}
