package local_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/navvy-run/navvy/cluster/driver"
)

// BenchmarkWorkers makes a cluster of 100 workers, waits until all have joined, measures what
// they use when there is nothing to do, and removes them:
//
//	go test -run - -bench Workers -benchtime 1x ./cluster/local
func BenchmarkWorkers(b *testing.B) {
	const workers, atOnce, idle = 100, 16, 20 * time.Second
	for i := range b.N {
		state := b.TempDir()
		d := open(b, state)
		c := echoes(fmt.Sprintf("bench-%d", i), workers)
		list, err := d.Compile(b.Context(), c, salt)
		if err != nil {
			b.Fatal(err)
		}
		begun := time.Now()
		var all sync.WaitGroup
		free := make(chan struct{}, atOnce)
		for i := range list {
			put := func() {
				if err := d.Put(b.Context(), c.Name, &list[i]); err != nil {
					b.Error(err)
				}
			}
			if list[i].Kind != "worker" {
				put()
				continue
			}
			free <- struct{}{}
			all.Go(func() { put(); <-free })
		}
		all.Wait()
		b.ReportMetric(time.Since(begun).Seconds(), "s-applied")
		for joined := 0; joined < workers; {
			world, err := d.Observe(b.Context(), c.Name)
			if err != nil {
				b.Fatal(err)
			}
			joined = 0
			for _, o := range world.Resources {
				if o.Kind == "worker" && o.Health == driver.HealthOK {
					joined++
				}
			}
		}
		b.ReportMetric(time.Since(begun).Seconds(), "s-joined")
		before := cores(state)
		for kind := range before { // what it took of processors to get there
			b.ReportMetric(before[kind], "cpu-s-"+kind)
		}
		<-time.After(idle)
		after := cores(state)
		for kind := range after {
			b.ReportMetric(100*(after[kind]-before[kind])/idle.Seconds(), "%-of-a-core-"+kind)
		}
		begun = time.Now()
		removeAll(b, d, c.Name)
		b.ReportMetric(time.Since(begun).Seconds(), "s-removed")
		if list := left(state); len(list) > 0 {
			b.Errorf("there is left %q", list)
		}
		if err := d.Close(); err != nil {
			b.Error(err)
		}
	}
}

// removeAll removes all of a cluster.
func removeAll(b *testing.B, d driver.Driver, cluster string) {
	b.Helper()
	world, err := d.Observe(b.Context(), cluster)
	if err != nil {
		b.Fatal(err)
	}
	for _, kind := range []string{"worker", "queue", "server", driver.KindCluster} {
		var all sync.WaitGroup
		for i := range world.Resources {
			if o := &world.Resources[i]; o.Kind == kind {
				all.Go(func() {
					if err := d.Remove(b.Context(), cluster, o); err != nil {
						b.Error(err)
					}
				})
			}
		}
		all.Wait()
	}
}

// cores is how many seconds of processor time the processes of clusters have used, by what
// they are.
func cores(state string) map[string]float64 {
	used := map[string]float64{}
	for _, pid := range processes(state) {
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		threads, err2 := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
		if err != nil || err2 != nil {
			continue
		}
		kind := "workers"
		switch args := strings.Split(string(line), "\x00"); {
		case len(args) > 2 && args[1] == "server":
			kind = "server"
		case len(args) > 2 && args[1] == "cluster":
			kind = "supervisor"
		}
		for _, path := range threads { // to the nanosecond: an idle worker uses less than a hundredth of a second
			stat, _ := os.ReadFile(path)
			n, _, _ := strings.Cut(string(stat), " ")
			ns, _ := strconv.ParseFloat(n, 64)
			used[kind] += ns / 1e9
		}
	}
	return used
}
