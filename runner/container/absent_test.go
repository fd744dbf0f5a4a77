package container_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner"
	"github.com/navvy-run/navvy/runner/container"
)

// A navvy that cannot run containers does not forget those that an earlier one has left.
func TestAbsentForgetsNothing(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "journal")
	journal, err := runner.OpenJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	for i, handle := range []string{"engine/1 docker 0123", ""} {
		e := runner.Entry{Kind: navvy.KindContainer, Task: navvy.TaskID{Job: navvy.NewJobID(), Index: 1}, Attempt: navvy.AttemptID{Number: 1, Epoch: 1}, Token: fmt.Sprint("mine", i)}
		if handle != "" {
			e.Handle = []byte(handle)
		}
		if _, err := journal.Reserve(&e); err != nil {
			t.Fatal(err)
		}
	}
	reopen := func() *runner.Journal {
		if err := journal.Close(); err != nil {
			t.Fatal(err)
		}
		if journal, err = runner.OpenJournal(path); err != nil {
			t.Fatal(err)
		}
		return journal
	}
	why := fmt.Errorf("nobody listens: %w", navvy.ErrUnavailable)
	d := container.Absent(why)
	left, err := runner.RecoverAll(t.Context(), reopen(), d)
	if err != nil || len(left) != 2 {
		t.Fatalf("there are left %v, %v", left, err)
	}
	r := runner.New(d, &runner.Options{Journal: journal})
	r.Left(left)
	for _, a := range r.Adrift() {
		for _, err := range []error{r.Look(t.Context(), &a), r.Sweep(t.Context(), &a)} {
			if !errors.Is(err, navvy.ErrUnavailable) || !strings.Contains(fmt.Sprint(err), "nobody listens") {
				t.Errorf("it says of what is left: %v", err)
			}
		}
	}
	if n := len(reopen().Left()); n != 2 {
		t.Errorf("the journal has %d entries", n)
	}
	if err := journal.Close(); err != nil {
		t.Error(err)
	}
}
