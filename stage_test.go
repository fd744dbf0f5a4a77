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

// Two jobs stage the same, whatever what is copied for them is called.
func TestStageEqual(t *testing.T) {
	t.Parallel()
	named := func(name string) *navvy.Stage {
		s := &navvy.Stage{Transfer: name}
		s.In = []navvy.StagedInput{{From: s.TransferFolder() + "{}", To: "{}"}, {From: "data/x"}}
		s.Out = []navvy.StagedOutput{{Pattern: "{.}.out", To: s.ReturnTo()}}
		return s
	}
	a, b := named("a"), named("b")
	if !a.Equal(b) || !a.Equal(a) || !a.Returns() {
		t.Error("another name is another work")
	}
	for name, change := range map[string]func(*navvy.Stage){
		"another file":    func(s *navvy.Stage) { s.In[0].From = s.TransferFolder() + "{}.x" },
		"another's files": func(s *navvy.Stage) { s.In[0].From = a.TransferFolder() + "{}" },
		"another output":  func(s *navvy.Stage) { s.Out[0].Pattern = "x" },
		"kept there":      func(s *navvy.Stage) { s.Out[0].To = "out" },
		"nothing copied":  func(s *navvy.Stage) { s.Transfer = "" },
		"cleaned up":      func(s *navvy.Stage) { s.Cleanup = true },
	} {
		c := named("b")
		if change(c); a.Equal(c) {
			t.Errorf("%s is the same", name)
		}
	}
}
