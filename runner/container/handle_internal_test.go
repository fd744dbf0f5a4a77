package container

import (
	"errors"
	"testing"

	"github.com/navvy-run/navvy"
)

// What an engine of this machine runs is not known here: it is not gone, nor is its handle broken.
func TestForeignHandle(t *testing.T) {
	t.Parallel()
	for handle, want := range map[string]error{
		"engine/1 docker 0123": navvy.ErrUnavailable, "container/3 a b c": navvy.ErrCorrupt, "container/2 a b c": navvy.ErrCorrupt,
	} {
		if h, err := parseHandle([]byte(handle)); !errors.Is(err, want) {
			t.Errorf("handle %q is read as %+v, %v; want %v", handle, h, err, want)
		}
	}
}
