package drivertest

import (
	"testing"

	"github.com/navvy-run/navvy/runner/driver"
)

// testWhy: a driver explains if it says so, and knows nothing of attempts that it does not have.
func testWhy(t *testing.T, h Harness) {
	d := h.Open(t)
	e, does := d.(driver.Explainer)
	if says := d.Capabilities().Explains; says != does {
		t.Fatalf("it says that it explains: %t; it does: %t", says, does)
	}
	if !does {
		return
	}
	if why := e.Why(t.Context(), "nobody"); why != "" {
		t.Errorf("nobody waits for %q", why)
	}
}
