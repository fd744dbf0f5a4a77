package navvy_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/navvy-run/navvy"
)

// A service says what answers, and what it is started in.
func TestServiceValidate(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		service navvy.Service
		ok      bool
	}{
		{navvy.Service{Form: "echo"}, true},
		{navvy.Service{Form: "cgi:./a b", Dir: "/srv", Env: []string{"A=", "B=1=2"}}, true},
		{navvy.Service{}, false},
		{navvy.Service{Form: "echo", Dir: "srv"}, false},
		{navvy.Service{Form: "echo", Dir: "/s\x00"}, false},
		{navvy.Service{Form: "echo", Env: []string{"=1"}}, false},
		{navvy.Service{Form: "echo", Env: []string{"A=\x00"}}, false},
		{navvy.Service{Form: "cgi:\x00"}, false},
		{navvy.Service{Form: "cgi:\xff"}, false},
		{navvy.Service{Form: strings.Repeat("x", navvy.MaxServiceForm+1)}, false},
	} {
		spec := navvy.Spec{Service: &c.service}
		if err := spec.Validate(); (err == nil) != c.ok || err != nil && !errors.Is(err, navvy.ErrInvalid) {
			t.Errorf("%.100q: %v", c.service, err)
		}
		if spec.Kind() != navvy.KindService || !spec.IsProcess() {
			t.Errorf("it is of kind %q", spec.Kind())
		}
	}
}
