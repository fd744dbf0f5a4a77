package team

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	domain "github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/test/lifetest"
)

// What may turn out to be broken.
var (
	errLost    = errors.New("something that was accepted is not there")
	errTwice   = errors.New("something is there twice")
	errOutput  = errors.New("a result is not what the task wrote")
	errPrinted = errors.New("what was printed is not each answer once, in order")
	errOverlap = errors.New("two attempts of a task ran at once")
	errNumber  = errors.New("two attempts have one number")
	errStray   = errors.New("an attempt ran of which nobody knows")
)

// result is what navvy results says of a task.
type result struct {
	Index          int
	State, Reason  string
	ExitCode       int `json:"exit_code"`
	Stdout, Stderr string
	Attempts       int
}

// record is what a life has left, to be compared with what was promised.
type record struct {
	jobs     []*outcome
	begun    []string    // the attempts that have begun
	overlaps [][2]string // who began while another ran, and that other
	dirs     map[string]string
	trouble  map[string]bool // workers that may have lost leases that nobody has on record
}

// outcome is what became of a job.
type outcome struct {
	*job
	found   int // how many jobs there are of that name
	code    int // the exit code of its client
	results []result
	tasks   []client.Task
	printed []byte
	views   []view
}

// view is what a viewer has seen.
type view struct {
	verb string
	code int
	text string
}

// record reads what there is, when all has ended.
func (l *life) record() *record {
	l.Helper()
	r := &record{dirs: map[string]string{}, trouble: l.trouble}
	byName := map[string][]domain.JobID{}
	for j, err := range l.admin.Jobs(l.Context()) {
		l.must(err)
		byName[j.Name] = append(byName[j.Name], j.ID)
	}
	for _, j := range l.jobs {
		o := &outcome{job: j, found: len(byName[j.name])}
		if j.client != nil {
			o.code = l.awaitEnd(j.client)
			o.printed = []byte(l.text(j.client.out))
		}
		if j.id == "" && o.found > 0 {
			j.id = byName[j.name][0]
		}
		if j.id != "" {
			o.results = l.readResults(j)
			for i := range o.results {
				o.tasks = append(o.tasks, l.task(j.id, int64(i)))
			}
		}
		r.jobs = append(r.jobs, o)
	}
	for _, v := range l.viewers {
		code := l.awaitEnd(v.proc)
		o := r.jobs[slices.Index(l.jobs, v.job)]
		o.views = append(o.views, view{v.verb, code, l.text(v.out)})
	}
	for _, line := range lines(l, filepath.Join(l.traces, begun)) {
		f := strings.Fields(line)
		r.begun = append(r.begun, f[0])
		r.dirs[f[0]] = f[1]
	}
	for _, line := range lines(l, filepath.Join(l.traces, overlaps)) {
		now, before, _ := strings.Cut(line, " ")
		r.overlaps = append(r.overlaps, [2]string{now, before})
	}
	if worst := l.stall(); worst > l.beat/2 {
		l.note("this process got no time for %s", worst)
		for _, name := range crewNames {
			r.trouble[name] = true
		}
	}
	return r
}

// stall tells how long the machine had no time for us.
func (l *life) stall() time.Duration {
	close(l.over)
	return <-l.stalls
}

func (l *life) readResults(j *job) (list []result) {
	l.Helper()
	p := l.start("results", l.as(j.owner), "results", "-o", "jsonl", string(j.id))
	if code := l.awaitEnd(p); code != 0 {
		l.Errorf("results of %s: exit code %d: %s", j.name, code, tail(p.err))
	}
	list, err := parseResults(l.text(p.out))
	l.must(err)
	return list
}

func parseResults(text string) (list []result, err error) {
	dec := json.NewDecoder(strings.NewReader(text))
	for dec.More() {
		var r result
		if err := dec.Decode(&r); err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	return list, nil
}

// check gives what was promised and is not so.
func (r *record) check() (bad []error) {
	for _, o := range r.jobs {
		bad = append(bad, o.check()...)
		bad = append(bad, r.checkAttempts(o)...)
	}
	seen := map[string]bool{}
	for _, token := range r.begun {
		if seen[token] {
			bad = append(bad, fmt.Errorf("%w: %s", errNumber, token))
		}
		seen[token] = true
	}
	for _, o := range r.overlaps {
		if !r.mayOverlap(o[0], o[1]) {
			bad = append(bad, fmt.Errorf("%w: %s began while %s ran", errOverlap, o[0], o[1]))
		}
	}
	return bad
}

func (o *outcome) accepted() bool {
	return o.client == nil || !o.killed && (o.code == 0 || o.code == 1) || o.found > 0
}

func (o *outcome) check() (bad []error) {
	violate := func(what error, format string, args ...any) {
		bad = append(bad, fmt.Errorf("%s: %w: %s", o.name, what, fmt.Sprintf(format, args...)))
	}
	if o.found > 1 {
		violate(errTwice, "%d jobs", o.found)
	}
	if !o.accepted() {
		if len(o.printed) > 0 {
			violate(errPrinted, "%q of a job that does not exist", o.printed)
		}
		return bad
	}
	if o.found == 0 {
		violate(errLost, "the job")
	}
	if err := o.checkResults(o.results); err != nil {
		bad = append(bad, err)
	}
	if o.client != nil {
		o.checkPrinted(violate)
	}
	for _, v := range o.views {
		list, err := parseResults(v.text)
		switch {
		case v.code != 0 && v.code != 1 && v.code != 69: // it never met the server
			violate(errLost, "%s ends with exit code %d", v.verb, v.code)
		case v.verb != "results" || v.code == 69:
		case err != nil:
			violate(errOutput, "results prints %q", v.text)
		default:
			if err := o.checkResults(list); err != nil {
				bad = append(bad, fmt.Errorf("results --follow: %w", err))
			}
		}
	}
	return bad
}

// checkResults sees that each task has one answer, and which.
func (o *outcome) checkResults(list []result) error {
	if len(list) < o.inputs {
		return fmt.Errorf("%s: %w: %d of %d results", o.name, errLost, len(list), o.inputs)
	}
	if len(list) > o.inputs {
		return fmt.Errorf("%s: %w: %d results of %d tasks", o.name, errTwice, len(list), o.inputs)
	}
	for i, r := range list {
		want := lifetest.AnswerTo(i)
		switch {
		case r.Index != i:
			return fmt.Errorf("%s: %w: the result of task %d comes as number %d", o.name, errTwice, r.Index, i)
		case r.Reason == string(domain.ReasonLost) && r.Attempts == 3 && r.State == "failed":
		case o.poison:
			return fmt.Errorf("%s: %w: a task that kills its workers is %+v", o.name, errOutput, r)
		case !want.Equal(r.Stdout, r.Stderr, r.ExitCode) || (r.State == "succeeded") != (want.Code == 0):
			return fmt.Errorf("%s: %w: task %d %s, exit code %d, stdout of %d bytes %.60q, should be %d bytes %.60q",
				o.name, errOutput, i, r.State, r.ExitCode, len(r.Stdout), r.Stdout, len(want.Stdout), want.Stdout)
		}
	}
	return nil
}

// checkPrinted sees that who waited has printed all answers once, in order; who was
// killed, the first of them.
func (o *outcome) checkPrinted(violate func(what error, format string, args ...any)) {
	var want []byte
	for i, r := range o.results {
		if r.Reason != string(domain.ReasonLost) {
			want = append(want, lifetest.AnswerTo(i).Stdout...)
		}
	}
	switch {
	case o.killed && bytes.HasPrefix(want, o.printed):
	case !o.killed && o.code != 0 && o.code != 1 && len(o.printed) == 0: // it never met the server
	case !bytes.Equal(want, o.printed):
		violate(errPrinted, "%d bytes, should be %d; exit code %d", len(o.printed), len(want), o.code)
	}
}

// checkAttempts sees that what ran is what the server knows of: a task's answer, an
// attempt before it that is on record, or one of a server before the one that gave out
// the answer.
func (r *record) checkAttempts(o *outcome) (bad []error) {
	for i, task := range o.tasks {
		if o.poison || task.Result == nil {
			continue
		}
		prefix := fmt.Sprintf("%s-%d-", o.id, i)
		for _, token := range r.begun {
			rest, ok := strings.CutPrefix(token, prefix)
			if !ok {
				continue
			}
			id, err := domain.ParseAttemptID(rest)
			if err != nil {
				bad = append(bad, fmt.Errorf("%s: %w", token, err))
			}
			if id != task.Result.ID && id.Epoch >= task.Result.ID.Epoch && !onRecord(&task, id) {
				bad = append(bad, fmt.Errorf("%w: %s; the answer is that of %s", errStray, token, task.Result.ID))
			}
		}
		if task.Result.Reason != domain.ReasonLost && !slices.Contains(r.begun, prefix+task.Result.ID.String()) {
			bad = append(bad, fmt.Errorf("%w: the answer of task %d of %s is that of %s, which did not begin", errStray, i, o.name, task.Result.ID))
		}
	}
	return bad
}

func onRecord(task *client.Task, id domain.AttemptID) bool {
	return slices.ContainsFunc(task.Attempts, func(a domain.Attempt) bool { return a.ID == id }) || task.Result != nil && task.Result.ID == id
}

// mayOverlap tells whether an attempt may begin while another one of its task runs:
// that one has lost its lease, which is on record; or the server that knew of it died, and
// its worker was not there to tell the next one; or this one came so late to its worker,
// which was not there, that it had lost its own.
func (r *record) mayOverlap(now, before string) bool {
	i := strings.LastIndexByte(before, '-')
	if i < 0 || !strings.HasPrefix(now, before[:i+1]) {
		return false
	}
	if r.lostLease(before[:i], before[i+1:]) || r.wasAway(now) && r.lostLease(before[:i], now[i+1:]) {
		return true
	}
	id, err := domain.ParseAttemptID(before[i+1:])
	if err != nil {
		return false
	}
	next, err := domain.ParseAttemptID(now[i+1:])
	if err != nil {
		return false
	}
	return id.Epoch < next.Epoch && r.wasAway(before)
}

// lostLease tells whether an attempt of a task has lost its lease, which is on record.
func (r *record) lostLease(task, attempt string) bool {
	id, err := domain.ParseAttemptID(attempt)
	if err != nil {
		return false
	}
	for _, o := range r.jobs {
		for k := range o.tasks {
			if task == fmt.Sprintf("%s-%d", o.id, k) && slices.ContainsFunc(o.tasks[k].Attempts, func(a domain.Attempt) bool {
				return a.ID == id && a.Outcome == domain.OutcomeLost
			}) {
				return true
			}
		}
	}
	return false
}

// wasAway tells whether the worker of an attempt was not there for a while.
func (r *record) wasAway(attempt string) bool {
	for name, was := range r.trouble {
		if was && strings.Contains(r.dirs[attempt], "/"+name+"/worker/work/") {
			return true
		}
	}
	return false
}
