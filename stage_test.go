package navvy_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/navvy-run/navvy"
)

func TestStage(t *testing.T) {
	t.Parallel()
	good := navvy.Stage{
		In:  []navvy.StagedInput{{From: "data/{}"}, {From: "a", To: "b/c"}},
		Out: []navvy.StagedOutput{{Pattern: "{.}.[ab]*"}, {Pattern: "results", To: ".", Optional: true}},
	}
	command := navvy.Spec{Command: &navvy.Command{Args: []string{"true"}}, Stage: good}
	if err := command.Validate(); err != nil {
		t.Error(err)
	}
	inDir := navvy.Spec{Command: &navvy.Command{Args: []string{"true"}, Dir: "/tmp"}, Stage: good}
	bad := map[string]navvy.Spec{"a working directory": inDir, "no command": {Noop: &navvy.Noop{}, Stage: good}}
	for name, stage := range map[string]navvy.Stage{
		"no name":     {In: []navvy.StagedInput{{To: "x"}}},
		"absolute":    {In: []navvy.StagedInput{{From: "x", To: "/etc/passwd"}}},
		"upwards":     {In: []navvy.StagedInput{{From: "a/../x"}}},
		"zero":        {In: []navvy.StagedInput{{From: "a\x00"}}},
		"long":        {In: []navvy.StagedInput{{From: strings.Repeat("a", 1025)}}},
		"a name up":   {In: good.In, Transfer: "../x"},
		"a cleaning":  {In: good.In, Cleanup: true},
		"only a name": {Transfer: "x"},
		"no pattern":  {Out: []navvy.StagedOutput{{To: "x"}}},
		"bad pattern": {Out: []navvy.StagedOutput{{Pattern: "a[b"}}},
		"pattern up":  {Out: []navvy.StagedOutput{{Pattern: "../*"}}},
		"to up":       {Out: []navvy.StagedOutput{{Pattern: "*", To: ".."}}},
		"many":        {In: make([]navvy.StagedInput, 1001)},
	} {
		spec := command
		spec.Stage = stage
		bad[name] = spec
	}
	for name, spec := range bad {
		if err := spec.Validate(); !errors.Is(err, navvy.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if needs := command.Needs(); len(needs) != 1 || needs[0] != navvy.AbilityStage {
		t.Errorf("it needs %v", needs)
	}
}
