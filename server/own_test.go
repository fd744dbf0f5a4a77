package server_test

import (
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/server/auth"
)

// The owner of a job is told who stopped or held it, if that was somebody else.
func TestWhoStopped(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	ann, admin := w.as(t, "ann", auth.RoleUser), w.as(t, "root", auth.RoleAdmin)
	for _, c := range []struct {
		admin             bool
		why, stop, onHold string
	}{
		{false, "", "stopped by its user", "held by its user"},
		{false, "enough", "enough", "enough"},
		{true, "", "stopped by admin root", "held by admin root"},
		{true, "too large", "stopped by admin root: too large", "held by admin root: too large"},
	} {
		by := ann
		if c.admin {
			by = admin
		}
		id := submit(t, ann, navvy.Job{})
		for _, step := range []struct {
			do   func() error
			want string
		}{
			{func() error { return by.Hold(t.Context(), id, c.why, false) }, c.onHold},
			{func() error { _, err := by.Stop(t.Context(), id, c.why); return err }, c.stop},
		} {
			if err := step.do(); err != nil {
				t.Fatal(err)
			}
			if job, err := ann.Get(t.Context(), id); err != nil || job.Status.Why != step.want {
				t.Errorf("%q, want %q: %v", job.Status.Why, step.want, err)
			}
		}
	}
}
