// Package drivertest is the conformance suite of providers of clusters: what package cluster
// promises, held against a driver and the real thing behind it.
package drivertest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/navvy-run/navvy/cluster"
	"github.com/navvy-run/navvy/cluster/config"
	"github.com/navvy-run/navvy/cluster/driver"
)

// Harness is a provider under test. Its clusters have the names that the suite gives them.
type Harness struct {
	// Open returns a driver, each time as another process would have it. It is closed by the
	// suite.
	Open func(t testing.TB) driver.Driver
	// Cluster describes a whole cluster with so many workers, from 1 to 3. Of another variant
	// some resource that stays is to be changed. It is as config.Parse returns it.
	Cluster func(t testing.TB, name string, workers int, variant string) *config.Cluster
	// Break has one resource of a running cluster gone or failed behind the driver's back,
	// and tells which.
	Break func(t testing.TB, name string) driver.ID
	// Foreign puts something of another's into the place of one resource of the cluster,
	// before there is any of it, and tells which; untouched tells whether that is as it was.
	Foreign func(t testing.TB, name string) (id driver.ID, untouched func() bool)
	// Hold puts something into a resource of a running cluster that is lost with it, and
	// tells which, such as a queue with an answer that nobody takes. It is the queue of the
	// requests, or goes with that. Without it NoHold is to say why.
	Hold func(t testing.TB, name string) driver.ID
	// Another changes the file of a cluster to queues of another kind. Without it NoAnother is
	// to say why.
	Another func(t testing.TB, c *config.Cluster)
	// NoHold says why nothing of this provider's holds anything that could be lost, and
	// NoAnother why it has queues of one kind only. A harness without Hold or Another that does
	// not say so fails.
	NoHold, NoAnother string
	// Left lists what is left of a cluster, found without the driver: nothing, after it was
	// destroyed.
	Left func(t testing.TB, name string) []string
	// Secret is the value of a secret that variants "a" and "b" of Cluster have in common,
	// and variant "secret" has not; empty if there is none. Nothing that people are told may
	// hold it.
	Secret string
	// Patience bounds waits.
	Patience time.Duration
	// Serial says that tests of the suite do not run side by side.
	Serial bool
}

// Run runs the suite.
func Run(t *testing.T, h *Harness) {
	for name, test := range map[string]func(*testing.T, *Harness){
		"Empty": testEmpty, "Compile": testCompile, "Apply": testApply, "Change": testChange, "Scale": testScale,
		"Drift": testDrift, "Foreign": testForeign, "Two": testTwo,
		"Failures/Puts": testFailingPuts, "Failures/Removals": testFailingRemovals, "Interrupted": testInterrupted,
		"Holds": testHolds, "TakenAway": testTakenAway, "Renamed": testRenamed, "Kinds": testKinds,
		"Lock": testLock, "SideBySide": testSideBySide, "Status": testStatus,
	} {
		t.Run(name, func(t *testing.T) {
			if !h.Serial {
				t.Parallel()
			}
			test(t, h)
		})
	}
}

// misses tells whether a harness leaves something out, and why it says that it does; an error is
// that it does not say so, with what nobody would look at.
func misses(field string, there bool, why, unseen string) (skip string, err error) {
	switch {
	case there && why != "":
		return "", fmt.Errorf("%w: it has %s, and No%s says why it has not: %s", errHarness, field, field, why)
	case there:
		return "", nil
	case why == "":
		return "", fmt.Errorf("%w: it has no %s, so nobody looks whether %s; give it one, or say in No%s why there is none", errHarness, field, unseen, field)
	}
	return why, nil
}

var errHarness = errors.New("the harness is not whole")

// wants skips a test that a harness says does not apply, and fails one that it just leaves out.
func wants(t *testing.T, field string, there bool, why, unseen string) {
	t.Helper()
	skip, err := misses(field, there, why, unseen)
	if err != nil {
		t.Fatal(err)
	}
	if skip != "" {
		t.Skip(skip)
	}
}

// open gives a driver of its own.
func (h *Harness) open(t *testing.T) driver.Driver {
	t.Helper()
	d := h.Open(t)
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// controller is one over a driver of its own, that may lose what resources hold.
func (h *Harness) controller(t *testing.T) *cluster.Controller {
	t.Helper()
	return h.over(t, h.open(t))
}

// over is a controller over a driver; the cluster is removed by it when the test ends.
func (h *Harness) over(t *testing.T, d driver.Driver) *cluster.Controller {
	return cluster.New(d, &cluster.Options{Who: "suite", Lose: true, Wait: h.Patience, Tell: func(e cluster.Event) {
		if e.Phase != cluster.Begun {
			t.Logf("%s %s: %s %v", e.Change.Action, e.Change.ID, e.Phase, e.Err)
		}
	}})
}

// bounded is a context of a test.
func (h *Harness) bounded(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), h.Patience)
	t.Cleanup(cancel)
	return ctx
}

// up applies a cluster that goes when the test ends.
func (h *Harness) up(t *testing.T, c *cluster.Controller, want *config.Cluster) *cluster.Plan {
	t.Helper()
	h.downAtEnd(t, want.Name)
	p, err := c.Apply(h.bounded(t), want)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// downAtEnd removes a cluster when the test ends, and looks that nothing is left of it.
func (h *Harness) downAtEnd(t *testing.T, name string) {
	t.Helper()
	t.Cleanup(func() {
		d := h.Open(t)
		ctx, cancel := context.WithTimeout(context.Background(), h.Patience)
		defer cancel()
		c := cluster.New(d, &cluster.Options{Who: "suite's end", Lose: true, Wait: h.Patience})
		if _, err := c.Destroy(ctx, name); err != nil {
			t.Errorf("it is not removed: %v", err)
		}
		if left := h.Left(t, name); len(left) > 0 {
			t.Errorf("there is left of %s: %q", name, left)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
}

// wantSame checks that there is nothing to do, once what begins has begun.
func (h *Harness) wantSame(t *testing.T, c *cluster.Controller, want *config.Cluster) {
	t.Helper()
	var p *cluster.Plan
	h.until(t, func() bool {
		var err error
		if p, err = c.Plan(h.bounded(t), want); err != nil {
			t.Fatal(err)
		}
		return p.Empty()
	}, func() { t.Fatalf("there is still to do: %s", describe(p)) })
}

// until waits for something.
func (h *Harness) until(t *testing.T, is func() bool, otherwise func()) {
	t.Helper()
	const look = 50 * time.Millisecond
	for end := time.Now().Add(h.Patience); !is(); <-time.After(look) {
		if time.Now().After(end) {
			otherwise()
		}
	}
}

// describe tells a plan.
func describe(p *cluster.Plan) (lines []string) {
	for i := range p.Changes {
		c := &p.Changes[i]
		lines = append(lines, fmt.Sprintf("%s %s %s %+v", c.Action, c.ID, c.Why, c.Differences))
	}
	return lines
}

// errInjected is what fails on purpose.
var errInjected = errors.New("fails on purpose")
