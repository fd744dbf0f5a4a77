package fleet

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/manager"
	"github.com/navvy-run/navvy/output"
	"github.com/navvy-run/navvy/server/auth"
	"github.com/navvy-run/navvy/test/lifetest"
)

// A server that dies and comes back finds its workers at work: they go on with what
// they run, under the same ids, with all output, and nothing runs twice.
func TestServerRestart(t *testing.T) {
	t.Parallel()
	s := newSite(t, manager.Options{Dispatch: manager.Push, Parallelism: 8})
	path, open := gate(t)
	s.hire("w1", t.TempDir(), 2)
	c := client.New(s.dial())
	id := s.submit(c, script(`echo run >> `+path+`.log; seq 40000; until test -e `+path+`; do sleep 0.01; done; seq 40000; echo end`), 4)
	awaitLines(t, path+".log", 2)
	s.kill()
	s.start()
	c = client.New(s.dial())
	s.await(c, id, "running again", func(st *navvy.Status) bool { return st.Counts.Running == 2 })
	open()
	results, texts := s.answers(c, id)
	for i, r := range results {
		want := uint32(1)
		if i >= 2 {
			want = 2
		}
		if r.State != navvy.Succeeded || r.ID.Number != 1 || r.ID.Epoch != want || r.Attempts != 1 {
			t.Errorf("result %d: %+v", i, r)
		}
		if !strings.HasPrefix(texts[i], "1\n2\n") || !strings.HasSuffix(texts[i], "\n40000\nend\n") || strings.Count(texts[i], "\n") != 80001 {
			t.Errorf("output %d: %d bytes", i, len(texts[i]))
		}
	}
	if got := len(lines(t, path+".log")); got != 4 || len(results) != 4 {
		t.Errorf("%d runs, %d results", got, len(results))
	}
}

// A worker that dies loses its tasks to another within its lease, and its death is
// not the tasks' fault.
func TestWorkerDies(t *testing.T) {
	t.Parallel()
	s := newSite(t, manager.Options{Dispatch: manager.Push, Parallelism: 8})
	path, open := gate(t)
	first := s.hire("w1", t.TempDir(), 2)
	c := client.New(s.dial())
	id := s.submit(c, script(`until test -e `+path+`; do sleep 0.01; done; echo ok`), 2)
	s.await(c, id, "running", func(st *navvy.Status) bool { return st.Counts.Running == 2 })
	s.wire.Part() // nobody hears how it ends
	near := client.New(s.direct())
	s.await(near, id, "taken back", func(st *navvy.Status) bool { return st.Counts.Running == 0 })
	s.hireAt(s.wire.Past(), "w2", t.TempDir(), 2)
	open()
	results, texts := s.answers(near, id)
	s.wire.Heal()
	_ = first.stop()
	for i, r := range results {
		if r.State != navvy.Succeeded || r.ID.Number != 2 || r.Worker != "w2" || r.Attempts != 2 || texts[i] != "ok\n" {
			t.Errorf("result %d: %+v, %q", i, r, texts[i])
		}
	}
	task, err := near.Task(t.Context(), navvy.TaskID{Job: id})
	if err != nil || len(task.Attempts) != 1 || task.Attempts[0].Outcome != navvy.OutcomeLost || task.Attempts[0].Worker != "w1" {
		t.Errorf("%+v, %v", task, err)
	}
}

// Who follows the output of a task whose worker dies is shown what the next attempt
// writes, from its begin.
func TestFollowWhenWorkerDies(t *testing.T) {
	t.Parallel()
	s := newSite(t, manager.Options{Dispatch: manager.Push, Parallelism: 8})
	path, _ := gate(t)
	first := s.hire("w1", t.TempDir(), 1)
	near := client.New(s.direct())
	id := s.submit(near, script(`if mkdir `+path+`.first 2>/dev/null; then seq 30000; exec sleep 1000; fi; echo ok`), 1)
	var numbers []uint32
	var texts []*strings.Builder
	s.must(near.Output(t.Context(), navvy.TaskID{Job: id}, client.OutputOptions{Follow: true}, client.OutputSink{
		Attempt: func(id navvy.AttemptID) error {
			numbers, texts = append(numbers, id.Number), append(texts, &strings.Builder{})
			return nil
		},
		Write: func(_ output.Stream, p []byte) error {
			text := texts[len(texts)-1]
			if text.Write(p); strings.HasSuffix(text.String(), "\n30000\n") {
				s.wire.Part() // nobody hears how it ends
				s.hireAt(s.wire.Past(), "w2", t.TempDir(), 1)
			}
			return nil
		},
	}))
	s.wire.Heal()
	_ = first.stop()
	if !slices.Equal(numbers, []uint32{1, 2}) || texts[0].Len() != 168894 || texts[1].String() != "ok\n" {
		t.Errorf("attempts %v", numbers)
	}
}

// A worker that hears nothing past its lease runs on; when it is back, what it has is
// refused, and what it still runs is ended. Each task has one answer.
func TestPartedPastLease(t *testing.T) {
	t.Parallel()
	s := newSite(t, manager.Options{Dispatch: manager.Push, Parallelism: 8})
	path, open := gate(t)
	s.hire("w1", t.TempDir(), 2)
	c, near := client.New(s.dial()), client.New(s.direct())
	// The first task ends while the worker is parted, the second runs on.
	id := s.submit(c, script(`if mkdir `+path+`.first 2>/dev/null; then until test -e `+path+`; do sleep 0.01; done; seq 30000
		elif mkdir `+path+`.second 2>/dev/null; then echo $$ > `+path+`.pid; exec sleep 1000; fi; echo ok`), 2)
	awaitFile(t, path+".pid")
	s.wire.Part()
	open()
	s.await(near, id, "taken back", func(st *navvy.Status) bool { return st.Counts.Running == 0 })
	s.wire.Heal()
	results, texts := s.answers(near, id)
	for i, r := range results {
		if r.State != navvy.Succeeded || r.ID.Number != 2 || texts[i] != "ok\n" {
			t.Errorf("result %d: %+v, %q", i, r, texts[i])
		}
	}
	awaitDeath(t, lines(t, path+".pid")[0])
}

// A worker whose connection breaks is back before its lease ends, and nothing is lost:
// what ended meanwhile is reported, with its output, and what runs goes on.
func TestReconnect(t *testing.T) {
	t.Parallel()
	s := newSite(t, manager.Options{Dispatch: manager.Pull, Parallelism: 8})
	path, open := gate(t)
	s.hire("w1", t.TempDir(), 2)
	c := client.New(s.dial())
	id := s.submit(c, script(`echo run >> `+path+`.log; seq 30000; until test -e `+path+`; do sleep 0.01; done; seq 30000`), 6)
	awaitLines(t, path+".log", 2)
	s.wire.Snap()
	open()
	for range 3 {
		s.await(client.New(s.direct()), id, "on its way", func(*navvy.Status) bool { return true })
		s.wire.Snap()
	}
	results, texts := s.answers(client.New(s.direct()), id)
	for i, r := range results {
		if r.State != navvy.Succeeded || r.ID.Number != 1 || strings.Count(texts[i], "\n") != 60000 {
			t.Errorf("result %d: %+v, %d lines", i, r, strings.Count(texts[i], "\n"))
		}
	}
	if got := len(lines(t, path+".log")); got != 6 || len(results) != 6 {
		t.Errorf("%d runs, %d results", got, len(results))
	}
}

// What a worker has finished while its server was away is reported by the next worker
// on the same directory, with its output, and does not run again.
func TestJournal(t *testing.T) {
	t.Parallel()
	s := newSite(t, manager.Options{Dispatch: manager.Push, Parallelism: 8})
	path, open := gate(t)
	dir := t.TempDir()
	first := s.hire("w1", dir, 3)
	c := client.New(s.dial())
	id := s.submit(c, script(`echo run >> `+path+`.log; until test -e `+path+`; do sleep 0.01; done
		if mkdir `+path+`.long 2>/dev/null; then seq 30000; elif mkdir `+path+`.bad 2>/dev/null; then echo bad; exit 3; else echo short; fi; echo end >> `+path+`.ends`), 3)
	s.await(c, id, "running", func(st *navvy.Status) bool { return st.Counts.Running == 3 })
	awaitLines(t, path+".log", 3)
	s.kill()
	open()
	awaitLines(t, path+".ends", 2)
	first.Drain()
	awaitReports(t, dir, 3)
	if err := first.stop(); err == nil {
		t.Error("it was not interrupted")
	}
	s.start()
	s.hire("w1", dir, 3)
	c = client.New(s.dial())
	results, texts := s.answers(c, id)
	sizes := map[int]int{}
	for i, r := range results {
		sizes[len(texts[i])]++
		if r.ID != (navvy.AttemptID{Number: 1, Epoch: 1}) || r.Worker != "w1" {
			t.Errorf("result %d: %+v", i, r)
		}
	}
	if got := lines(t, path+".log"); len(got) != 3 || len(results) != 3 || sizes[4] != 1 || sizes[6] != 1 || sizes[168894] != 1 {
		t.Errorf("%d runs, %d results, sizes %v", len(got), len(results), sizes)
	}
	awaitFileSize(t, dir+"/reports", 0)
	eventually(t, "the spool is empty", func() bool { return len(entries(t, dir+"/spool")) == 0 })
}

// A task that kills each worker that runs it goes to the dead letters after some, and
// the others go on.
func TestPoison(t *testing.T) {
	t.Parallel()
	s := newSite(t, manager.Options{Dispatch: manager.RoundRobin, Parallelism: 8, MaxLost: 2})
	path, _ := gate(t)
	c := client.New(s.dial())
	id := s.submit(c, script(`echo run >> `+path+`.log; exec sleep 1000`), 1)
	for i := range 2 {
		w := s.hire("w", t.TempDir(), 1)
		awaitLines(t, path+".log", i+1)
		_ = w.stop()
	}
	s.hire("w", t.TempDir(), 1)
	results, _ := s.answers(c, id)
	if len(results) != 1 || results[0].State != navvy.Failed || results[0].Reason != navvy.ReasonLost || results[0].Attempts != 2 {
		t.Errorf("%+v", results)
	}
}

// A worker that drains takes nothing new, finishes what it has, and ends by itself.
func TestDrain(t *testing.T) {
	t.Parallel()
	for _, dispatch := range []manager.Dispatch{manager.Pull, manager.Push, manager.RoundRobin} {
		t.Run(string(dispatch), func(t *testing.T) {
			t.Parallel()
			s := newSite(t, manager.Options{Dispatch: dispatch, Parallelism: 8})
			path, open := gate(t)
			w := s.hire("w1", t.TempDir(), 1)
			c := client.New(s.dial())
			id := s.submit(c, script(`echo run >> `+path+`.log; until test -e `+path+`; do sleep 0.01; done; echo ok`), 2)
			awaitLines(t, path+".log", 1)
			w.Drain()
			open()
			if err := w.ended(); err != nil {
				t.Error(err)
			}
			s.await(c, id, "half done", func(st *navvy.Status) bool { return st.Counts.Succeeded == 1 && st.Counts.Running == 0 })
			s.hire("w2", t.TempDir(), 1)
			if results, _ := s.answers(c, id); len(results) != 2 || results[0].Attempts != 1 || results[1].Attempts != 1 {
				t.Errorf("%+v", results)
			}
		})
	}
}

// An administrator lets a worker drain, and keeps another out: its certificate is
// revoked, and others have what it ran at once.
func TestDrainAndRemoveByAdmin(t *testing.T) {
	t.Parallel()
	s := newSite(t, manager.Options{Dispatch: manager.Pull, Parallelism: 8})
	conn := s.connect(s.wire.Addr, "root", auth.RoleAdmin)
	defer conn.Close()
	admin := client.New(conn)
	path, open := gate(t)
	first := s.hire("w1", t.TempDir(), 1)
	id := s.submit(client.New(s.dial()), script(`echo $$ >> `+path+`.log; until test -e `+path+`; do sleep 0.01; done; echo ok`), 1)
	awaitLines(t, path+".log", 1)
	second := s.hire("w2", t.TempDir(), 1)
	awaitWorker(t, admin, "w2", "ready")
	s.must(admin.RemoveWorker(t.Context(), "w1"))
	awaitLines(t, path+".log", 2)
	awaitDeath(t, lines(t, path+".log")[0])
	if err := first.ended(); !errors.Is(err, navvy.ErrDenied) {
		t.Errorf("the removed worker ends with %v", err)
	}
	s.must(admin.DrainWorker(t.Context(), "w2"))
	open()
	if err := second.ended(); err != nil {
		t.Errorf("the drained worker ends with %v", err)
	}
	if results, texts := s.answers(admin, id); len(results) != 1 || results[0].Worker != "w2" || texts[0] != "ok\n" {
		t.Errorf("%+v", results)
	}
	awaitWorker(t, admin, "w2", "left")
	for name, want := range map[string]error{"w1": navvy.ErrNotFound, "w2": navvy.ErrUnavailable} {
		if err := admin.DrainWorker(t.Context(), name); !errors.Is(err, want) {
			t.Errorf("drain of %s, which is not there: %v", name, err)
		}
	}
	if err := admin.RemoveWorker(t.Context(), "w1"); !errors.Is(err, navvy.ErrNotFound) {
		t.Errorf("removed twice: %v", err)
	}
}

// awaitWorker waits until a worker is in a state.
func awaitWorker(t *testing.T, c *client.Client, name, state string) {
	t.Helper()
	eventually(t, name+" is "+state, func() bool {
		list, err := c.Fleet(t.Context())
		return err == nil && slices.ContainsFunc(list, func(w client.FleetWorker) bool {
			return w.Name == name && w.State == state && !w.Joined.IsZero()
		})
	})
}

// awaitReports waits until a worker has kept so many reports.
func awaitReports(t *testing.T, dir string, n int) {
	t.Helper()
	eventually(t, "reports are kept", func() bool { return lifetest.Reports(dir) == n })
}
