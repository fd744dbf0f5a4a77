package team

import (
	"errors"
	"testing"

	domain "github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/test/lifetest"
)

// wellRecord is what a life leaves in which all is well: a job of two tasks, the second
// of which was lost once, and went on beside its next attempt.
func wellRecord() *record {
	j := &job{owner: "ann", name: "job0", inputs: 2, id: "j", client: &proc{}}
	o := &outcome{job: j, found: 1, tasks: []client.Task{
		{Result: &domain.Result{Attempt: domain.Attempt{ID: domain.AttemptID{Number: 1, Epoch: 1}}}},
		{
			Result:   &domain.Result{Attempt: domain.Attempt{ID: domain.AttemptID{Number: 2, Epoch: 1}}},
			Attempts: []domain.Attempt{{ID: domain.AttemptID{Number: 1, Epoch: 1}, Outcome: domain.OutcomeLost}},
		},
	}}
	for i := range 2 {
		a := lifetest.AnswerTo(i)
		o.results = append(o.results, result{Index: i, State: "succeeded", Stdout: string(a.Stdout), Stderr: string(a.Stderr), Attempts: 1})
		o.printed = append(o.printed, a.Stdout...)
	}
	return &record{
		jobs: []*outcome{o}, begun: []string{"j-0-1.1", "j-1-1.1", "j-1-2.1"}, overlaps: [][2]string{{"j-1-2.1", "j-1-1.1"}},
		dirs:    map[string]string{"j-0-1.1": "/w0/worker/work/j-0-1.1", "j-1-1.1": "/w1/worker/work/j-1-1.1", "j-1-2.1": "/w0/worker/work/j-1-2.1"},
		trouble: map[string]bool{"w1": true},
	}
}

// TestBrokenPromises breaks promises on purpose, and sees that the check says so.
func TestBrokenPromises(t *testing.T) {
	t.Parallel()
	if bad := wellRecord().check(); len(bad) > 0 {
		t.Fatalf("all is well, and the check says %v", bad)
	}
	for _, broken := range []struct {
		what   string
		damage func(*record, *outcome)
		want   error
	}{
		{"a job is lost", func(_ *record, o *outcome) { o.found = 0 }, errLost},
		{"a job is there twice", func(_ *record, o *outcome) { o.found = 2 }, errTwice},
		{"an answer is lost", func(_ *record, o *outcome) { o.results = o.results[:1] }, errLost},
		{"an answer is there twice", func(_ *record, o *outcome) { o.results[1] = o.results[0] }, errTwice},
		{"output is not what was written", func(_ *record, o *outcome) { o.results[1].Stdout += "!" }, errOutput},
		{"a state is wrong", func(_ *record, o *outcome) { o.results[1].State = "failed" }, errOutput},
		{"an answer is not printed", func(_ *record, o *outcome) { o.printed = lifetest.AnswerTo(1).Stdout }, errPrinted},
		{"an answer is printed twice", func(_ *record, o *outcome) { o.printed = append(o.printed, o.printed...) }, errPrinted},
		{"a killed client printed something else", func(_ *record, o *outcome) { o.killed, o.printed = true, []byte("x") }, errPrinted},
		{"a viewer fails", func(_ *record, o *outcome) { o.views = []view{{"logs", 2, ""}} }, errLost},
		{"a viewer misses an answer", func(_ *record, o *outcome) { o.views = []view{{"results", 0, ""}} }, errLost},
		{"a number is given twice", func(r *record, _ *outcome) { r.begun = append(r.begun, "j-0-1.1") }, errNumber},
		{"a task runs again without need", func(r *record, _ *outcome) { r.begun = append(r.begun, "j-0-2.1") }, errStray},
		{"an answer comes from nowhere", func(r *record, _ *outcome) { r.begun = r.begun[1:] }, errStray},
		{"attempts overlap within a lease", func(_ *record, o *outcome) { o.tasks[1].Attempts[0].Outcome = domain.OutcomeFailed }, errOverlap},
		{"an attempt that has lost its lease begins, and its worker was there", func(r *record, o *outcome) {
			r.overlaps, r.trouble = [][2]string{{"j-1-1.1", "j-1-2.1"}}, nil
		}, errOverlap},
		{"a server runs again what its worker still ran", func(r *record, _ *outcome) {
			r.overlaps = [][2]string{{"j-0-1.2", "j-0-1.1"}}
		}, errOverlap},
	} {
		t.Run(broken.what, func(t *testing.T) {
			r := wellRecord()
			broken.damage(r, r.jobs[0])
			for _, bad := range r.check() {
				if errors.Is(bad, broken.want) {
					return
				}
			}
			t.Errorf("the check says %v", r.check())
		})
	}
	r := wellRecord()
	r.overlaps = [][2]string{{"j-1-1.1", "j-1-2.1"}}
	if bad := r.check(); len(bad) > 0 {
		t.Errorf("a task came late to a worker that was away, and the check says %v", bad)
	}
	r = wellRecord()
	r.overlaps = [][2]string{{"j-1-1.2", "j-1-1.1"}}
	r.jobs[0].tasks[1].Attempts = nil
	r.begun = []string{"j-0-1.1", "j-1-1.1", "j-1-1.2"}
	r.jobs[0].tasks[1].Result.ID = domain.AttemptID{Number: 1, Epoch: 2}
	if bad := r.check(); len(bad) > 0 {
		t.Errorf("a worker was away while its server died, and the check says %v", bad)
	}
}
