package navvy_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/navvy-run/navvy"
)

// Names are Kubernetes' kind of names, whatever is asked for, and say what they are for alone.
func TestJobName(t *testing.T) {
	t.Parallel()
	valid := regexp.MustCompile(`^[a-z]([-a-z0-9]*[a-z0-9])?$`)
	id := navvy.TaskID{Job: "0123456789ab", Index: 3}
	for _, name := range []string{"", "align", "Align.2", "9lives", "-", "ümlaut", "..", strings.Repeat("long", 50), "a b/c"} {
		c := navvy.Container{Name: name}
		if got := c.JobName(id, 0, 0); !valid.MatchString(got) || len(got) > navvy.MaxContainerName {
			t.Errorf("%q is named %q", name, got)
		}
	}
	c := navvy.Container{Name: "x"}
	seen := map[string]bool{}
	for round := range 3 {
		for failed := range 3 {
			seen[c.JobName(id, round, failed)] = true
			seen[c.JobName(id, round, failed)] = true
		}
	}
	if len(seen) != 9 {
		t.Errorf("9 turns have %d names", len(seen))
	}
}

// A Job that runs is found by a later navvy: names stay as they are.
func TestJobNameStays(t *testing.T) {
	t.Parallel()
	c := navvy.Container{Name: "Align.2"}
	if got := c.JobName(navvy.TaskID{Job: "0123456789ab", Index: 3}, 1, 2); got != "align-2-b21afd56-3103-83c2-a76b-c78f83242010" {
		t.Errorf("named %s", got)
	}
}
