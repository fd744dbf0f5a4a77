package cli

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"github.com/navvy-run/navvy"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
	"github.com/navvy-run/navvy/client"
)

func limitedJob() *client.Job {
	return &client.Job{Job: navvy.Job{ID: "0123456789ab", Spec: navvy.Spec{
		Command: &navvy.Command{Args: []string{"true"}}, Isolate: true, Network: navvy.NetworkNone,
		Limits: navvy.Limits{
			CPUs: 1500, CPUShares: 512, Memory: 512 << 20, PIDs: 64, ReadBPS: 50 << 20, WriteBPS: 20 << 20, ReadIOPS: 500, WriteIOPS: 1000,
			Output: 1 << 30, Ulimits: []navvy.Ulimit{{Name: "nofile", Soft: 1024, Hard: navvy.Unlimited}, {Name: "core"}},
		},
	}}}
}

func TestLimitsAreShown(t *testing.T) {
	t.Parallel()
	rows := map[string]string{}
	for _, row := range statusRows(limitedJob()) {
		rows[row[0]] = row[1]
	}
	want := "cpus 1.5, cpu shares 512, memory 512 MiB, processes 64, reads 50 MiB/s, writes 20 MiB/s, reads 500/s, writes 1,000/s, output 1.0 GiB, nofile=1024:unlimited, core=0"
	if rows["limits"] != want || rows["isolation"] != "isolated, no network" {
		t.Errorf("%q, %q", rows["limits"], rows["isolation"])
	}
	b, err := json.Marshal(newJobObject(limitedJob()))
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	wantJSON := map[string]any{
		"cpus": 1.5, "cpu_shares": 512.0, "memory": 536870912.0, "pids": 64.0, "read_bps": 52428800.0, "write_bps": 20971520.0,
		"read_iops": 500.0, "write_iops": 1000.0, "output": 1073741824.0, "ulimits": []any{"nofile=1024:unlimited", "core=0"},
	}
	if diff := cmp.Diff(wantJSON, got["limits"]); diff != "" || got["isolate"] != true || got["network"] != "none" {
		t.Errorf("%s\n%s", b, diff)
	}
	for _, row := range statusRows(&client.Job{}) {
		if row[0] == "limits" || row[0] == "isolation" {
			t.Errorf("a job without limits shows %q", row)
		}
	}
}

// A program that is named by a relative path is the one that is here, also when
// its tasks run in directories of their own.
func TestOwnDirectory(t *testing.T) {
	t.Parallel()
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name    string
		command navvy.Command
		want    string
	}{
		{"relative", navvy.Command{Args: []string{"./tool", "./x"}}, filepath.Join(here, "tool")},
		{"above", navvy.Command{Args: []string{"../bin/tool"}}, filepath.Join(filepath.Dir(here), "bin/tool")},
		{"in PATH", navvy.Command{Args: []string{"tool"}}, "tool"},
		{"absolute", navvy.Command{Args: []string{"/bin/tool"}}, "/bin/tool"},
		{"the input", navvy.Command{Args: []string{"{}/x"}}, "{}/x"},
		{"shell", navvy.Command{Args: []string{"./tool x"}, Shell: true}, "./tool x"},
	} {
		given := tc.command.Args[0]
		args := tc.command.Args
		if err := ownDirectory(&tc.command); err != nil || tc.command.Args[0] != tc.want || args[0] != given {
			t.Errorf("%s: %q, %v, want %q", tc.name, tc.command.Args, err, tc.want)
		}
	}
}

func TestUsageInWords(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		usage navvy.Usage
		want  string
	}{
		{navvy.Usage{}, ""},
		{navvy.Usage{User: time.Second, System: 200 * time.Millisecond}, "cpu 1.2s (user 1.0s, system 200ms)"},
		{
			navvy.Usage{User: time.Second, MaxMemory: 512 << 20, Read: 1 << 20, Written: 4096, Throttled: 3 * time.Second, MaxPIDs: 12, OOMKills: 1},
			"peak memory 512 MiB, cpu 1.0s (user 1.0s, system 0s), throttled for 3.0s, read 1.0 MiB, wrote 4.0 KiB to disk, at most 12 threads at once, 1 kill for want of memory",
		},
	} {
		if got := strings.Join(usageWords(&c.usage), ", "); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

// The exit code of run is the task's own as far as it has one, and never 0 for a
// task that failed.
func TestRunVerdict(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		reason navvy.Reason
		exit   navvy.Exit
		want   int
	}{
		{navvy.ReasonOOM, navvy.Exit{Signal: 9}, 137}, {navvy.ReasonOOM, navvy.Exit{Code: 3}, 3},
		{navvy.ReasonOutput, navvy.Exit{Signal: 15}, 143}, {navvy.ReasonOutput, navvy.Exit{}, 1}, {navvy.ReasonStart, navvy.Exit{}, 126},
	} {
		err := (&app{}).runVerdict(&navvy.Result{Attempt: navvy.Attempt{Reason: c.reason, Exit: c.exit, Message: "why"}}, nil)
		if exit, ok := errors.AsType[*exitError](err); !ok || exit.code != c.want || exit.err == nil || exit.err.Error() != "why" {
			t.Errorf("%s, %+v: %v", c.reason, c.exit, err)
		}
	}
}

// What keeps a job from going on is said when it is news.
func TestWaitingIsSaid(t *testing.T) {
	t.Parallel()
	var said strings.Builder
	a := &app{err: &said}
	before := navvy.Status{}
	for _, waiting := range []string{"", "no worker", "no worker", "", "no worker"} {
		now := navvy.Status{Waiting: waiting}
		a.sayWaiting("7k2", &before, &now)
		before = now
	}
	if got, want := said.String(), strings.Repeat("navvy: job 7k2 waits: no worker\n", 2); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestAbilitiesAreShown(t *testing.T) {
	t.Parallel()
	list := newAbilities([]*navvyv1.Abilities{
		{Kind: navvy.KindCommand, Enforces: []string{"cpus", "memory"}, Lacks: "there is no pids controller"}, {Kind: navvy.KindNoop},
	})
	want := [][]string{{"limits", "bee, command: cpus, memory"}, {"", "no others: there is no pids controller"}}
	if diff := cmp.Diff(want, abilityRows("bee, ", list)); diff != "" {
		t.Error(diff)
	}
}

// Labels and resources are said in the order of their names.
func TestPlacementText(t *testing.T) {
	t.Parallel()
	f := &placeFlags{}
	set := pflag.NewFlagSet("", pflag.ContinueOnError)
	f.add(set)
	if err := set.Parse([]string{"--on", "zone=b", "--on", "gpu=t4", "--on", "gpu=a100=x", "--resource", "x=3", "--gpus", "2"}); err != nil {
		t.Fatal(err)
	}
	job := &client.Job{Job: navvy.Job{Spec: navvy.Spec{Noop: &navvy.Noop{}}}}
	f.place(&job.Spec)
	var got []string
	for _, row := range statusRows(job) {
		if row[0] == "runs on" || row[0] == "resources" {
			got = append(got, row[0]+": "+row[1])
		}
	}
	if want := []string{"runs on: gpu=a100=x, zone=b", "resources: gpu=2, x=3"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	object, err := json.Marshal(newJobObject(job))
	if err != nil || !strings.Contains(string(object), `"labels":{"gpu":"a100=x","zone":"b"},"resources":{"gpu":2,"x":3}`) {
		t.Errorf("%s, %v", object, err)
	}
}
