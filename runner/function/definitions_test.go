package function

import (
	"context"
	"errors"
	"strconv"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
)

// TestDefinitions asks once for each, keeps no more than fit, and mixes no owners up.
func TestDefinitions(t *testing.T) {
	t.Parallel()
	var d definitions
	asked := 0
	get := func(owner, id string, size int) {
		t.Helper()
		task := &driver.Task{Owner: owner, Spec: &navvy.Spec{Function: &navvy.Function{ID: id}}}
		task.Function = func(context.Context) (*navvy.FunctionVersion, error) {
			asked++
			return &navvy.FunctionVersion{ID: id, Owner: owner, Code: make([]byte, size)}, nil
		}
		f, err := d.get(t.Context(), task)
		if err != nil || f.ID != id || f.Owner != owner {
			t.Fatalf("%+v, %v", f, err)
		}
	}
	for range 2 {
		get("me", "a", 1)
		get("you", "a", 1)
	}
	if asked != 2 {
		t.Errorf("asked %d times for two", asked)
	}
	for i := range 2 * maxDefinitions {
		get("me", strconv.Itoa(i), 1<<20)
		get("me", "a", 1)
	}
	if d.bytes > maxDefinitionBytes || len(d.known) > maxDefinitions || asked != 2+2*maxDefinitions {
		t.Errorf("keeps %d with %d bytes, asked %d times", len(d.known), d.bytes, asked)
	}
	task := &driver.Task{Spec: &navvy.Spec{Function: &navvy.Function{ID: "b"}}}
	if _, err := d.get(t.Context(), task); !errors.Is(err, navvy.ErrUnsupported) {
		t.Error(err)
	}
}
