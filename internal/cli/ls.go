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
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/internal/cli/format"
)

func newLs(a *app) *cobra.Command {
	f := &listFlags{}
	limit := 0
	all := false
	cmd := &cobra.Command{
		Use: "ls [flags]", Short: "list jobs, newest first",
		Long: `ls lists jobs, newest first: the last 50, or all with --all. It warns of answers
that nobody has read and that expire soon. Of a job whose record is damaged it
tells the id and what is wrong, and then exits with 65. Whose jobs they are it tells
when some are not yours, which an administrator or a viewer of a server sees.`,
		Example: `  navvy ls
  navvy ls --all -o jsonl | jq -r 'select(.failed > 0) | .id'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(); err != nil {
				return err
			}
			if limit < 1 {
				return usagef("-n %d: want 1 or more, or --all", limit)
			}
			if all {
				limit = 0
			}
			return a.with(cmd.Context(), needLook, func(c *conn) error { return a.ls(cmd.Context(), c, f, limit) })
		},
	}
	f.add(cmd)
	cmd.Flags().IntVarP(&limit, "limit", "n", 50, "at most so many")
	cmd.Flags().BoolVar(&all, "all", false, "all of them")
	return cmd
}

// soon is how long before its end an unread job is warned of.
const soon = 3 * 24 * time.Hour

func (a *app) ls(ctx context.Context, c *conn, f *listFlags, limit int) error {
	out := f.objects(a.out)
	var rows [][]string
	var unread expiring
	n, broken := 0, 0
	more := false
	for job, err := range c.Jobs(ctx) {
		bad := damagedJob(&job, err)
		if err != nil && !bad {
			return err
		}
		if more = limit > 0 && n == limit; more {
			break
		}
		n++
		var row []string
		var object any
		if bad {
			broken++
			a.say("job %s is damaged: %v", job.ID, err)
			row, object = []string{string(job.ID), "", "", "damaged"}, damagedObject{job.ID, "damaged", err.Error()}
		} else {
			unread.look(&job)
			row, object = jobRow(&job), newJobObject(&job)
		}
		if f.output == "table" {
			rows = append(rows, row)
		} else if err := out.add(object); err != nil {
			return err
		}
	}
	if len(unread.ids) > 0 {
		a.say("nobody has read the answers of %s, and %s; keep them with: navvy results ID > FILE", strings.Join(unread.ids, ", "), unread.when())
	}
	if f.output != "table" {
		return cmp.Or(out.close(), damageError(broken))
	}
	if n == 0 {
		a.say("there are no jobs yet")
		return nil
	}
	if err := a.jobTable(rows, c.whoever()); err != nil {
		return err
	}
	if more {
		a.say("there are more: navvy ls --all")
	}
	return damageError(broken)
}

// damagedJob tells whether a job in a list came with an error of its own, and
// others may follow.
func damagedJob(j *client.Job, err error) bool { return errors.Is(err, navvy.ErrCorrupt) && j.ID != "" }

// damagedObject is a job that cannot be read, as -o json shows it.
type damagedObject struct {
	ID    navvy.JobID `json:"id"`
	State string      `json:"state"`
	Error string      `json:"error"`
}

// damageError ends a list in which so many jobs are damaged; nil if none is.
func damageError(n int) error {
	if n == 0 {
		return nil
	}
	return &exitError{api.ExitCorrupt, withHint(fmt.Errorf("damaged jobs: %d", n), damageHint)}
}

// damageHint is what to do about a damaged job.
const damageHint = "navvy verify says what is wrong, navvy rm --force ID removes the job with its answers"

// expiring are jobs whose answers nobody has read and that expire soon.
type expiring struct {
	ids   []string
	first time.Time // when the first of them expires
}

// look takes the job in, if it is one of them.
func (e *expiring) look(j *client.Job) {
	s := &j.Status
	if s.Expires.IsZero() || s.Read || time.Until(s.Expires) >= soon {
		return
	}
	e.ids = append(e.ids, string(j.ID))
	if e.first.IsZero() || s.Expires.Before(e.first) {
		e.first = s.Expires
	}
}

// when says when they expire.
func (e *expiring) when() string {
	who := "they expire"
	if len(e.ids) > 1 {
		who = "the first of them expires"
	}
	left := time.Until(e.first)
	if left < time.Minute {
		return who + " any moment now"
	}
	return who + " in " + format.Duration(left)
}

func jobRow(j *client.Job) []string {
	c := j.Status.Counts
	took := ""
	if !j.Status.Finished.IsZero() {
		took = format.Duration(j.Status.Finished.Sub(j.Accepted))
	}
	return []string{
		string(j.ID), j.Name, j.Owner, stateWord(&j.Status), done(&j.Status), blankZero(c.Failed), blankZero(c.Running),
		format.Duration(time.Since(j.Accepted)), took, queueOf(j), priorityOf(j), short(commandOf(&j.Job)),
	}
}

// queueOf and priorityOf are empty if they are what a job gets that asks for none.
func queueOf(j *client.Job) string {
	if j.Queue == navvy.DefaultQueue {
		return ""
	}
	return j.Queue
}

func priorityOf(j *client.Job) string {
	if j.Priority == 0 {
		return ""
	}
	return strconv.Itoa(int(j.Priority))
}

var jobHeader = []string{"ID", "NAME", "OWNER", "STATE", "DONE", "FAILED", "RUNNING", "AGE", "TOOK", "QUEUE", "PRIORITY", "COMMAND"}

// jobTable prints jobs; queue and priority only if one of them has another than the
// default, and owners only if one of them is not us.
func (a *app) jobTable(rows [][]string, me string) error {
	header := slices.Clone(jobHeader)
	for _, column := range []struct{ name, usual string }{{"OWNER", me}, {"QUEUE", ""}, {"PRIORITY", ""}} {
		at := slices.Index(header, column.name)
		if slices.ContainsFunc(rows, func(row []string) bool { return len(row) > at && row[at] != "" && row[at] != column.usual }) {
			continue
		}
		header = slices.Delete(header, at, at+1)
		for i, row := range rows {
			if len(row) > at { // that of a damaged job ends before
				rows[i] = slices.Delete(row, at, at+1)
			}
		}
	}
	return format.Table(a.out, header, rows)
}

// stateWord is the state, or why it does not move.
func stateWord(s *navvy.Status) string {
	switch {
	case s.Held:
		return "held"
	case s.Cut && s.State().Final():
		return s.State().String() + " (cut)"
	default:
		return s.State().String()
	}
}

func done(s *navvy.Status) string {
	total := format.Count(s.Counts.Total())
	if s.Open {
		total += "+"
	}
	return format.Count(s.Counts.Answered()) + "/" + total
}

func blankZero(n int64) string {
	if n == 0 {
		return ""
	}
	return format.Count(n)
}

const shortLength = 60

// short cuts a text that is too long for a table.
func short(text string) string {
	text = strings.ReplaceAll(text, "\n", " ")
	if runes := []rune(text); len(runes) > shortLength {
		return string(runes[:shortLength-1]) + "…"
	}
	return text
}

// completeJobs completes ids of jobs.
func (a *app) completeJobs(cmd *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
	var ids []string
	err := a.with(cmd.Context(), needLook, func(c *conn) error {
		for job, err := range c.Jobs(cmd.Context()) {
			bad := damagedJob(&job, err)
			if err != nil && !bad {
				return err
			}
			about := "damaged"
			if !bad {
				about = stateWord(&job.Status) + " " + short(commandOf(&job.Job))
			}
			if strings.HasPrefix(string(job.ID), prefix) {
				ids = append(ids, string(job.ID)+"\t"+about)
			}
			if len(ids) == 50 {
				break
			}
		}
		return nil
	})
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return ids, cobra.ShellCompDirectiveNoFileComp
}
