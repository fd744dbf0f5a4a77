package cgroup_test

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/navvy-run/navvy"
)

// host stands for a long-lived process that does one piece of work after the
// other: a line on its standard input names one, a line on its output ends it.
func host(from io.Reader, out io.Writer) error {
	in := bufio.NewScanner(from)
	for in.Scan() {
		name, argument, _ := strings.Cut(in.Text(), " ")
		if err := work(io.Discard, name, argument); err != nil {
			return err
		}
		if _, err := fmt.Fprintln(out, "done"); err != nil {
			return err
		}
	}
	return in.Err()
}

// TestMeter has a host do light and heavy work in turns: each lap is what its work used.
func TestMeter(t *testing.T) {
	tree := open(t, navvy.AbilityMemory, navvy.AbilityCPUs)
	g, err := tree.New("host", &navvy.Limits{Memory: 256 << 20, CPUs: 4000}, "/")
	if err != nil {
		t.Fatal(err)
	}
	r, in, out := startHost(t, g)
	meter := g.Meter()
	defer meter.Close() //nolint:errcheck // nothing to lose
	lap := func(work string) navvy.Usage {
		if _, err := fmt.Fprintln(in, work); err != nil {
			t.Fatal(err)
		}
		if !out.Scan() {
			t.Fatal("the host has ended")
		}
		u := meter.Lap()
		t.Logf("%s: %+v", work, u)
		return u
	}
	lap("nothing")
	eaten := lap("eat 67108864")
	spun := lap("spin 300ms")
	idle := lap("nothing")
	if eaten.MaxMemory < 64<<20 {
		t.Errorf("who ate 64 MiB had %d bytes at most", eaten.MaxMemory)
	}
	if spun.CPU() < 50*time.Millisecond {
		t.Errorf("who span for 300 ms used %s", spun.CPU())
	}
	if idle.CPU() > spun.CPU()/2 || idle.MaxMemory > 2*eaten.MaxMemory {
		t.Errorf("who did nothing used %+v", idle)
	}
	if err := in.Close(); err != nil {
		t.Error(err)
	}
	if err := r.Wait(); err != nil {
		t.Error(err)
	}
}
