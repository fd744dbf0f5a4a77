package share

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/share/versitygwtest"
)

// A bucket is made once, by whoever comes first, and by nobody who may not.
func TestMake(t *testing.T) {
	t.Parallel()
	g := versitygwtest.Start(t)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			s, err := Open(t.Context(), g.URL("made"), nil)
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			for range 2 {
				if err := s.Make(t.Context()); err != nil {
					t.Error(err)
				}
			}
			if _, err := s.Put(t.Context(), "a", strings.NewReader("text"), nil); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	denied, err := Open(t.Context(), g.URLWith("another", "other"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer denied.Close()
	if err := denied.Make(t.Context()); !errors.Is(err, navvy.ErrDenied) {
		t.Errorf("without the right: %v", err)
	}
	memory := OpenMemory()
	defer memory.Close()
	if err := memory.Make(t.Context()); !errors.Is(err, navvy.ErrUnsupported) {
		t.Errorf("in memory: %v", err)
	}
}
