package process_test

import (
	"context"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/process"
	"github.com/navvy-run/navvy/runner/process/isolate"
)

// BenchmarkStart measures the time from start to exit of /bin/true against a
// plain fork and exec, in turns within one run.
func BenchmarkStart(b *testing.B) {
	program, err := exec.LookPath("true")
	if err != nil {
		b.Skip(err)
	}
	for name, bm := range map[string]struct {
		needs  []navvy.Ability
		limits navvy.Limits
		group  bool
		box    *isolate.Box
	}{
		"none":      {},
		"ulimit":    {box: &isolate.Box{Ulimits: []navvy.Ulimit{{Name: "nofile", Soft: 100, Hard: 100}}}},
		"isolated":  {group: true, box: &isolate.Box{Isolate: true, UID: isolate.FirstUID, Dir: "/"}},
		"group":     {group: true},
		"group-pid": {group: true, needs: []navvy.Ability{navvy.AbilityPIDs}, limits: navvy.Limits{PIDs: 100}},
		"group-all": {
			group: true, needs: []navvy.Ability{navvy.AbilityCPUs, navvy.AbilityMemory, navvy.AbilityPIDs},
			limits: navvy.Limits{CPUs: 2000, Memory: 1 << 30, PIDs: 100},
		},
	} {
		b.Run(name, func(b *testing.B) {
			config := process.Config{Args: []string{program}, Limits: bm.limits}
			if bm.group {
				config.Groups = tree(b, bm.needs...)
			}
			if bm.box != nil {
				var err error
				if config.Plan, err = isolate.Open().Plan(*bm.box); err != nil {
					b.Skip(err)
				}
			}
			var plain, ours time.Duration
			for i := range b.N {
				config.Name = "b" + strconv.Itoa(i)
				begun := time.Now()
				bare(b, program)
				between := time.Now()
				begin(b, config)
				plain += between.Sub(begun)
				ours += time.Since(between)
			}
			b.ReportMetric(float64(plain.Nanoseconds())/float64(b.N), "ns/plain")
			b.ReportMetric(float64(ours)/float64(plain), "x-plain")
		})
	}
}

// bare runs a program as plainly as Go can.
func bare(b *testing.B, program string) {
	b.Helper()
	pid, err := syscall.ForkExec(program, []string{program}, nil)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := syscall.Wait4(pid, nil, 0, nil); err != nil {
		b.Fatal(err)
	}
}

func begin(b *testing.B, c process.Config) {
	b.Helper()
	p, err := process.Start(&c)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := p.Wait(context.Background()); err != nil {
		b.Fatal(err)
	}
}
