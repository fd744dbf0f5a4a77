package fleet

import (
	"errors"
	"strings"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/manager"
	"github.com/navvy-run/navvy/server/auth"
	"github.com/navvy-run/navvy/worker"
)

// onGPUs is a script that says "clash" if a gpu of its own is somebody else's, too. It
// locks a file for each, and the kernel gives back the locks of whoever has ended.
func onGPUs(t *testing.T, n int64, do string) navvy.Job {
	t.Helper()
	lock := `for d in $(echo $CUDA_VISIBLE_DEVICES | tr , ' '); do
		fd=$((d + 4)); eval "exec $fd>>` + t.TempDir() + `/gpu$d"; flock -n $fd || echo clash; done; `
	job := script(lock + do + `; echo "has $CUDA_VISIBLE_DEVICES"`)
	job.Spec.Resources = map[string]int64{navvy.ResourceGPU: n}
	return job
}

// Each task has gpus of its own, whoever else runs on its worker, while connections
// break; who asks for none sees none.
func TestGPUs(t *testing.T) {
	t.Parallel()
	for _, dispatch := range []manager.Dispatch{manager.Pull, manager.Push} {
		t.Run(string(dispatch), func(t *testing.T) {
			t.Parallel()
			s := newSite(t, manager.Options{Dispatch: dispatch, Parallelism: 16})
			s.hireWith(s.wire.Addr, &worker.Options{
				Name: "w1", Slots: 8, Dir: t.TempDir(), Labels: map[string]string{"zone": "a"}, Resources: map[string]int64{navvy.ResourceGPU: 3},
			})
			s.hire("w2", t.TempDir(), 8)
			near := client.New(s.direct())
			one := onGPUs(t, 1, "sleep 0.0$(($$ % 5))")
			two := one
			two.Spec.Resources = map[string]int64{navvy.ResourceGPU: 2}
			none := one
			none.Spec.Resources, none.Spec.Labels = nil, map[string]string{"zone": "a"}
			ids := []navvy.JobID{s.submit(near, one, 30), s.submit(near, two, 15), s.submit(near, none, 30)}
			for _, done := range []int64{5, 15, 25} {
				s.await(near, ids[0], "on its way", func(st *navvy.Status) bool { return st.Counts.Answered() >= done })
				s.wire.Snap()
			}
			for i, id := range ids {
				results, texts := s.answers(near, id)
				for k, r := range results {
					numbers, _ := strings.CutPrefix(strings.TrimSpace(texts[k]), "has")
					got := len(strings.FieldsFunc(numbers, func(r rune) bool { return r == ',' || r == ' ' }))
					if want := []int{1, 2, 0}[i]; r.State != navvy.Succeeded || r.Worker != "w1" || strings.Contains(texts[k], "clash") || got != want {
						t.Errorf("job %d, task %d on %s: %q", i, k, r.Worker, texts[k])
					}
				}
			}
		})
	}
}

// A worker that was away for longer than its lease still runs what it was given when
// it is given more: that waits until the stale attempt has ended.
func TestStaleAttemptsHaveTheirGPUs(t *testing.T) {
	t.Parallel()
	s := newSite(t, manager.Options{Dispatch: manager.Push, Parallelism: 16})
	s.hireWith(s.wire.Addr, &worker.Options{Name: "w1", Slots: 8, Dir: t.TempDir(), Resources: map[string]int64{navvy.ResourceGPU: 2}})
	near := client.New(s.direct())
	path, open := gate(t)
	id := s.submit(near, onGPUs(t, 1, `echo run >>`+path+`.log; until test -e `+path+`; do sleep 0.01; done`), 4)
	awaitLines(t, path+".log", 2)
	s.wire.Part()
	s.await(near, id, "taken back", func(st *navvy.Status) bool { return st.Counts.Running == 0 })
	s.wire.Heal()
	s.await(near, id, "running again", func(st *navvy.Status) bool { return st.Counts.Running == 2 })
	awaitLines(t, path+".log", 4)
	open()
	results, texts := s.answers(near, id)
	for i, r := range results {
		if r.State != navvy.Succeeded || strings.Contains(texts[i], "clash") {
			t.Errorf("task %d: %+v, %q", i, r, texts[i])
		}
	}
}

// A job that nobody can run waits, and says why, until somebody comes who can.
func TestWaitsForLabel(t *testing.T) {
	t.Parallel()
	s := newSite(t, manager.Options{Dispatch: manager.Pull})
	s.hire("w1", t.TempDir(), 2)
	near := client.New(s.direct())
	job := script("echo ok")
	job.Spec.Labels = map[string]string{"gpu": "a100"}
	id := s.submit(near, job, 1)
	s.await(near, id, "waiting", func(st *navvy.Status) bool { return st.Waiting == "worker w1 has no label gpu=a100" })
	s.hireWith(s.wire.Addr, &worker.Options{Name: "w2", Slots: 1, Dir: t.TempDir(), Labels: map[string]string{"gpu": "a100"}})
	results, texts := s.answers(near, id)
	if len(results) != 1 || results[0].Worker != "w2" || texts[0] != "ok\n" {
		t.Errorf("%+v, %q", results, texts)
	}
}

// The server knows what each worker has, which is its host's by default, and refuses
// an offer that is none.
func TestOffers(t *testing.T) {
	t.Parallel()
	s := newSite(t, manager.Options{Dispatch: manager.Push, Parallelism: 8})
	near := client.New(s.direct())
	s.hireWith(s.wire.Addr, &worker.Options{
		Name: "w1", Slots: 3, Dir: t.TempDir(), Version: "1.2", Labels: map[string]string{"zone": "a"}, Resources: map[string]int64{"licence": 2},
	})
	path, open := gate(t)
	job := script("until test -e " + path + "; do sleep 0.01; done")
	job.Spec.Resources = map[string]int64{"licence": 1}
	id := s.submit(near, job, 1)
	s.await(near, id, "running", func(st *navvy.Status) bool { return st.Counts.Running == 1 })
	m, err := near.Overview(t.Context())
	s.must(err)
	w := m.GetWorkers()[0]
	offer, used := w.GetOffer(), w.GetUsed()
	if w.GetSlots() != 3 || w.GetVersion() != "1.2" || w.GetQuarantine() != "" || offer.GetLabels()["zone"] != "a" || offer.GetResources()["licence"] != 2 ||
		offer.GetCpusMilli() < 1000 || offer.GetMemory() < 1<<20 || used.GetResources()["licence"] != 1 {
		t.Errorf("%v", w)
	}
	open()
	if results, _ := s.answers(near, id); len(results) != 1 || results[0].State != navvy.Succeeded {
		t.Errorf("%+v", results)
	}
	got, err := near.Get(t.Context(), id)
	if s.must(err); got.Spec.Resources["licence"] != 1 {
		t.Errorf("the job asks for %v", got.Spec.Resources)
	}
	conn := s.connect(s.wire.Past(), "w2", auth.RoleWorker)
	defer conn.Close()
	_, err = client.NewWorkers(conn).Work(t.Context(), client.WorkerInfo{Name: "w2", Offer: navvy.Offer{Resources: map[string]int64{"gpu": -1}}})
	if !errors.Is(err, navvy.ErrInvalid) || !strings.Contains(err.Error(), "worker w2: resource gpu: want 1 to") {
		t.Errorf("a bad offer: %v", err)
	}
}
