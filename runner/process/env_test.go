package process_test

import (
	"bytes"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/runner/process"
)

// What the runner adds to the environment stands in place of what the job has under
// these names, for that attempt only.
func TestFurtherEnvironment(t *testing.T) {
	t.Parallel()
	d := process.NewDriver(nil)
	spec := &navvy.Spec{Command: &navvy.Command{
		Args: []string{"/bin/sh", "-c", "env | grep DEV | sort"}, Literal: true, Dir: "/", Env: []string{"DEV=old", path, "OTHER_DEV=x"},
	}}
	for _, tc := range []struct {
		env  []string
		want string
	}{
		{[]string{"DEV=0,2"}, "DEV=0,2\nOTHER_DEV=x\n"},
		{[]string{"DEV="}, "DEV=\nOTHER_DEV=x\n"},
		{[]string{"DEV=1", "MORE_DEV=y"}, "DEV=1\nMORE_DEV=y\nOTHER_DEV=x\n"},
		{nil, "DEV=old\nOTHER_DEV=x\n"},
	} {
		var out bytes.Buffer
		x, err := d.Start(t.Context(), &driver.Task{Token: "env-test", Spec: spec, Env: tc.env, Stdout: &out})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := x.Wait(t.Context()); err != nil {
			t.Error(err)
		}
		if out.String() != tc.want {
			t.Errorf("with %q: %q, want %q", tc.env, out.String(), tc.want)
		}
	}
}
