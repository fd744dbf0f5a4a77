package navvy_test

import (
	"errors"
	"testing"

	"github.com/navvy-run/navvy"
)

// Tasks that share a pod need a program that navvy knows, and nothing that is a pod's alone.
func TestPackSpec(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*navvy.Container)
		want   error
	}{
		"an entry point": {func(c *navvy.Container) { c.Entrypoint = []string{"score"} }, nil},
		"a shell line":   {func(c *navvy.Container) { c.Command = navvy.Command{Args: []string{"true"}, Shell: true} }, nil},
		"alone":          {func(c *navvy.Container) { c.Pack = 1 }, nil},
		"buckets":        {func(c *navvy.Container) { c.Entrypoint, c.Buckets.Input = []string{"score"}, "data" }, nil},
		"their files": {func(c *navvy.Container) {
			c.Entrypoint, c.Buckets = []string{"score"}, navvy.Buckets{Input: "data", OutputDir: "/out"}
		}, navvy.ErrUnsupported},
		"no program":      {func(*navvy.Container) {}, navvy.ErrInvalid},
		"too many":        {func(c *navvy.Container) { c.Entrypoint, c.Pack = []string{"score"}, navvy.MaxPack+1 }, navvy.ErrInvalid},
		"fewer than none": {func(c *navvy.Container) { c.Pack = -1 }, navvy.ErrInvalid},
	} {
		s := &navvy.Spec{Container: &navvy.Container{Image: "img", Pack: 50, Command: navvy.Command{Args: []string{"{}"}}}}
		c.change(s.Container)
		if err := s.Validate(); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}
