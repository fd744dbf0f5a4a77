package policy

import (
	"errors"
	"strings"
	"testing"

	"github.com/navvy-run/navvy"
)

// Each word is read, and a role that says nothing has its own; server/isolate_test.go
// has what they mean.
func TestIsolation(t *testing.T) {
	t.Parallel()
	p := parse(t, "roles: {user: {isolate: choose}, admin: {isolate: on}}")
	if p.Isolation(User) != IsolateChoose || p.Isolation(Admin) != IsolateOn {
		t.Errorf("user %s, admin %s", p.Isolation(User), p.Isolation(Admin))
	}
	for _, p := range []*Policy{nil, parse(t, "local: user"), parse(t, "roles: {user: {}, admin: {}}")} {
		if p.Isolation(User) != IsolateOn || p.Isolation(Admin) != IsolateOff {
			t.Errorf("user %s, admin %s", p.Isolation(User), p.Isolation(Admin))
		}
	}
	_, err := Parse("p.yaml", []byte("roles:\n  user:\n    isolate: true"))
	if !errors.Is(err, navvy.ErrInvalid) || !strings.Contains(err.Error(), `p.yaml:3: isolate: "true": want on or choose or off`) {
		t.Errorf("%v", err)
	}
}
