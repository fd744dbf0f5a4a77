package container

import (
	"context"
	"errors"
	"testing"

	batchv1 "k8s.io/api/batch/v1"

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
