package holder

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/engine/driver"
	"github.com/navvy-run/navvy/engine/memory"
	"github.com/navvy-run/navvy/server/auth"
)

// A client is told which of its jobs is damaged, and gets all others. Other users
// are told of none, and cannot remove it.
func TestDamagedJobs(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	store := memory.New()
	t.Cleanup(func() { _ = store.Close() }) // after the holders have ended
	cfg.OpenStore = func(context.Context, func(bool), func(error)) (driver.Store, error) { return keptOpen{store}, nil }
	h, stop := start(t, cfg)
	c := client.New(h.Conn())
	var ids []navvy.JobID
	for range 3 {
		id := submit(t, c, navvy.Job{Detached: true, Spec: navvy.Spec{Noop: &navvy.Noop{}}}, "x")
		if _, err := c.Wait(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	var b driver.Batch
	b.Put(append([]byte("s"), ids[1]...), []byte("no state"))
	if err := store.Apply(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	expectJobs(t, c, 2, ids[1])
	if id, err := c.Find(t.Context(), string(ids[1])); id != ids[1] || err != nil {
		t.Errorf("find: %q, %v", id, err)
	}
	if _, err := c.Get(t.Context(), ids[1]); !errors.Is(err, navvy.ErrCorrupt) {
		t.Errorf("get: %v", err)
	}

	if _, err := stop(); err != nil {
		t.Fatal(err)
	}
	testStranger(t, cfg, ids[1])

	h, _ = start(t, cfg)
	c = client.New(h.Conn())
	if err := c.Remove(t.Context(), ids[1], false); !errors.Is(err, navvy.ErrCorrupt) {
		t.Errorf("remove: %v", err)
	}
	if err := c.Remove(t.Context(), ids[1], true); err != nil {
		t.Errorf("remove with force: %v", err)
	}
	expectJobs(t, c, 2)
}

// expectJobs sees that so many jobs are listed, and these as damaged.
func expectJobs(t *testing.T, c *client.Client, fine int, damaged ...navvy.JobID) {
	t.Helper()
	var bad []navvy.JobID
	for job, err := range c.Jobs(t.Context()) {
		switch {
		case errors.Is(err, navvy.ErrCorrupt):
			bad = append(bad, job.ID)
		case err != nil:
			t.Error(err)
		default:
			fine--
		}
	}
	if fine != 0 || !slices.Equal(bad, damaged) {
		t.Errorf("%d jobs too few, and %v damaged, want %v", fine, bad, damaged)
	}
}

// testStranger sees that a damaged job does not exist for another user.
func testStranger(t *testing.T, cfg Config, id navvy.JobID) {
	t.Helper()
	cfg.Owner, cfg.LocalRole = "a stranger", auth.RoleUser
	h, stop := start(t, cfg)
	c := client.New(h.Conn())
	if _, err := c.Find(t.Context(), string(id)); !errors.Is(err, navvy.ErrNotFound) {
		t.Errorf("a stranger finds it: %v", err)
	}
	if err := c.Remove(t.Context(), id, true); !errors.Is(err, navvy.ErrNotFound) {
		t.Errorf("a stranger removes it: %v", err)
	}
	if _, err := stop(); err != nil {
		t.Fatal(err)
	}
}

// keptOpen is a store that outlives its holder.
type keptOpen struct{ driver.Store }

func (keptOpen) Close() error { return nil }
