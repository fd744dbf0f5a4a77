package container_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/container"
	"github.com/navvy-run/navvy/test/kube/kubetest"
)

// effects is a directory of this machine in which containers leave traces.
type effects string

// template is of pods that see it as /effects.
func (e effects) template() []byte {
	return fmt.Appendf(nil, `
spec:
  volumes: [{name: effects, hostPath: {path: %q}}]
  containers: [{name: main, volumeMounts: [{name: effects, mountPath: /effects}]}]
`, string(e))
}

// gated is a task that leaves a trace, and ends with code 7 when let go.
func (e effects) gated() *navvy.Spec {
	return shell("echo $NAVVY_TASK >> /effects/begun; echo begun; while [ ! -e /effects/go ]; do sleep 0.2; done; echo ended; exit 7")
}

// let lets the tasks go.
func (e effects) let(t *testing.T) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(string(e), "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

// begun are the tasks that have begun, as often as they have.
func (e effects) begun() []string {
	text, _ := os.ReadFile(filepath.Join(string(e), "begun"))
	return strings.Fields(string(text))
}

// check checks that trials ended well and whole, that each of their tasks ran once, and that there is
// one Job for each.
func (e effects) check(t *testing.T, namespace string, trials []*trial, ends []*waiting) {
	t.Helper()
	uids := map[string]bool{}
	for i, r := range trials {
		<-ends[i].done
		if w := ends[i]; w.err != nil || w.end.Refusal != nil || w.end.Exit.Code != 7 || r.out.text() != "begun\nended\n" {
			t.Errorf("%s ended as %+v, %v with output %q", r.name(), w.end, w.err, r.out.text())
		}
		uids[string(r.execution.Handle())] = true
	}
	begun := e.begun()
	slices.Sort(begun)
	if once := slices.Compact(slices.Clone(begun)); len(once) != len(trials) || len(begun) != len(trials) {
		t.Errorf("%d tasks ran as %v", len(trials), begun)
	}
	if names := jobs(t, namespace); len(names) != len(trials) || len(uids) != len(trials) {
		t.Errorf("for %d tasks there are %d Jobs, known as %d", len(trials), len(names), len(uids))
	}
}

// An API server that dies in the middle, twice, costs nothing: what runs goes on and its end is
// seen, what is being made is made once.
func TestServerKilled(t *testing.T) { //nolint:paralleltest // it takes the cluster from all others
	cluster := kubetest.Open(t)
	namespace := cluster.Namespace(t)
	e := effects(t.TempDir())
	d := open(t, namespace, container.Options{PodTemplate: e.template()})
	const many = 24
	trials, ends := make([]*trial, many), make([]*waiting, many)
	for i := range many / 2 {
		trials[i] = newTrial(e.gated()).start(t, d)
		ends[i] = trials[i].wait(t)
	}
	kubetest.Until(t, "some have begun", func() bool { return len(e.begun()) > many/6 })
	cluster.Stop(t, "kube-apiserver")
	var starting sync.WaitGroup
	for i := many / 2; i < many; i++ {
		trials[i] = newTrial(e.gated())
		starting.Go(func() { trials[i].execution, _ = d.Start(t.Context(), &trials[i].task) })
	}
	cluster.Start(t, "kube-apiserver")
	kubetest.Until(t, "more have begun", func() bool { return len(e.begun()) > many/2 })
	cluster.Stop(t, "kube-apiserver")
	e.let(t) // what ends now nobody tells
	cluster.Start(t, "kube-apiserver")
	starting.Wait()
	for i := many / 2; i < many; i++ {
		if trials[i].execution == nil {
			t.Fatalf("%d was not started", i)
		}
		ends[i] = trials[i].wait(t)
	}
	e.check(t, namespace, trials, ends)
}

// An overloaded API server, which says for how long to leave it alone, gets few calls, and
// all that was asked for comes about in the end.
func TestThrottled(t *testing.T) {
	t.Parallel()
	cluster := kubetest.Open(t)
	namespace := cluster.Namespace(t)
	gate := cluster.Gate(t, "throttled", "system:masters")
	// More tries to create than a client makes by itself.
	often := map[string]int{"create jobs": 13, "patch jobs": 2, "delete jobs": 2, "get pods/log": 3, "watch jobs": 2, "watch pods": 2, "list jobs": 2, "list pods": 2}
	gate.Rule(func(c *kubetest.Call) *kubetest.Answer {
		if c.N >= often[c.Verb+" "+c.What] {
			return nil
		}
		return &kubetest.Answer{Status: http.StatusTooManyRequests, Reason: "TooManyRequests", RetryAfter: 1}
	})
	e := effects(t.TempDir())
	d := open(t, namespace, container.Options{Kubeconfig: gate.Kubeconfig, PodTemplate: e.template(), Keep: time.Second})
	r := newTrial(e.gated()).start(t, d)
	if creates := gate.Calls()["create jobs"]; creates != often["create jobs"]+1 {
		t.Errorf("it took %d calls to create a Job, want %d", creates, often["create jobs"]+1)
	}
	w := r.wait(t)
	e.let(t)
	e.check(t, namespace, []*trial{r}, []*waiting{w})
	d.Settled(r.task.Token)
	kubetest.Until(t, "it is settled and goes", func() bool { return len(jobs(t, namespace)) == 0 })
	r = newTrial(shell(hang)).start(t, d)
	w = r.wait(t)
	r.await(t, "begun")
	r.stop(t)
	<-w.done
	kubetest.Until(t, "it is deleted", func() bool { return len(jobs(t, namespace)) == 0 })
	for call, n := range gate.Calls() {
		if limit := often[call] + 8; n > limit {
			t.Errorf("%d calls to %s, want %d at most", n, call, limit)
		}
	}
}

// A watch that has been cut, and is told that it asks for what is forgotten, lists anew: what
// happened meanwhile is known.
func TestExpired(t *testing.T) {
	t.Parallel()
	cluster := kubetest.Open(t)
	namespace := cluster.Namespace(t)
	gate := cluster.Gate(t, "expired", "system:masters")
	e := effects(t.TempDir())
	d := open(t, namespace, container.Options{Kubeconfig: gate.Kubeconfig, PodTemplate: e.template()})
	var trials []*trial
	var ends []*waiting
	for range 4 {
		r := newTrial(e.gated()).start(t, d)
		trials, ends = append(trials, r), append(ends, r.wait(t))
		r.await(t, "begun")
	}
	var stopped int
	gate.Rule(func(c *kubetest.Call) *kubetest.Answer {
		if c.Verb != "watch" && c.Verb != "list" || stopped > 5 {
			return nil
		}
		stopped++
		return &kubetest.Answer{Status: http.StatusGone, Reason: "Expired"}
	})
	gate.Cut()
	e.let(t)
	kubetest.Until(t, "the Jobs are over", func() bool {
		for _, r := range trials {
			if list := r.pods(t, namespace); len(list) != 1 || list[0].Status.Phase != "Failed" {
				return false
			}
		}
		return true
	})
	e.check(t, namespace, trials, ends)
	if calls := gate.Calls(); stopped == 0 || calls["watch jobs"]+calls["list jobs"] > 12 {
		t.Errorf("it took %v", calls)
	}
}

// A Job that was made by a call whose answer was lost is found by the next call.
func TestAnswerLost(t *testing.T) {
	t.Parallel()
	cluster := kubetest.Open(t)
	namespace := cluster.Namespace(t)
	gate := cluster.Gate(t, "lost", "system:masters")
	gate.Rule(func(c *kubetest.Call) *kubetest.Answer {
		switch {
		case c.Verb == "create" && c.N%2 == 0:
			return &kubetest.Answer{Forward: true}
		case c.Verb == "get" && c.What == "jobs" && c.N == 0:
			return &kubetest.Answer{Status: http.StatusServiceUnavailable, Reason: "ServiceUnavailable"}
		}
		return nil
	})
	e := effects(t.TempDir())
	d := open(t, namespace, container.Options{Kubeconfig: gate.Kubeconfig, PodTemplate: e.template()})
	var trials []*trial
	var ends []*waiting
	for range 4 {
		r := newTrial(e.gated()).start(t, d)
		trials, ends = append(trials, r), append(ends, r.wait(t))
	}
	e.let(t)
	e.check(t, namespace, trials, ends)
	if calls := gate.Calls(); calls["create jobs"] > 3*len(trials) {
		t.Errorf("it took %v", calls)
	}
}

// While the API server is away nobody calls it without a pause, and when it is back all goes on.
func TestAway(t *testing.T) {
	t.Parallel()
	cluster := kubetest.Open(t)
	namespace := cluster.Namespace(t)
	gate := cluster.Gate(t, "away", "system:masters")
	e := effects(t.TempDir())
	d := open(t, namespace, container.Options{Kubeconfig: gate.Kubeconfig, PodTemplate: e.template()})
	const many = 12
	trials, ends := make([]*trial, many), make([]*waiting, many)
	for i := range many / 2 {
		trials[i] = newTrial(e.gated()).start(t, d)
		ends[i] = trials[i].wait(t)
		trials[i].await(t, "begun")
	}
	before := gate.Count()
	gate.Rule(func(*kubetest.Call) *kubetest.Answer { return &kubetest.Answer{} })
	gate.Cut()
	var starting sync.WaitGroup
	for i := many / 2; i < many; i++ {
		trials[i] = newTrial(e.gated())
		starting.Go(func() { trials[i].execution, _ = d.Start(t.Context(), &trials[i].task) })
	}
	e.let(t)
	// Calls become rarer: the sooner a machine makes them, the longer is the time that is looked at.
	const span = 12 * time.Second
	<-time.After(span)
	calls := gate.Count() - before
	if most := many * 12; calls > most {
		t.Errorf("%d calls in %s, want %d at most: %v", calls, span, most, gate.Calls())
	}
	t.Logf("%d attempts made %d calls in %s", many, calls, span)
	gate.Rule(nil)
	starting.Wait()
	for i := many / 2; i < many; i++ {
		if trials[i].execution == nil {
			t.Fatalf("%d was not started", i)
		}
		ends[i] = trials[i].wait(t)
	}
	e.check(t, namespace, trials, ends)
}

// A stop that the API server does not hear is carried out when it is back, though nobody asks again.
func TestStopWhileAway(t *testing.T) {
	t.Parallel()
	cluster := kubetest.Open(t)
	namespace := cluster.Namespace(t)
	gate := cluster.Gate(t, "stopping", "system:masters")
	d := open(t, namespace, container.Options{Kubeconfig: gate.Kubeconfig})
	r := newTrial(shell(hang)).start(t, d)
	w := r.wait(t)
	r.await(t, "begun")
	gate.Rule(func(c *kubetest.Call) *kubetest.Answer {
		if c.Verb == "delete" {
			return &kubetest.Answer{}
		}
		return nil
	})
	if err := r.execution.Stop(t.Context(), false); err == nil {
		t.Error("a stop that nobody heard is none")
	}
	gate.Rule(nil)
	<-w.done
	if w.err != nil || w.end.Refusal != nil || w.end.Exit != (navvy.Exit{}) {
		t.Errorf("ended as %+v, %v", w.end, w.err)
	}
	kubetest.Until(t, "its Job is gone", func() bool { return len(jobs(t, namespace)) == 0 })
}

// A start that is given up leaves no Job behind, also if the server has made one and could not say so.
func TestStartGivenUp(t *testing.T) {
	t.Parallel()
	cluster := kubetest.Open(t)
	namespace := cluster.Namespace(t)
	gate := cluster.Gate(t, "giving", "system:masters")
	made := make(chan struct{})
	var once sync.Once
	gate.Rule(func(c *kubetest.Call) *kubetest.Answer {
		switch {
		case c.What != "jobs":
		case c.Verb == "create" && c.N == 0:
			return &kubetest.Answer{Forward: true}
		case c.Verb == "get":
			once.Do(func() { close(made) })
			return &kubetest.Answer{Status: http.StatusServiceUnavailable, Reason: "ServiceUnavailable"}
		}
		return nil
	})
	d := open(t, namespace, container.Options{Kubeconfig: gate.Kubeconfig})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := d.Start(ctx, &newTrial(shell(hang)).task)
		ended <- err
	}()
	kubetest.Until(t, "it looks for what was made", func() bool { return closed(made) })
	if names := jobs(t, namespace); len(names) != 1 {
		t.Errorf("there are Jobs %v", names)
	}
	cancel()
	if err := <-ended; err == nil {
		t.Error("it has started")
	}
	gate.Rule(nil)
	kubetest.Until(t, "its Job is gone", func() bool { return len(jobs(t, namespace)) == 0 })
}
