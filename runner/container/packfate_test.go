package container

import (
	"context"
	"errors"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/container/inpod"
	"github.com/navvy-run/navvy/runner/driver"
)

// newStory is a run of tasks in a pod whose log the test writes.
func newStory(t *testing.T, n int64) (*packRun, []*member) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	d := &Driver{ctx: ctx, spaces: newSpaces()}
	d.packs = newPacks(ctx, func(*pack) {})
	s := &space{driver: d}
	r := s.newPackRun(nil, &batchv1.Job{})
	t.Cleanup(r.cancel)
	list := make([]*member, n)
	for i := range list {
		list[i] = newMember(&driver.Task{ID: navvy.TaskID{Index: int64(i)}})
		r.attach(list[i])
	}
	return r, list
}

// fates are what the end of the pod means for tasks.
func (r *packRun) fates(list []*member, end driver.End) []fate {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]fate, len(list))
	for i, m := range list {
		out[i] = r.fateLocked(m, end, nil)
	}
	return out
}

// A task whose own end is in a gap of the log does not take its pod's: it may have ended well.
func TestPackGap(t *testing.T) {
	t.Parallel()
	r, list := newStory(t, 3)
	r.frame(inpod.Frame{Seq: 0, Kind: inpod.KindBegin, Index: 0})
	r.frame(inpod.Frame{Seq: 5, Kind: inpod.KindBegin, Index: 1})
	for name, end := range map[string]driver.End{
		"memory":  {Exit: navvy.Exit{Signal: 9}, Usage: navvy.Usage{OOMKills: 1}},
		"evicted": {Refusal: &driver.Refusal{Reason: navvy.ReasonStart, Message: "evicted"}},
	} {
		got := r.fates(list, end)
		if away := (*driver.Away)(nil); got[0].err == nil || errors.As(got[0].err, &away) {
			t.Errorf("%s: a task whose end is missing ended as %+v", name, got[0])
		}
		if got[1].err != nil || got[1].end != end {
			t.Errorf("%s: the task that ran ended as %+v", name, got[1])
		}
	}
}

// Somebody else's deletion of a shared pod is no failure of the tasks in it: another navvy may have
// ended it for the sake of a task of its own.
func TestPackDeletedFate(t *testing.T) {
	t.Parallel()
	r, list := newStory(t, 2)
	r.frame(inpod.Frame{Seq: 0, Kind: inpod.KindBegin, Index: 0})
	for i, f := range r.fates(list, refused(navvy.ReasonDeleted, "deleted").end) {
		if _, away := errors.AsType[*driver.Away](f.err); !away {
			t.Errorf("task %d ended as %+v", i, f)
		}
	}
	if f := r.fates(list, refused(navvy.ReasonStart, "evicted").end)[0]; f.err != nil || f.end.Refusal == nil {
		t.Errorf("evicted for its own fault it ended as %+v", f)
	}
}

// sharedJob is one of tasks whose tokens are given, as its maker left it.
func sharedJob(tokens ...string) *batchv1.Job {
	job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{
		Name: "navvy-pack", UID: "0a1b2c3d-0000-8000-8000-000000000000",
		Labels: map[string]string{labelPack: "n"}, Annotations: map[string]string{annotationAttempt: packToken + "x"},
	}}
	for i, token := range tokens {
		job.Annotations[taskAnnotation(int64(i))] = token
	}
	return job
}

// claim has an attempt take over its task of a Job.
func claim(t *testing.T, job *batchv1.Job, task *driver.Task) {
	t.Helper()
	changes, err := packClaim(job, task)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range changes {
		job.Annotations[name] = value.(string)
	}
}

// A Job that another navvy has tasks of is not ended by the one that made it, neither for a task
// that is to end nor when all of its own have ended; nor for a create whose answer was lost.
func TestPackOthers(t *testing.T) {
	t.Parallel()
	r, list := newStory(t, 3)
	job := sharedJob("j-0-1.1", "j-1-1.1", "j-2-1.1")
	r.driver.packs.mu.Lock()
	for i, m := range list {
		m.task.Token = job.Annotations[taskAnnotation(int64(i))]
		r.driver.packs.holdLocked(r.space, job, m.task.Token)
	}
	r.driver.packs.mu.Unlock()
	list[0].stopped = true
	if !r.ours(job) || !r.driver.packs.hasAll(job) {
		t.Error("what nobody else has is not this navvy's")
	}
	claim(t, job, &driver.Task{ID: navvy.TaskID{Index: 2}, Attempt: navvy.AttemptID{Number: 2, Epoch: 1}, Token: "j-2-2.1"})
	if r.ours(job) || r.driver.packs.hasAll(job) {
		t.Error("it would end the task that another navvy has")
	}
	if job.Annotations[annotationAttempt] == packToken+"x" {
		t.Error("whoever gave up making it would delete it")
	}
	for _, m := range list {
		r.finish(m, driver.End{}, nil)
	}
	if r.ours(job) {
		t.Error("once its own have ended it would end another navvy's")
	}
	r.driver.packs.mu.Lock()
	r.driver.packs.holdLocked(r.space, job, "j-2-2.1")
	r.driver.packs.mu.Unlock()
	if !r.ours(job) || !r.driver.packs.hasAll(job) {
		t.Error("it was this navvy that took the task over")
	}
}

// An attempt that was replaced meanwhile does not take its task back from the one that has it.
func TestPackNewer(t *testing.T) {
	t.Parallel()
	job := sharedJob("0198c0de-j-0-2.3", "strange")
	for id, want := range map[navvy.AttemptID]bool{{Number: 1, Epoch: 3}: true, {Number: 9, Epoch: 2}: true, {Number: 2, Epoch: 3}: false, {Number: 1, Epoch: 4}: false} {
		_, err := packClaim(job, &driver.Task{Attempt: id, Token: "mine"})
		if _, away := errors.AsType[*driver.Away](err); away != want {
			t.Errorf("attempt %s: %v", id, err)
		}
	}
	if _, err := packClaim(job, &driver.Task{ID: navvy.TaskID{Index: 1}, Token: "mine"}); err != nil {
		t.Error(err)
	}
}
