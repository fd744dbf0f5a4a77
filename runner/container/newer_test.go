package container

import "testing"

func TestNewer(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		token, than string
		want        bool
	}{
		{"a-b-1-2.1", "a-b-1-1.1", true},
		{"a-b-1-1.1", "a-b-1-2.1", false},
		{"a-b-1-1.1", "a-b-1-1.1", false},
		{"a-b-1-1.2", "a-b-1-9.1", true},
		{"a-b-1-9.1", "a-b-1-1.2", false},
		{"a-b-1-10.1", "a-b-1-9.1", true},
		{"a-b-2-2.1", "a-b-1-1.1", false}, // of another task
		{"a-b-1-2.1", "", false},
		{"a-b-1-2.1", "trial-1", false},
		{"trial-2", "trial-1", false},
		{"1.1", "a-1.0", false},
	} {
		if got := newer(c.token, c.than); got != c.want {
			t.Errorf("%q is newer than %q: %t, want %t", c.token, c.than, got, c.want)
		}
	}
}
