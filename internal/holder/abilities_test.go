package holder

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/api"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/engine/driver"
	"github.com/navvy-run/navvy/engine/memory"
	"github.com/navvy-run/navvy/runner"
	runnerdriver "github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/runner/noop"
)

// host is a driver of no-ops on a host that enforces some things.
type host struct {
	noop.Driver
	enforces []navvy.Ability
	lacks    string
}

func (h host) Capabilities() runnerdriver.Capabilities {
	c := h.Driver.Capabilities()
	c.Enforces, c.Lacks = h.enforces, h.lacks
	return c
}

func (h host) runners(context.Context, *runner.Journal) ([]*runner.Runner, error) {
	return []*runner.Runner{runner.New(h, nil)}, nil
}

// kept is a store in memory that the next holder finds again.
type kept struct{ *memory.Store }

func (kept) Close() error { return nil }

const noGroups = "there are no control groups"

// lostAbilities is a holder's configuration, and a job that it has accepted when
// the host could enforce its limits, as it cannot any more.
func lostAbilities(t *testing.T) (Config, host, navvy.JobID) {
	t.Helper()
	cfg := testConfig(t)
	store := kept{memory.New()}
	cfg.OpenStore = func(context.Context, func(bool), func(error)) (driver.Store, error) { return store, nil }
	cfg.Runners = host{enforces: []navvy.Ability{navvy.AbilityMemory}}.runners
	h, stop := start(t, cfg)
	c := client.New(h.Conn())
	id := submit(t, c, navvy.Job{Spec: limited(), Detached: true}, "a")
	if st, err := c.Wait(t.Context(), id); err != nil || st.Counts.Succeeded != 1 {
		t.Fatalf("%+v, %v", st, err)
	}
	m, err := c.Overview(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []navvy.KindAbilities{{Kind: navvy.KindNoop, Enforces: []navvy.Ability{navvy.AbilityMemory}}}
	for _, list := range [][]navvy.KindAbilities{api.ToAbilities(m.GetAbilities()), api.ToAbilities(m.GetWorkers()[0].GetAbilities())} {
		if diff := cmp.Diff(want, list); diff != "" {
			t.Error(diff)
		}
	}
	if _, err := stop(); err != nil {
		t.Fatal(err)
	}
	poor := host{lacks: noGroups}
	cfg.Runners = poor.runners
	return cfg, poor, id
}

func limited() navvy.Spec {
	return navvy.Spec{Noop: &navvy.Noop{}, Limits: navvy.Limits{Memory: 1 << 30}}
}

// A job waits on a host that cannot enforce its limits any more, and whoever asks
// or waits is told why; a new one is refused.
func TestLostAbilities(t *testing.T) {
	t.Parallel()
	cfg, poor, id := lostAbilities(t)
	h, stop := start(t, cfg)
	c := client.New(h.Conn())
	const why = "this machine cannot enforce memory for work of kind noop: " + noGroups
	_, err := c.Submit(t.Context(), navvy.Job{Spec: limited(), Detached: true}, client.SubmitOptions{})
	if !errors.Is(err, navvy.ErrUnsupported) || !strings.HasPrefix(err.Error(), why) {
		t.Errorf("submit: %v", err)
	}
	if _, _, err := c.Retry(t.Context(), id, client.RetryOptions{}); err != nil {
		t.Fatal(err)
	}
	for st, err := range c.Watch(t.Context(), id, false) {
		if err != nil {
			t.Fatal(err)
		}
		if st.Waiting == why {
			break
		}
	}
	if left, err := stop(); err != nil || left {
		t.Errorf("somebody is to go on with it: %t, %v", left, err)
	}

	// Who only looks is told, too.
	cfg.Runners = nil
	cfg.Abilities = func() []navvy.KindAbilities {
		caps := poor.Capabilities()
		return []navvy.KindAbilities{caps.Abilities()}
	}
	h, _ = start(t, cfg)
	c = client.New(h.Conn())
	if task, err := c.Task(t.Context(), navvy.TaskID{Job: id}); err != nil || task.Waiting != why {
		t.Errorf("it waits: %s, %v", task.Waiting, err)
	}
	if m, err := c.Overview(t.Context()); err != nil || m.GetAbilities()[0].GetLacks() != noGroups {
		t.Errorf("the overview shows %+v, %v", m.GetAbilities(), err)
	}
}
