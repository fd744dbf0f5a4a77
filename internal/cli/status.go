package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/api"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/internal/cli/format"
	"github.com/navvy-run/navvy/quantity"
)

func newStatus(a *app) *cobra.Command {
	f := &listFlags{}
	cmd := &cobra.Command{
		Use: "status [flags] [ID]", Short: "where one job stands, or everything at a glance",
		Example: `  navvy status
  navvy status 7k2 -o json`,
		Args: cobra.MaximumNArgs(1), ValidArgsFunction: a.completeJobs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return err
			}
			return a.with(cmd.Context(), needLook, func(c *conn) error {
				if len(args) == 0 {
					return a.overview(cmd.Context(), c, f)
				}
				job, err := c.job(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				if f.output != "table" {
					return f.one(a.out, newJobObject(&job))
				}
				return format.Table(a.out, nil, statusRows(&job))
			})
		},
	}
	f.add(cmd)
	return cmd
}

// job finds a job by the beginning of its id.
func (c *conn) job(ctx context.Context, prefix string) (client.Job, error) {
	id, err := c.find(ctx, prefix)
	if err != nil {
		return client.Job{}, err
	}
	job, err := c.Get(ctx, id)
	if errors.Is(err, navvy.ErrCorrupt) {
		err = withHint(err, damageHint)
	}
	return job, err
}

// find turns the beginning of an id into the whole.
func (c *conn) find(ctx context.Context, prefix string) (navvy.JobID, error) {
	id, err := c.Find(ctx, prefix)
	if errors.Is(err, navvy.ErrInvalid) || errors.Is(err, navvy.ErrNotFound) {
		err = withHint(err, "navvy ls shows the ids of jobs")
	}
	return id, err
}

// statusRows are what there is to say about a job, a line each.
func statusRows(j *client.Job) [][]string {
	s, c := &j.Status, j.Status.Counts
	namespace, template := podsOf(&j.Job)
	rows := [][]string{
		{"job", string(j.ID)}, {"name", j.Name}, {"owner", j.Owner}, {"state", stateWord(s)}, {"why", s.Why}, {"waits", s.Waiting},
		{"queue", queueOf(j)}, {"priority", priorityOf(j)},
		{"tasks", done(s) + " done"}, {"queued", blankZero(c.Queued)}, {"running", blankZero(c.Running)},
		{"succeeded", blankZero(c.Succeeded)}, {"failed", blankZero(c.Failed)}, {"stopped", blankZero(c.Stopped)},
		{workWord(&j.Spec), commandOf(&j.Job)},
	}
	if command := j.Spec.Command; command != nil {
		rows = append(rows, []string{"directory", command.Dir})
	}
	if s := j.Spec.Service; s != nil {
		rows = append(rows, []string{"directory", s.Dir})
		if p := s.Package; p != nil {
			rows = append(rows, []string{"package", p.String() + " of " + p.Owner})
		}
	}
	if f := j.Spec.Function; f != nil {
		rows = append(rows, []string{"function", f.ID})
	}
	rows = append(rows, []string{"limits", limitsText(&j.Spec.Limits)}, []string{"isolation", isolationText(&j.Spec)},
		[]string{"runs on", labelsText(j.Spec.Labels)}, []string{"resources", resourcesText(j.Spec.Resources)},
		[]string{"files in", stagedIn(&j.Spec.Stage)}, []string{"files out", stagedOut(&j.Spec.Stage)},
		[]string{"mounts", stagedMounts(&j.Spec.Stage)}, []string{"namespace", namespace}, []string{"pod template", template})
	if j.Parallelism > 0 {
		rows = append(rows, []string{"at once", strconv.Itoa(j.Parallelism)})
	}
	rows = append(rows, jobUsageRows(s)...)
	rows = append(rows, []string{"accepted", moment(j.Accepted)}, []string{"finished", moment(s.Finished)}, []string{"expires", moment(s.Expires)})
	return filled(rows)
}

// workWord names what the tasks of a job do.
func workWord(s *navvy.Spec) string {
	if s.Service != nil {
		return "service"
	}
	if s.Container != nil {
		return "container"
	}
	return "command"
}

// filled are the rows that say something.
func filled(rows [][]string) [][]string {
	return slices.DeleteFunc(rows, func(row []string) bool { return row[1] == "" })
}

// jobUsageRows say what the attempts of a job used together, and one of them at most.
func jobUsageRows(s *navvy.Status) [][]string {
	together, most := s.Usage, navvy.Usage{MaxMemory: s.Usage.MaxMemory, MaxPIDs: s.Usage.MaxPIDs}
	together.MaxMemory, together.MaxPIDs = 0, 0
	return [][]string{
		{"attempts", blankZero(s.Attempts)},
		{"used", strings.Join(usageWords(&together), ", ")}, {"by one", strings.Join(usageWords(&most), ", ")},
	}
}

// moment is a point in time for people; empty if there is none.
func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format("2006-01-02 15:04:05")
}

// overviewObject is the whole as -o json shows it.
type overviewObject struct {
	Version  string         `json:"version"`
	Holder   int64          `json:"holder,omitempty"` // its process id
	Store    string         `json:"store"`
	Free     *uint64        `json:"free_bytes,omitempty"` // nil if nobody can tell
	Full     bool           `json:"full"`
	Draining bool           `json:"draining"`
	Active   []jobObject    `json:"active"`
	Workers  []workerObject `json:"workers"`
	Policy   string         `json:"policy,omitempty"` // the file
	Role     string         `json:"role,omitempty"`   // ours in it
	// Abilities are those of this machine, where no workers but its own will come.
	Abilities []abilitiesObject `json:"abilities,omitempty"`
}

type workerObject struct {
	Name      string            `json:"name"`
	Kinds     []string          `json:"kinds"`
	Running   int64             `json:"running"`
	Abilities []abilitiesObject `json:"abilities"`

	Labels     map[string]string `json:"labels,omitempty"`
	CPUs       float64           `json:"cpus,omitempty"`
	Memory     int64             `json:"memory,omitempty"` // bytes
	Resources  map[string]int64  `json:"resources,omitempty"`
	Quarantine string            `json:"quarantine,omitempty"` // why it gets no tasks
	Owners     string            `json:"owners,omitempty"`     // whose tasks it runs, in words
}

func (a *app) overview(ctx context.Context, c *conn, f *listFlags) error {
	m, err := c.Overview(ctx)
	if err != nil {
		return err
	}
	o := overviewObject{
		Version: m.GetVersion(), Store: m.GetStore(), Free: m.Free, Full: m.GetFull(), Draining: m.GetDraining(),
		Active: []jobObject{}, Workers: []workerObject{}, Abilities: newAbilities(m.GetAbilities()),
		Policy: m.GetPolicy(),
	}
	if o.Policy != "" {
		o.Role = m.GetRole()
	}
	if c.remote != nil {
		o.Holder = m.GetPid()
	}
	var rows [][]string
	for _, active := range m.GetActive() {
		job := toClientJob(active)
		o.Active = append(o.Active, newJobObject(&job))
		rows = append(rows, jobRow(&job))
	}
	for _, w := range m.GetWorkers() {
		o.Workers = append(o.Workers, workerObject{
			Name: w.GetName(), Kinds: w.GetKinds(), Running: w.GetRunning(), Abilities: newAbilities(w.GetAbilities()),
			Labels: w.GetOffer().GetLabels(), CPUs: float64(w.GetOffer().GetCpusMilli()) / 1000, Memory: w.GetOffer().GetMemory(),
			Resources: w.GetOffer().GetResources(), Quarantine: w.GetQuarantine(), Owners: w.GetOwners(),
		})
	}
	if f.output != "table" {
		return f.one(a.out, o)
	}
	glance := o.glance()
	if err := format.Table(a.out, nil, glance); err != nil || len(rows) == 0 {
		return err
	}
	if _, err := fmt.Fprintln(a.out); err != nil {
		return err
	}
	return a.jobTable(rows, c.whoever())
}

// glance is the whole but its jobs, a line each.
func (o *overviewObject) glance() [][]string {
	holder := "nobody: no task runs now"
	if o.Holder != 0 {
		holder = fmt.Sprintf("process %d", o.Holder)
		if o.Draining {
			holder += ", which is about to end"
		}
	}
	glance := [][]string{{"version", o.Version}, {"store", o.Store}, {"held by", holder}}
	if o.Free != nil {
		glance = append(glance, []string{"free", quantity.Size(int64(*o.Free))})
	}
	if o.Full {
		glance = append(glance, []string{"disk", "FULL: new jobs are refused; with no space left answers wait and nothing starts"})
	}
	for _, w := range o.Workers {
		glance = append(glance, []string{"worker", fmt.Sprintf("%s, %d running", w.Name, w.Running)})
		if w.Quarantine != "" {
			glance = append(glance, []string{"", w.Quarantine})
		}
		if w.Owners != "" {
			glance = append(glance, []string{"", w.Name + " " + w.Owners})
		}
	}
	for _, w := range o.Workers {
		if len(o.Abilities) == 0 {
			glance = append(glance, abilityRows(w.Name+", ", w.Abilities)...)
		}
	}
	glance = append(glance, abilityRows("", o.Abilities)...)
	if o.Policy != "" {
		glance = append(glance, []string{"policy", fmt.Sprintf("%s, as role %s", o.Policy, o.Role)})
	}
	return glance
}

func toClientJob(m *navvyv1.JobStatus) client.Job {
	return client.Job{Job: api.ToJob(m.GetJob()), Status: api.ToStatus(m.GetStatus())}
}

func newWait(a *app) *cobra.Command {
	f := &listFlags{}
	quiet := false
	cmd := &cobra.Command{
		Use: "wait [flags] ID…", Short: "wait until jobs have ended, and exit as map would",
		Example: `  navvy wait 7k2
  navvy wait $(navvy map -d -- ./score.sh < inputs.txt) && echo fine`,
		Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.completeJobs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return err
			}
			a.quiet = quiet
			return a.waitAll(cmd.Context(), f, args)
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&quiet, "quiet", false, "print nothing but errors")
	return cmd
}

// waitAll waits for each job, and fails as the first of them that did.
func (a *app) waitAll(ctx context.Context, f *listFlags, prefixes []string) error {
	out := f.objects(a.out)
	code := api.ExitOK
	for _, prefix := range prefixes {
		job, err := a.wait(ctx, prefix)
		if job != nil && !a.quiet && f.output != "table" {
			err = errors.Join(err, out.add(newJobObject(job)))
		}
		if err != nil {
			code = cmp.Or(code, a.report(err))
		}
	}
	if !a.quiet {
		if err := out.close(); err != nil {
			return err
		}
	}
	if code != api.ExitOK {
		return &exitError{code: code}
	}
	return nil
}

// await is client.Wait that tells what keeps the job from going on.
func (a *app) await(ctx context.Context, c *conn, id navvy.JobID) (last navvy.Status, err error) {
	for st, err := range c.Watch(ctx, id, false) {
		if err != nil {
			return navvy.Status{}, err
		}
		a.sayWaiting(id, &last, &st)
		last = st
	}
	return last, nil
}

// sayWaiting says why nothing of a job starts or gets on, where that is news, and when that is over.
func (a *app) sayWaiting(id navvy.JobID, before, now *navvy.Status) {
	switch {
	case now.Waiting == before.Waiting:
	case now.Waiting != "":
		a.say("job %s waits: %s", id, now.Waiting)
	case !now.Held && !now.State().Final():
		a.say("job %s waits no longer", id)
	}
}

// wait follows a job over as many holders as it takes. Its error is the job's
// verdict; the job is nil if there is none.
func (a *app) wait(ctx context.Context, prefix string) (*client.Job, error) {
	var job client.Job
	a.waits = true
	for again := true; again; {
		err := a.with(ctx, needLook, func(c *conn) error {
			var err error
			if job, err = c.job(ctx, prefix); err != nil {
				return err
			}
			prefix = string(job.ID)
			if c.holder != nil {
				// Nobody runs anything: what there is to know is known.
				again = false
				return nil
			}
			job.Status, err = a.await(ctx, c, job.ID)
			if again = err != nil && c.lost(err); again {
				return nil
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	if !job.Status.State().Final() && !job.Status.Held {
		return &job, withHint(fmt.Errorf("job %s waits, and nobody runs it: %w", job.ID, navvy.ErrUnavailable), "go on with: navvy resume %s", job.ID)
	}
	return &job, a.verdict(job.ID, &job.Status, 0)
}
