package sim

import (
	"fmt"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine"
	"github.com/navvy-run/navvy/manager"
)

// rule is one of the promises that the harness checks. Those with a letter are
// the invariants of the design.
type rule string

const (
	ruleDurable  rule = "(a) an acknowledged submit survives"
	ruleAnswered rule = "(b) each accepted task reaches exactly one result"
	ruleOnce     rule = "(c) at most one attempt's result is accepted"
	ruleLease    rule = "(d) no lease is honoured past its expiry"
	ruleStopped  rule = "(e) after stop nothing of the task runs"
	ruleOutput   rule = "(f) what a reader gets is a prefix of the attempt's bytes"
	ruleIDs      rule = "attempt ids never repeat"
	ruleAtomic   rule = "retry, remove, stop and hold are atomic"
	ruleTries    rule = "failed attempts count, also after a restart"
	ruleCounts   rule = "the counts are what a scan finds"
	ruleHeld     rule = "a held job runs nothing"
	ruleKey      rule = "an idempotency key never makes two jobs"
	ruleCut      rule = "a submission that was cut is gone, or held with what was acknowledged"
	ruleTables   rule = "the tables beside a job say what its state says"
	ruleSound    rule = "navvy verify finds nothing"
	ruleRegistry rule = "what was registered stays, all or nothing, and conditions hold"
	ruleValues   rule = "what was put stays with its version, and conditions hold"
	ruleFiles    rule = "a file appears whole and stays, conditions hold, and nothing is left of what is gone"
	ruleLetters  rule = "an answered message waits until it is acknowledged, and no longer"
	ruleCalls    rule = "a call fails only for a reason"
)

// violation is a promise that was broken.
type violation struct {
	rule rule
	what string
}

func (v *violation) Error() string { return string(v.rule) + ": " + v.what }

// model is what navvy has promised so far.
type model struct {
	registered registered
	values     values
	files      files
	jobs       []*job
	refs       map[manager.Ref]*run // every attempt that was ever given out
}

func newModel() *model { return &model{refs: map[manager.Ref]*run{}} }

// byID gives the job with an id, nil if nobody submitted it.
func (m *model) byID(id navvy.JobID) *job {
	for _, j := range m.jobs {
		if j.id == id {
			return j
		}
	}
	return nil
}

// face is how a job looks from outside.
type face struct {
	exists                   bool
	open, held, stopped, cut bool
	total                    int
	round                    uint32
	attached                 int // the boot in which a client was attached; 0 if it needs none
	parallelism              int // in place of what the spec says, if it is not 0
}

func (f face) String() string {
	if !f.exists {
		return "gone"
	}
	s := fmt.Sprintf("%d tasks, round %d, attached %d", f.total, f.round, f.attached)
	for name, set := range map[string]bool{", open": f.open, ", held": f.held, ", stopped": f.stopped, ", cut": f.cut} {
		if set {
			s += name
		}
	}
	return s
}

// heldIn tells whether nothing of a job that has not ended may start.
func (f face) heldIn(boot int) bool { return f.held || f.attached != 0 && f.attached != boot }

// crashed is what a job looks like after the process that served it has died.
func (f face) crashed(ended bool) face {
	if f.exists && f.open {
		f.open, f.cut = false, true
		f.held = f.held || !ended && !f.stopped
	}
	return f
}

// job is what was asked and answered about one job.
type job struct {
	n      int // for people
	id     navvy.JobID
	spec   navvy.Job
	stream bool
	inputs [][]byte // all that were handed over, acknowledged or not
	tasks  []*task

	sure  face   // what was acknowledged
	maybe []face // what it may look like instead, after a call that was cut
	retry engine.RetrySelection
	// ended, expires and round are as of the last look.
	ended   bool
	removed bool // it was there once
	mixed   bool // reports were settled while the last step was made
	expires time.Time
	// printed is what was noted as printed; perhaps what a cut call would have noted.
	printed, perhaps string

	leave func() error // its client goes; nil if it has none
}

func (j *job) String() string { return fmt.Sprintf("job %d", j.n) }

// task is one input of a job.
type task struct {
	runs     []*run
	answer   *run            // its result, as far as anybody knows
	answered uint32          // in which round it came
	history  map[uint32]*run // its results in earlier rounds
	// acked says that its letter was acknowledged; perhaps, that a call which would have
	// done so was cut.
	acked, perhaps bool
}

// since is the number of the attempt that ended the last round: later ones
// count against the retries of this one.
func (t *task) since() (number uint32) {
	for _, r := range t.history {
		number = max(number, r.id.Number)
	}
	return number
}

// run is one attempt.
type run struct {
	job     *job
	task    *task
	index   int64
	id      navvy.AttemptID
	boot    int
	round   uint32
	hand    *hand
	session *manager.Session
	slot    int
	// must is how long its lease is honoured for sure, may how long perhaps.
	must, may time.Time

	out     *written
	frames  int // written so far
	plan    navvy.Outcome
	streams bool // its output goes to the server as it comes
	sent    int  // bytes that did
	writer  *manager.OutputWriter

	told    bool // to stop
	over    bool // it does not run any more
	lost    bool // its session was closed before it reported
	reports []reported
	kept    bool // as a failed or interrupted attempt
}

// reported is what a worker said of a run.
type reported struct {
	session *manager.Session // through which it came
	acked   bool             // navvy has settled it
	outcome navvy.Outcome
	said    []byte // its output
	logged  bool
	wrong   bool // what it said of its output was not what it had sent
	must    bool // it came in time for sure
	may     bool // perhaps
}

func (r *run) ref() manager.Ref {
	return manager.Ref{Task: navvy.TaskID{Job: r.job.id, Index: r.index}, Attempt: r.id}
}

func ref(task navvy.TaskID, id navvy.AttemptID) manager.Ref {
	return manager.Ref{Task: task, Attempt: id}
}

func (r *run) String() string {
	return fmt.Sprintf("attempt %s of %d/%d", r.id, r.job.n, r.index)
}

// first is what counts: later reports of the same run are void.
func (r *run) first() *reported {
	if len(r.reports) == 0 {
		return nil
	}
	return &r.reports[0]
}

// mayBe tells whether navvy may hold that the run ended so.
func (r *run) mayBe(o navvy.Outcome, now time.Time) bool {
	first := r.first()
	switch o {
	case navvy.OutcomeSucceeded, navvy.OutcomeFailed, navvy.OutcomeInterrupted:
		return first != nil && first.may && !first.wrong && first.outcome == o
	case navvy.OutcomeLost:
		return r.lost || first != nil && (first.wrong || !first.must) || !now.Before(r.must)
	case navvy.OutcomeStale:
		return first != nil || r.mayBe(navvy.OutcomeLost, now)
	default:
		return false
	}
}
