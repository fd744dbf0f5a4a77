package server_test

import (
	"errors"
	"sync"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/server/auth"
)

// The names under which files are copied are of one job each, so that what goes with one
// is not another's; a job that is submitted once more under its key is still the first one.
func TestCopiedNames(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	ctx := t.Context()
	ann := w.as(t, "ann", auth.RoleUser)
	first := hasCopied(t, ann, "k1")
	job, err := ann.Get(ctx, first)
	if err != nil {
		t.Fatal(err)
	}
	again := navvy.Job{Spec: job.Job.Spec, Detached: true}
	for _, key := range []string{"", "key"} {
		again.IdempotencyKey = key
		if id, err := trySubmit(ctx, ann, again); !errors.Is(err, navvy.ErrConflict) {
			t.Errorf("another job with its spec, key %q: %q, %v", key, id, err)
		}
	}
	if got := fileNames(t, ann.Files(), ""); got != "return/k1/1/z transfer/k1/deep/y transfer/k1/x" {
		t.Errorf("there is %s", got)
	}
	if err := ann.Remove(ctx, first, false); err != nil {
		t.Fatal(err)
	}
	if got := fileNames(t, ann.Files(), ""); got != "" {
		t.Errorf("after it was removed: %s", got)
	}
	second, err := trySubmit(ctx, ann, again)
	if err != nil {
		t.Fatalf("when the first is gone with its files: %v", err)
	}
	if id, err := trySubmit(ctx, ann, again); err != nil || id != second {
		t.Errorf("under the same key: %q, %v, want %s", id, err, second)
	}
}

// Of many that ask for one name at once, one gets it; under one key they are all that one.
func TestCopiedNamesAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	ann := w.as(t, "ann", auth.RoleUser)
	for _, key := range []string{"", "key"} {
		stage := navvy.Stage{Transfer: "n" + key, In: []navvy.StagedInput{{From: "x"}}}
		job := navvy.Job{Spec: navvy.Spec{Command: &navvy.Command{Args: []string{"true"}}, Stage: stage}, Detached: true, IdempotencyKey: key}
		var all sync.WaitGroup
		var mu sync.Mutex
		ids, refused := map[navvy.JobID]int{}, 0
		for range 16 {
			all.Go(func() {
				id, err := trySubmit(t.Context(), ann, job)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					ids[id]++
				case errors.Is(err, navvy.ErrConflict) && key == "":
					refused++
				default:
					t.Errorf("key %q: %v", key, err)
				}
			})
		}
		all.Wait()
		if len(ids) != 1 || key == "" && refused != 15 {
			t.Errorf("key %q: %d jobs, %d refused", key, len(ids), refused)
		}
	}
}
