package ssh_test

import (
	"slices"
	"testing"
)

// A cluster on two hosts answers; when it is destroyed there is nothing left of it.
func TestAnswers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	c := w.cluster("answers", 3)
	w.up(c)
	w.well(c)
	got := w.answers(c.Name, "one", "two", "three", "four")
	slices.Sort(got)
	if !slices.Equal(got, []string{"four", "one", "three", "two"}) {
		t.Errorf("the answers are %q", got)
	}
	for _, h := range w.net.Hosts {
		if len(commands(hostDir(h, c.Name)+"/")) == 0 {
			t.Errorf("nothing runs on %s", h.Name())
		}
	}
}
