package cli

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/quantity"
)

// jobFlags are the flags that describe a job, for map and run, and for calls of functions.
type jobFlags struct {
	limitFlags
	staging            stageFlags
	container          containerFlags
	name, workdir, key string
	timeout, grace     string
	retries            int
	env, envFrom       []string
	detach             bool
	queue              string
	priority           int
	pkg                string // the package of a service

	jobs     string
	maxFails string
	delay    string
	shuffle  bool
	noop     bool
}

// add declares what map and run share.
func (f *jobFlags) add(cmd *cobra.Command) {
	f.addJob(cmd)
	fs := cmd.Flags()
	fs.StringVarP(&f.workdir, "workdir", "w", "", "working directory of the tasks (default: this one; with --isolate, and with a server, one of each task's own)")
	fs.StringArrayVar(&f.env, "env", nil, "NAME=VALUE in the tasks' environment, or NAME to drop it; may be repeated")
	fs.StringArrayVar(&f.envFrom, "env-from", nil, "a file of NAME=VALUE lines, for what should not be seen in ps")
	f.staging.add(cmd)
	f.container.add(cmd)
	fs.BoolVar(&f.noop, "noop", false, "run nothing at all in place of the command: measures navvy")
	_ = fs.MarkHidden("noop")
}

// addJob declares what jobs of all kinds share.
func (f *jobFlags) addJob(cmd *cobra.Command) {
	fs := cmd.Flags()
	f.limitFlags.add(cmd)
	fs.StringVar(&f.name, "name", "", "a name for the job, for people")
	fs.StringVar(&f.timeout, "timeout", "", "end a task that takes longer: 90s, 5m, 2h")
	fs.StringVar(&f.grace, "grace", "", "time between SIGTERM and SIGKILL; 0 for SIGKILL at once (default 5s)")
	fs.IntVar(&f.retries, "retries", 0, "try a failed task again, so often at most, with growing pauses")
	fs.BoolVarP(&f.detach, "detach", "d", false, "do not wait: print the job's id, and go on in the background")
	fs.StringVar(&f.key, "idempotency-key", "", "submit once: a repeated call with the same key and command goes on with the first job, whose inputs count")
	fs.StringVar(&f.queue, "queue", navvy.DefaultQueue, "the queue that the job stands in; navvy queue gives it limits; map takes the URL of a broker's, too")
	fs.IntVar(&f.priority, "priority", 0, "jobs with a higher number are served first; it may be negative")
}

// addMap declares what only jobs of many tasks have.
func (f *jobFlags) addMap(fs *pflag.FlagSet) {
	fs.StringVarP(&f.jobs, "jobs", "j", "", "tasks at once: a number, or a share of the cores as 50% (default: the cores; with a server no bound)")
	fs.StringVar(&f.maxFails, "max-fails", "", "stop the job when more tasks than this have failed: N or N%")
	fs.StringVar(&f.delay, "delay", "", "least time between two starts: 0.5, 2s")
	fs.BoolVar(&f.shuffle, "shuf", false, "run the tasks in a random order; the answers keep theirs")
}

// maxParallelism is as many tasks as -j may ask for at once.
const maxParallelism = 1 << 20

// cap reads -j: of a job of a server none by default, else as many tasks as there are cores.
func (f *jobFlags) parallelism(remote bool) (int, error) {
	switch {
	case remote && f.jobs == "":
		return 0, nil
	case remote && strings.HasSuffix(f.jobs, "%"):
		return 0, usagef("-j %s: a share of the cores says nothing with a server, whose workers have any number; want a number of tasks", f.jobs)
	}
	return parallelism(f.jobs)
}

// parallelism reads -j. A sign is refused: GNU parallel's +1 is relative to the cores.
func parallelism(text string) (int, error) {
	if text == "" {
		return runtime.NumCPU(), nil
	}
	wrong := usagef("-j %s: want a number of tasks from 1 to %d, or a share of the cores such as 50%%", text, maxParallelism)
	if strings.HasPrefix(text, "+") {
		return 0, wrong
	}
	if share, ok := strings.CutSuffix(text, "%"); ok {
		p, err := strconv.ParseFloat(share, 64)
		if err != nil || !(p > 0 && p <= 100_000) {
			return 0, wrong
		}
		return max(1, int(math.Round(p/100*float64(runtime.NumCPU())))), nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > maxParallelism {
		return 0, wrong
	}
	return n, nil
}

func maxFails(text string) (*navvy.MaxFails, error) {
	if text == "" {
		return nil, nil
	}
	if share, ok := strings.CutSuffix(text, "%"); ok {
		p, err := strconv.ParseFloat(share, 64)
		if err != nil || !(p >= 0 && p <= 100) {
			return nil, usagef("--max-fails %s: want a number of tasks, or a share of them from 0%% to 100%%", text)
		}
		if p == 0 {
			return &navvy.MaxFails{}, nil
		}
		return &navvy.MaxFails{Percent: p}, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return nil, usagef("--max-fails %s: want a number of tasks, or a share of them from 0%% to 100%%", text)
	}
	return &navvy.MaxFails{Count: n}, nil
}

// durationFlag reads a flag; empty is zero.
func durationFlag(name, text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	d, err := quantity.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, usagef("--%s %s: want a duration such as 1.5s, 10m or 2h", name, text)
	}
	return d, nil
}

// base makes the job that the flags describe, but for what it runs, and tells where:
// on a server, or on this machine if that is nil.
func (f *jobFlags) base(a *app) (job navvy.Job, t *target, err error) {
	job = navvy.Job{Name: f.name, Detached: f.detach, IdempotencyKey: f.key}
	if f.retries < 0 {
		return job, nil, usagef("--retries %d: want 0 or more", f.retries)
	}
	job.Spec.Retry.Max = f.retries
	if err = f.line(&job); err != nil {
		return job, nil, err
	}
	for _, d := range []struct {
		name, text string
		to         *time.Duration
	}{{"timeout", f.timeout, &job.Spec.Timeout}, {"grace", f.grace, &job.Spec.Grace}, {"delay", f.delay, &job.Delay}} {
		if *d.to, err = durationFlag(d.name, d.text); err != nil {
			return job, nil, err
		}
	}
	if f.grace != "" {
		job.Spec.Grace = max(job.Spec.Grace, 1) // a zero there means the default
	}
	if job.MaxFails, err = maxFails(f.maxFails); err != nil {
		return job, nil, err
	}
	if t, err = a.target(); err != nil {
		return job, nil, err
	}
	if job.Parallelism, err = f.parallelism(t != nil); err != nil {
		return job, nil, err
	}
	if f.shuffle {
		job.Shuffle = rand.Uint64() | 1
	}
	f.bound(&job.Spec)
	return job, t, nil
}

// job makes the job that the flags describe around a command, whose
// environment and directory it fills in.
func (f *jobFlags) job(a *app, c *navvy.Command) (navvy.Job, error) {
	job, t, err := f.base(a)
	if err != nil {
		return job, err
	}
	if f.noop {
		job.Spec.Noop = &navvy.Noop{}
		return job, nil
	}
	if f.container.image != "" {
		return job, f.inContainer(&job, c, a, t != nil)
	}
	if err := f.container.alone(); err != nil {
		return job, err
	}
	job.Spec.Command = c
	if err := f.applyStage(&job); err != nil {
		return job, err
	}
	program := len(c.Args) > 0 && bringsAlong(&job.Spec.Stage, c.Args[0])
	if t != nil {
		return job, f.place(c, program)
	}
	if c.Env, err = f.environment(a.environ()); err != nil {
		return job, err
	}
	if f.staging.any() {
		c.Dir = ""
	} else if c.Dir, err = f.directory(); err != nil {
		return job, err
	}
	if c.Dir == "" && !program {
		err = ownDirectory(c)
	}
	return job, err
}

// place says where the tasks of a server's job run, and in which environment: one
// that holds what the flags say, and nothing of ours. Staged says that the program is.
func (f *jobFlags) place(c *navvy.Command, staged bool) (err error) {
	if f.workdir != "" && !filepath.IsAbs(f.workdir) {
		return withHint(usagef("--workdir %s: a relative path leads nowhere on another machine", f.workdir), "give an absolute path that the workers have")
	}
	c.Dir = f.workdir
	if c.Dir == "" && !staged && !c.Shell && strings.Contains(c.Args[0], "/") && !filepath.IsAbs(c.Args[0]) && !strings.HasPrefix(c.Args[0], "{") {
		return withHint(usagef("%s: a relative path leads nowhere on another machine, where each task has an empty directory of its own", c.Args[0]),
			"give an absolute path that the workers have, or --workdir")
	}
	c.Env, err = f.environment(nil)
	return err
}

// directory is where the tasks run; empty if each has a directory of its own.
func (f *jobFlags) directory() (string, error) {
	if f.workdir == "" && f.isolate {
		return "", nil
	}
	if f.workdir == "" {
		dir, err := os.Getwd()
		if err != nil {
			return "", fmt.Errorf("working directory: %w", err)
		}
		return dir, nil
	}
	dir, err := filepath.Abs(f.workdir)
	if err != nil {
		return "", fmt.Errorf("--workdir %s: %w", f.workdir, err)
	}
	if info, err := os.Stat(dir); err != nil {
		return "", usagef("--workdir: %w", err)
	} else if !info.IsDir() {
		return "", usagef("--workdir %s: this is no directory", f.workdir)
	}
	return dir, nil
}

// ownDirectory prepares a command for tasks with a directory of their own: a
// program that is named by a relative path is the one that is here.
func ownDirectory(c *navvy.Command) error {
	if c.Shell || len(c.Args) == 0 || filepath.IsAbs(c.Args[0]) || !strings.Contains(c.Args[0], "/") || strings.HasPrefix(c.Args[0], "{") {
		return nil
	}
	here, err := os.Getwd()
	if err != nil {
		return fmt.Errorf("working directory: %w", err)
	}
	if !c.Literal && strings.Contains(here, "{") {
		return withHint(usagef("%s is in %s, and braces would be taken for a placeholder", c.Args[0], here), "give --workdir, or go to another directory")
	}
	c.Args = slices.Concat([]string{filepath.Join(here, c.Args[0])}, c.Args[1:])
	return nil
}

// environment is that of a process, changed as the flags say: a job keeps it, so
// that it runs in the same one when it is resumed from elsewhere.
func (f *jobFlags) environment(base []string) ([]string, error) {
	env := slices.DeleteFunc(outside(base), func(pair string) bool {
		return strings.HasPrefix(pair, "=") || !strings.Contains(pair, "=") || strings.HasPrefix(pair, "NAVVY_STORE=")
	})
	for _, file := range f.envFrom {
		pairs, err := readEnv(file)
		if err != nil {
			return nil, err
		}
		for _, pair := range pairs {
			env = setEnv(env, pair)
		}
	}
	for _, pair := range f.env {
		if pair == "" || strings.HasPrefix(pair, "=") {
			return nil, usagef("--env %q: want NAME=VALUE, or NAME to drop it", pair)
		}
		env = setEnv(env, pair)
	}
	return env, nil
}

// setEnv sets NAME=VALUE, or drops NAME.
func setEnv(env []string, pair string) []string {
	name, _, set := strings.Cut(pair, "=")
	env = slices.DeleteFunc(env, func(old string) bool { return strings.HasPrefix(old, name+"=") })
	if set {
		env = append(env, pair)
	}
	return env
}

// readEnv reads a file of NAME=VALUE lines; empty ones and those that begin with
// # are passed over. Values are taken as they are.
func readEnv(path string) ([]string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, usagef("--env-from: %w", err)
	}
	var pairs []string
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		line = strings.TrimSuffix(strings.TrimSuffix(strings.TrimLeft(line, " \t"), "\n"), "\r")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if i := strings.IndexByte(line, '='); i <= 0 || strings.IndexByte(line, 0) >= 0 {
			return nil, usagef("--env-from %s: line %d is not NAME=VALUE", path, n)
		}
		pairs = append(pairs, line)
	}
	return pairs, nil
}
