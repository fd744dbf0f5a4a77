package team

import (
	"testing"

	domain "github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/test/lifetest"
)

// What a worker has finished while its server was away is reported after its own
// death, with its output, and does not run again.
func TestJournal(t *testing.T) {
	t.Parallel()
	m := newTeam(t, options{})
	c := m.hire("w1", m.addr, 3)
	path, open := m.gate()
	id := m.shell(3, `echo run >> `+path+`.log; until test -e `+path+`; do sleep 0.02; done; test $0 = 1 && exit 3; seq 30000; echo $0`)
	awaitText(t, path+".log", "\n", 3)
	m.server.kill()
	open()
	eventually(t, "reports are kept", func() bool { return lifetest.Reports(m.path("w1/worker")) == 3 })
	c.kill()
	m.work(c)
	awaitText(t, c.err, "the server cannot be reached", 1)
	c.kill() // once more
	m.begin()
	m.work(c)
	results := m.results(id)
	for i, r := range results {
		want := domain.Succeeded
		if i == 1 {
			want = domain.Failed
		}
		if r.State != want || r.ID != (domain.AttemptID{Number: 1, Epoch: 1}) || r.Worker != c.name || r.Attempts != 1 || i != 1 && r.Output.Stdout != 168896 {
			t.Errorf("result %d: %+v", i, r)
		}
	}
	if n := len(lines(t, path+".log")); n != 3 || len(results) != 3 {
		t.Errorf("%d runs, %d results", n, len(results))
	}
	eventually(t, "nothing is kept any more", func() bool { return lifetest.Reports(m.path("w1/worker")) == 0 })
	m.finish()
}
