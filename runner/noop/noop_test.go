package noop_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/runner/driver/drivertest"
	"github.com/navvy-run/navvy/runner/noop"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConformance(t *testing.T) {
	t.Parallel()
	drivertest.Run(t, func(testing.TB) drivertest.Harness {
		return drivertest.Harness{
			Open: func(testing.TB) driver.Driver { return noop.Driver{} },
			Spec: func(w drivertest.Work) (*navvy.Spec, bool) {
				return &navvy.Spec{Noop: &navvy.Noop{}}, w == drivertest.Work{}
			},
		}
	})
}

func TestNoAllocations(t *testing.T) {
	task := driver.Task{Spec: &navvy.Spec{Noop: &navvy.Noop{}}}
	got := testing.AllocsPerRun(100, func() {
		execution, err := noop.Driver{}.Start(t.Context(), &task)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := execution.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	if got != 0 {
		t.Errorf("a no-op allocates %v times", got)
	}
}
