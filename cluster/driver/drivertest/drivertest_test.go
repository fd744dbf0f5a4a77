package drivertest

import (
	"errors"
	"strings"
	"testing"
)

// A harness that leaves something out fails, and is told what nobody would look at; one that says
// why leaves it out.
func TestMisses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		there     bool
		why, skip string
		fails     bool
	}{
		"whole":        {there: true},
		"left out":     {fails: true},
		"said":         {why: "it has no queues", skip: "it has no queues"},
		"contradicted": {there: true, why: "it has no queues", fails: true},
	} {
		skip, err := misses("Hold", c.there, c.why, "answers are lost")
		if skip != c.skip || errors.Is(err, errHarness) != c.fails {
			t.Errorf("%s: %q, %v", name, skip, err)
		}
		if c.fails && !c.there && !strings.Contains(err.Error(), "answers are lost") {
			t.Errorf("%s: what is not looked at is not in %v", name, err)
		}
	}
}
