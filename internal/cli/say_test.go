package cli

import (
	"bytes"
	"errors"
	"testing"

	"github.com/navvy-run/navvy/cluster"
	"github.com/navvy-run/navvy/cluster/driver"
)

// What another machine has said, as the end of a worker's log, does not steer the terminal;
// lines and tabs stay.
func TestSay(t *testing.T) {
	t.Parallel()
	var errs bytes.Buffer
	a := &app{err: &errs}
	bad := errors.New("cluster a: 1 failed\n  worker x: \x1b[2J\x1b]0;mine\a\r\xff\tend")
	a.complain(bad)
	a.say("%s: 100%% of\x9b1m %s", "100%", "\x1b[31mé")
	p := &clusterProgress{app: a, all: 1}
	p.tell(cluster.Event{Phase: cluster.Failed, Change: &cluster.Change{Action: cluster.Remove, ID: driver.ID{Kind: "host", Name: "h"}}, Err: errors.New("\x1b[1A")})
	want := "navvy: cluster a: 1 failed\n  worker x: \\x1b[2J\\x1b]0;mine\\a\\r\\xff\tend\n" +
		"navvy: 100%: 100% of\\x9b1m \\x1b[31mé\n" +
		"navvy: [1/1] remove host h: failed: \\x1b[1A\n"
	if errs.String() != want {
		t.Errorf("it is told as\n%q, want\n%q", errs.String(), want)
	}
}
