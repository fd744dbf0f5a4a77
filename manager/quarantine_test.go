package manager_test

import (
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/manager"
)

// team is a manager with workers that each behave in their own way.
type team struct {
	*scene
	all []*mate
}

type mate struct {
	name    string
	session *manager.Session
	given   int
	// ends says how a task ends; nil if it succeeds.
	ends func(*manager.Assignment) *navvy.Attempt
}

func newTeam(t *testing.T, names ...string) *team {
	t.Helper()
	m := &team{scene: newScene(t, &manager.Options{
		Dispatch: manager.Push, Parallelism: 1000, Jitter: func(longest time.Duration) time.Duration { return longest },
	})}
	m.session.Close()
	for _, name := range names {
		m.all = append(m.all, &mate{name: name, session: m.mgr.Attach(manager.Worker{Name: name, Kinds: []string{navvy.KindNoop}, Slots: 2})})
	}
	m.run()
	return m
}

func (m *team) submitMany(name string, tasks, retries int) navvy.JobID {
	m.Helper()
	spec := navvy.Spec{Noop: &navvy.Noop{}, Retry: navvy.Retry{Max: retries, Backoff: time.Millisecond, BackoffMax: time.Millisecond}}
	sub, id, err := m.mgr.Submit(m.ctx, navvy.Job{Name: name, Owner: "ann", Detached: true, Spec: spec}, false)
	m.must(err)
	for range tasks {
		m.must(sub.Add(m.ctx, []byte("x")))
	}
	m.must(sub.Seal(m.ctx))
	return id
}

// work lets each worker do what it is given, one after the other, a round each 10 ms.
func (m *team) work(rounds int) {
	m.Helper()
	for range rounds {
		for _, w := range m.all {
			for _, a := range m.nextOf(w.session) {
				w.given++
				ended := navvy.Attempt{Outcome: navvy.OutcomeSucceeded}
				if w.ends != nil {
					if how := w.ends(&a); how != nil {
						ended = *how
					}
				}
				took := ended.Usage.User
				ended.ID, ended.Started, ended.Finished = a.Attempt, time.Now(), time.Now().Add(took)
				m.must(w.session.Done(m.ctx, []manager.Finished{{Task: navvy.TaskID{Job: a.Job.ID, Index: a.Index}, Attempt: ended}}))
			}
		}
		synctest.Wait()
		time.Sleep(10 * time.Millisecond) //nolint:forbidigo // in a bubble, time passes at once
	}
}

func (m *team) quarantine(w *mate) string {
	for _, s := range m.mgr.Workers() {
		if s.Name == w.name {
			return s.Quarantine
		}
	}
	return "it is not there"
}

func exit127(*manager.Assignment) *navvy.Attempt {
	return &navvy.Attempt{Outcome: navvy.OutcomeFailed, Reason: navvy.ReasonExit, Message: "exit code 127", Exit: navvy.Exit{Code: 127}}
}

// A worker on which everything fails at once gets no more tasks for a while, however
// it fails them; then one, and more if that succeeds.
func TestQuarantine(t *testing.T) {
	t.Parallel()
	for name, ends := range map[string]func(*manager.Assignment) *navvy.Attempt{
		"exit": exit127,
		"not found": func(*manager.Assignment) *navvy.Attempt {
			return &navvy.Attempt{Outcome: navvy.OutcomeFailed, Reason: navvy.ReasonNotFound, Message: "no such program"}
		},
		"start": func(*manager.Assignment) *navvy.Attempt {
			return &navvy.Attempt{Outcome: navvy.OutcomeLost, Reason: navvy.ReasonStart, Message: "no more processes"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := newTeam(t, "good", "bad")
				bad := m.all[1]
				bad.ends = ends
				var ids []navvy.JobID
				for range 2 {
					ids = append(ids, m.submitMany("job", 20, 3))
				}
				m.work(50)
				for _, id := range ids {
					if st, err := m.mgr.Status(m.ctx, id); err != nil || st.Counts.Succeeded != 20 {
						t.Errorf("%+v, %v", st.Counts, err)
					}
				}
				text := m.quarantine(bad)
				if !strings.HasPrefix(text, "worker bad is quarantined for ") || !strings.Contains(text, "failed at once there that succeeded elsewhere, the last one: "+ends(nil).Message) {
					t.Errorf("it is said to be %q", text)
				}
				if got := m.quarantine(m.all[0]); got != "" {
					t.Errorf("the good one: %s", got)
				}

				// Nothing comes to it until its time is over, then one task, and
				// twice as long nothing if that fails.
				given := bad.given
				m.submitMany("later", 10, 3)
				m.work(5)
				if bad.given != given {
					t.Error("it is given tasks in quarantine")
				}
				for _, pause := range []time.Duration{10 * time.Second, 20 * time.Second, 40 * time.Second} {
					time.Sleep(pause) //nolint:forbidigo // in a bubble, time passes at once
					m.submitMany("trial", 10, 3)
					m.work(5)
					if bad.given != given+1 {
						t.Errorf("it is given %d tasks to try", bad.given-given)
					}
					given = bad.given
				}
				time.Sleep(80 * time.Second) //nolint:forbidigo // in a bubble, time passes at once
				bad.ends = nil
				m.submitMany("mended", 20, 0)
				m.work(10)
				if got := m.quarantine(bad); got != "" || bad.given < given+5 {
					t.Errorf("it is mended, has got %d tasks, and: %s", bad.given-given, got)
				}
			})
		})
	}
}

// A job that fails everywhere, one that fails for some of its inputs, and one that
// fails by chance take no worker away from others.
func TestBadJobsQuarantineNobody(t *testing.T) {
	t.Parallel()
	for name, bad := range map[string]func(*manager.Assignment) bool{
		"always":      func(*manager.Assignment) bool { return true },
		"some inputs": func(a *manager.Assignment) bool { return a.Index%2 == 0 },
		"a block":     func(a *manager.Assignment) bool { return a.Index < 50 },
		"most":        func(a *manager.Assignment) bool { return a.Index%20 != 0 },
		"by chance": func(a *manager.Assignment) bool {
			return rand.New(rand.NewPCG(uint64(a.Index), uint64(a.Attempt.Number))).IntN(10) < 8
		},
		"each task's first attempt": func(a *manager.Assignment) bool {
			return a.Attempt.Number == 1
		},
	} {
		for _, retries := range []int{0, 3} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					m := newTeam(t, "w1", "w2", "w3")
					for _, w := range m.all {
						w.ends = func(a *manager.Assignment) *navvy.Attempt {
							if a.Job.Name == "bad" && bad(a) {
								return exit127(a)
							}
							return nil
						}
					}
					m.submitMany("bad", 100, retries)
					m.submitMany("good", 100, 0)
					m.submitMany("bad", 100, retries)
					for range 100 {
						m.work(2)
						for _, w := range m.all {
							if got := m.quarantine(w); got != "" {
								t.Fatal(got)
							}
						}
					}
				})
			})
		}
	}
}

// As long as tasks fail elsewhere as well that failed on a worker, it is not the worker.
func TestMixedEvidence(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newTeam(t, "w1", "unlucky")
		m.all[1].ends = exit127
		seen := map[navvy.TaskID]bool{}
		m.all[0].ends = func(a *manager.Assignment) *navvy.Attempt {
			task := navvy.TaskID{Job: a.Job.ID, Index: a.Index}
			if a.Index%2 == 0 && !seen[task] {
				seen[task] = true
				return exit127(a)
			}
			return nil
		}
		m.submitMany("a", 40, 5)
		m.submitMany("b", 40, 5)
		for range 100 {
			m.work(1)
			if got := m.quarantine(m.all[1]); got != "" {
				t.Fatal(got)
			}
		}
		if m.all[1].given < 40 {
			t.Errorf("it was given %d tasks only", m.all[1].given)
		}
	})
}

// Jobs whose first attempts fail wherever they run speak against nobody, not even
// against a worker on which by chance nothing succeeds.
func TestJobsThatFailEverywhereDoNotTestify(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newTeam(t, "w1", "w2", "unlucky")
		for _, w := range m.all[:2] {
			w.ends = func(a *manager.Assignment) *navvy.Attempt {
				if a.Attempt.Number == 1 {
					return exit127(a)
				}
				return nil
			}
		}
		m.all[2].ends = exit127
		m.submitMany("a", 100, 9)
		m.submitMany("b", 100, 9)
		for range 200 {
			m.work(1)
			if got := m.quarantine(m.all[2]); got != "" {
				t.Fatal(got)
			}
		}
		if m.all[2].given < 50 {
			t.Errorf("it was given %d tasks only", m.all[2].given)
		}
	})
}

// What fails after some time, or by the input's fault, says nothing about the worker.
func TestSlowFailures(t *testing.T) {
	t.Parallel()
	for name, how := range map[string]navvy.Attempt{
		"slow":    {Outcome: navvy.OutcomeFailed, Reason: navvy.ReasonExit, Usage: navvy.Usage{User: 2 * time.Second}},
		"oom":     {Outcome: navvy.OutcomeFailed, Reason: navvy.ReasonOOM},
		"stopped": {Outcome: navvy.OutcomeInterrupted, Reason: navvy.ReasonStopped},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := newTeam(t, "w1", "w2")
				m.all[1].ends = func(*manager.Assignment) *navvy.Attempt { return &how }
				m.submitMany("a", 50, 5)
				m.submitMany("b", 50, 5)
				m.work(100)
				if got := m.quarantine(m.all[1]); got != "" {
					t.Error(got)
				}
			})
		})
	}
}

// Whoever waits for a quarantined worker is told so; and to connect anew does not help.
func TestQuarantineOutlivesTheSession(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newTeam(t, "good", "bad")
		bad := m.all[1]
		bad.ends = exit127
		m.submitMany("a", 20, 3)
		m.submitMany("b", 20, 3)
		m.work(50)
		bad.session.Close()
		bad.session = m.mgr.Attach(manager.Worker{Name: "bad", Kinds: []string{navvy.KindNoop}, Slots: 2})
		if got := m.quarantine(bad); !strings.Contains(got, "is quarantined for") {
			t.Errorf("it came back as %q", got)
		}
		m.all[0].session.Close()
		m.all = m.all[1:]
		given := bad.given
		id := m.submitMany("c", 1, 0)
		m.work(2)
		if why := m.whyOf(id, 0); bad.given != given || !strings.Contains(why, "worker bad is quarantined for") {
			t.Errorf("given %d, why: %s", bad.given-given, why)
		}
		time.Sleep(10 * time.Second) //nolint:forbidigo // in a bubble, time passes at once
		bad.ends = nil
		m.work(2)
		if st, err := m.mgr.Status(m.ctx, id); err != nil || st.Counts.Succeeded != 1 || m.quarantine(bad) != "" {
			t.Errorf("%+v, %v, %s", st.Counts, err, m.quarantine(bad))
		}
	})
}

// A task is tried again on another worker, if one takes it.
func TestTriedElsewhere(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newTeam(t, "w1", "w2")
		where := map[int64][]string{}
		for _, w := range m.all {
			w.ends = func(a *manager.Assignment) *navvy.Attempt {
				where[a.Index] = append(where[a.Index], w.name)
				return exit127(a)
			}
		}
		m.submitMany("a", 2, 3)
		m.work(30)
		for index, names := range where {
			if len(names) != 4 || names[0] == names[1] || names[1] == names[2] || names[2] == names[3] {
				t.Errorf("task %d ran on %q", index, names)
			}
		}
		if len(where) != 2 {
			t.Errorf("%d tasks ran", len(where))
		}
	})
}
