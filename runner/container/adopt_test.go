package container_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/container"
	"github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/test/kube/kubetest"
)

// Whoever is given a task whose Job runs takes that over: it runs once, is read from its first
// byte again, and a stop of who had it before leaves it alone.
func TestAdopt(t *testing.T) {
	t.Parallel()
	namespace := kubetest.Open(t).Namespace(t)
	one, other := open(t, namespace, container.Options{}), open(t, namespace, container.Options{})
	s := shell("echo begun; while [ ! -e /tmp/go ]; do sleep 1; done; exit 4")
	s.Container.Command.Args[0] = "trap 'exit 4' TERM; echo begun; sleep 1000000 & wait"
	first := newTrial(s).start(t, one)
	w := first.wait(t)
	first.await(t, "begun\n")
	second := first.again().start(t, other)
	if string(first.execution.Handle()) != string(second.execution.Handle()) {
		t.Fatalf("%s was not adopted: %s", first.execution.Handle(), second.execution.Handle())
	}
	// At once, when the watch of the first has not told of the adoption.
	if err := first.execution.Stop(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	<-w.done
	wantRefusal(t, w.end, w.err, "stopped", "another attempt has its Job")
	w = second.wait(t)
	second.await(t, "begun\n")
	if err := second.execution.Stop(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	<-w.done
	if w.err != nil || w.end.Refusal != nil || w.end.Exit.Code != 4 || second.out.text() != "begun\n" {
		t.Errorf("the adopted one ended as %+v, %v with output %q", w.end, w.err, second.out.text())
	}
}

// numbered gives a trial an attempt's id, and a token that ends in it.
func (r *trial) numbered(id navvy.AttemptID) *trial {
	r.task.Attempt, r.task.Token = id, fmt.Sprintf("%s-%d-%s", r.task.ID.Job, r.task.ID.Index, id)
	return r
}

// A worker whose task was given to another one meanwhile does not take the Job of that away, also
// not if it has looked at the Job just before.
func TestAdoptOvertaken(t *testing.T) {
	t.Parallel()
	cluster := kubetest.Open(t)
	namespace := cluster.Namespace(t)
	gate := cluster.Gate(t, "overtaken", "system:masters")
	one, other := open(t, namespace, container.Options{Kubeconfig: gate.Kubeconfig}), open(t, namespace, container.Options{})
	first := newTrial(shell("trap 'exit 4' TERM; echo begun; sleep 1000000 & wait")).numbered(navvy.AttemptID{Number: 1, Epoch: 1}).start(t, other)
	stale := first.again().numbered(navvy.AttemptID{Number: 9, Epoch: 1})
	next := first.again().numbered(navvy.AttemptID{Number: 1, Epoch: 2})
	var adopted error
	gate.Rule(func(c *kubetest.Call) *kubetest.Answer {
		if c.Verb == "patch" && next.execution == nil && adopted == nil { // the stale one is about to adopt
			next.execution, adopted = other.Start(t.Context(), &next.task)
		}
		return nil
	})
	for range 2 {
		_, err := one.Start(t.Context(), &stale.task)
		wantAway(t, driver.End{}, err, "a later attempt")
	}
	if adopted != nil || next.execution == nil || string(next.execution.Handle()) != string(first.execution.Handle()) {
		t.Fatalf("the later one was started with %v", adopted)
	}
	if calls := gate.Calls(); calls["patch jobs"] != 1 || calls["delete jobs"] != 0 {
		t.Errorf("it took %v", calls)
	}
	w := next.wait(t)
	next.await(t, "begun\n")
	if err := next.execution.Stop(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	<-w.done
	if w.err != nil || w.end.Refusal != nil || w.end.Exit.Code != 4 {
		t.Errorf("ended as %+v, %v", w.end, w.err)
	}
}

// An attempt that comes after one that failed is another Job.
func TestNextJob(t *testing.T) {
	t.Parallel()
	namespace := kubetest.Open(t).Namespace(t)
	d := open(t, namespace, container.Options{})
	first, end, err := run(t, d, shell("echo once; exit 1"))
	if err != nil || end.Exit.Code != 1 {
		t.Fatalf("ended as %+v, %v", end, err)
	}
	again := first.again().start(t, d) // its report was lost
	if end, err := again.end(t); err != nil || end.Exit.Code != 1 || again.out.text() != "once\n" {
		t.Errorf("ended as %+v, %v with output %q", end, err, again.out.text())
	}
	next := first.again()
	next.task.Failed++
	next.start(t, d)
	if end, err := next.end(t); err != nil || end.Exit.Code != 1 {
		t.Errorf("ended as %+v, %v", end, err)
	}
	round := first.again()
	round.task.Round++
	round.start(t, d)
	if end, err := round.end(t); err != nil || end.Exit.Code != 1 {
		t.Errorf("ended as %+v, %v", end, err)
	}
	if names := jobs(t, namespace); len(names) != 3 {
		t.Errorf("there are Jobs %v, want 3", names)
	}
}

// A Job stays until its result is settled, and goes some time later.
func TestSettle(t *testing.T) {
	t.Parallel()
	cluster := kubetest.Open(t)
	namespace := cluster.Namespace(t)
	d := open(t, namespace, container.Options{Keep: time.Second})
	r, end, err := run(t, d, shell("exit 0"))
	if err != nil || end.Exit.Code != 0 {
		t.Fatalf("ended as %+v, %v", end, err)
	}
	var job struct {
		Spec struct{ TTLSecondsAfterFinished int }
	}
	cluster.Admin().Must(t, http.MethodGet, "/apis/batch/v1/namespaces/"+namespace+"/jobs/"+r.name(), "", &job)
	if day := 24 * 3600; job.Spec.TTLSecondsAfterFinished < day {
		t.Errorf("it goes after %d s, settled or not", job.Spec.TTLSecondsAfterFinished)
	}
	kubetest.Until(t, "it is settled and goes", func() bool {
		if err := d.Settle(t.Context(), r.task.Token); err != nil {
			t.Fatal(err)
		}
		return len(jobs(t, namespace)) == 0
	})
	if err := d.Settle(t.Context(), r.task.Token); err != nil {
		t.Error(err)
	}
}

// A Job of that name that is not navvy's is left alone.
func TestForeignJob(t *testing.T) {
	t.Parallel()
	cluster := kubetest.Open(t)
	namespace := cluster.Namespace(t)
	d := open(t, namespace, container.Options{})
	r := newTrial(shell("exit 0"))
	first := r.again().start(t, d)
	name := first.name()
	first.stop(t)
	kubetest.Until(t, "it is gone", func() bool { return len(jobs(t, namespace)) == 0 })
	cluster.Admin().Must(t, http.MethodPost, "/apis/batch/v1/namespaces/"+namespace+"/jobs", `
metadata: {name: `+name+`}
spec: {suspend: true, template: {spec: {restartPolicy: Never, containers: [{name: main, image: `+kubetest.Image+`}]}}}
`, nil)
	_, err := d.Start(t.Context(), &r.task)
	if err == nil || !strings.Contains(err.Error(), "not for this task") {
		t.Errorf("started with %v", err)
	}
	if names := jobs(t, namespace); len(names) != 1 {
		t.Errorf("there are Jobs %v", names)
	}
}
