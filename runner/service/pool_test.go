package service_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/service"
)

// Instances that are opened, disposed of for want of room or of use, and taken again at
// the same moment, with attempts that are stopped, never mix up whose answer is whose.
func TestPoolInMotion(t *testing.T) {
	t.Parallel()
	for form, rounds := range map[string]int{"echo": 2000, "lines:cat": 40} {
		seed := rand.Uint64()
		t.Logf("%s: seed %d", form, seed)
		d := newDriver(t, service.DriverOptions{Rest: time.Millisecond, Idle: 1, Settle: time.Millisecond})
		specs := map[string]*navvy.Spec{}
		for _, owner := range []string{"ann", "bob", "cid"} {
			specs[owner] = &navvy.Spec{Service: &navvy.Service{Form: form}}
		}
		var all sync.WaitGroup
		for worker := range 8 {
			all.Go(func() {
				rng := rand.New(rand.NewPCG(seed, uint64(worker)))
				for i := range rounds {
					owner := []string{"ann", "bob", "cid"}[rng.IntN(3)]
					oneInMotion(t, d, specs[owner], owner, fmt.Sprintf("%s %d %d", owner, worker, i), rng.IntN(4) == 0, time.Duration(rng.IntN(3000))*time.Microsecond)
				}
			})
		}
		all.Wait()
		until(t, func() bool { open, _ := d.Instances(); return open == 0 })
	}
}

// oneInMotion runs an attempt that may be stopped after a while.
func oneInMotion(t *testing.T, d *service.Driver, spec *navvy.Spec, owner, body string, stop bool, after time.Duration) {
	task, out := taskOf(spec, owner, body)
	x, err := d.Start(t.Context(), task)
	if err != nil {
		t.Error(err)
		return
	}
	if stop {
		timer := time.AfterFunc(after, func() { _ = x.Stop(context.Background(), false) })
		defer timer.Stop()
	}
	end, err := x.Wait(t.Context())
	switch {
	case err != nil:
		t.Errorf("%q ended with %v", body, err)
	case end.Refusal == nil && out.String() != body:
		t.Errorf("%q was answered with %q", body, out)
	case end.Refusal != nil && (!stop || end.Refusal.Reason != navvy.ReasonStopped):
		t.Errorf("%q ended with %+v", body, end.Refusal)
	}
}
