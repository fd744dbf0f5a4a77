package container

import (
	"fmt"
	"testing"
)

// Only attempts of earlier processes are looked for in namespaces that are watched later: those
// of this one, which may come to nothing many times, do not take their place.
func TestLacks(t *testing.T) {
	t.Parallel()
	l := newSpaces()
	for i := range mostBegun + 1 {
		token := fmt.Sprint("own-", i)
		l.begins(token)
		for range 2 { // as those in a pack that are given back
			if !l.had(token) {
				t.Fatalf("%s is not known", token)
			}
			l.lacks(token)
		}
	}
	if l.lacks("old"); len(l.settled) != 1 || !l.settled["old"] || l.had("old") {
		t.Errorf("%d are looked for", len(l.settled))
	}
	if n := len(l.begun[0]) + len(l.begun[1]); n > 2*mostBegun || !l.had("own-0") {
		t.Errorf("%d are noted", n)
	}
	for i := range 2 * mostBegun {
		l.begins(fmt.Sprint("more-", i))
	}
	if n := len(l.begun[0]) + len(l.begun[1]); n > 2*mostBegun || l.had("own-0") {
		t.Errorf("%d are noted", n)
	}
}
