package engine_test

import (
	"strings"
	"testing"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/runner/engine"
)

func TestExitCode(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, w *world) {
		d := w.open(t, instance(), engine.Options{})
		s := shell(`echo "out $NAVVY_TASK $A"; echo err >&2; exit 3`)
		s.Container.Command.Env = []string{"A=no", "A=b$(c)"}
		r, end, err := run(t, d, s)
		if err != nil || end.Refusal != nil || end.Exit.Code != 3 {
			t.Errorf("ended as %+v, %v", end, err)
		}
		if want := "out " + strings.TrimPrefix(r.task.ID.String(), string(r.task.ID.Job)+"/") + " b$(c)\n"; r.out.text() != want || r.err.text() != "err\n" {
			t.Errorf("wrote %q and %q, want %q", r.out.text(), r.err.text(), want)
		}
	})
}

func TestOutOfMemory(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, w *world) {
		d := w.open(t, instance(), engine.Options{})
		s := shell("tail /dev/zero")
		s.Limits.Memory = 32 << 20
		_, end, err := run(t, d, s)
		if err != nil || end.Refusal != nil || end.Exit == (navvy.Exit{}) || end.Usage.OOMKills == 0 {
			t.Errorf("ended as %+v, %v, want an end for want of memory", end, err)
		}
	})
}

// Limits are seen by who looks from inside, and what the engine cannot enforce is refused.
func TestLimits(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, w *world) {
		d := w.open(t, instance(), engine.Options{})
		s := shell(`cd /sys/fs/cgroup
if [ -e cpu.max ]; then cat cpu.max memory.max; else cat cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us memory/memory.limit_in_bytes; fi | tr '\n' ' '
grep -e NoNewPrivs -e Seccomp: /proc/self/status | tr '\t\n' '  '`)
		s.Limits.CPUs, s.Limits.Memory = 500, 64<<20
		r, end, err := run(t, d, s)
		if want := "50000 100000 67108864 NoNewPrivs: 1 Seccomp: 2 "; err != nil || end.Exit != (navvy.Exit{}) || r.out.text() != want {
			t.Errorf("ended as %+v, %v; sees %q, want %q", end, err, r.out.text(), want)
		}
		refused := newTrial(shell(""))
		refused.task.Spec.Limits.ReadBPS = 1 << 20
		_, err = d.Start(t.Context(), &refused.task)
		wantRefusal(t, end, err, navvy.ReasonStart, "cannot enforce read-bps")
	})
}

// What is of clusters alone is refused, and GPUs where there are none.
func TestRefused(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, w *world) {
		d := w.open(t, instance(), engine.Options{})
		for words, change := range map[string]func(*navvy.Spec){
			"a namespace":          func(s *navvy.Spec) { s.Container.Namespace = "other" },
			"a pod template":       func(s *navvy.Spec) { s.Container.Template = []byte("{}") },
			"the sharing of a pod": func(s *navvy.Spec) { s.Container.Pack = 2 },
			"buckets of a":         func(s *navvy.Spec) { s.Container.Buckets.Input = "there" },
			"container cannot be ": func(s *navvy.Spec) { s.Resources = map[string]int64{navvy.ResourceGPU: 1} },
		} {
			s := shell("exit 0")
			change(s)
			r := newTrial(s)
			_, err := d.Start(t.Context(), &r.task)
			wantRefusal(t, driver.End{}, err, navvy.ReasonStart, words)
		}
	})
}

// Images that cannot be had are waited for, for a while; the registry's words are told.
func TestImages(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, w *world) {
		d := w.open(t, instance(), engine.Options{ImagePatience: time.Second})
		for name, c := range map[string]struct{ image, words string }{
			"nobody answers": {"127.0.0.1:9/none:1", "connection refused"},
			"no name":        {"UPPER/case:1", "invalid reference format"},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				r := newTrial(shell("exit 0"))
				r.task.Spec.Container.Image = c.image
				_, err := d.Start(t.Context(), &r.task)
				wantRefusal(t, driver.End{}, err, navvy.ReasonImage, c.words)
			})
		}
	})
}
