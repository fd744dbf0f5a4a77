package kubernetes

import (
	"fmt"
	"testing"

	"github.com/navvy-run/navvy"
)

// Workers that cannot be replaced are told, though those of before are ready still.
func TestRollout(t *testing.T) {
	t.Parallel()
	for _, workers := range []int{1, 4} {
		t.Run(fmt.Sprint(workers), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "runs")
			c := w.answering(t, fmt.Sprintf("rolls-%d", workers))
			c.Workers.Count = workers
			d := w.open(t)
			if _, err := controller(d).Apply(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			w.fate, c.Workers.Image = "image", "local.test/navvy:none"
			w.fails(t, c, navvy.ErrUnavailable, "ImagePullBackOff", "deployment "+c.Name+"-worker")
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}
