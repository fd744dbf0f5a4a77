package holder

import (
	"bytes"
	"runtime"
	"sync"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/output"
)

// Who follows the output of a task, and waits, costs little memory. The test is
// not parallel: it looks at the memory of the process.
func TestFollowersCostLittleMemory(t *testing.T) {
	h, _ := start(t, testConfig(t))
	c := client.New(h.Conn())
	gate := t.TempDir() + "/gate"
	id := submit(t, c, navvy.Job{Spec: shell(`echo early; until test -e ` + gate + `; do sleep 0.01; done; echo late`)}, "")
	const many = 300
	before := heap()
	var waiting, followers sync.WaitGroup
	waiting.Add(many)
	for range many {
		followers.Go(func() {
			var got bytes.Buffer
			err := c.Output(t.Context(), navvy.TaskID{Job: id}, client.OutputOptions{Follow: true}, client.OutputSink{
				Write: func(_ output.Stream, p []byte) error {
					got.Write(p)
					return nil
				},
				Flush: func() error {
					if got.String() == "early\n" {
						waiting.Done()
					}
					return nil
				},
			})
			if err != nil || got.String() != "early\nlate\n" {
				t.Errorf("%q, %v", got.String(), err)
			}
		})
	}
	waiting.Wait()
	if grown := heap() - before; grown > many*100<<10 {
		t.Errorf("%d followers take %d bytes of memory", many, grown)
	}
	touch(t, gate)
	followers.Wait()
}

// heap is how much memory is in use.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}
