package container_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/container"
	"github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/test/kube/kubetest"
)

// trial is an attempt under test.
type trial struct {
	task      driver.Task
	out       output
	execution driver.Execution
}

var (
	job   = navvy.NewJobID()
	tasks atomic.Int64
)

// newTrial is an attempt at a task of its own.
func newTrial(s *navvy.Spec) *trial {
	n := tasks.Add(1)
	r := &trial{task: driver.Task{
		ID: navvy.TaskID{Job: job, Index: n}, Attempt: navvy.AttemptID{Number: 1, Epoch: 1},
		Token: fmt.Sprintf("trial-%s-%d", job, n), Slot: 1, Spec: s, Owner: "someone",
	}}
	r.task.Stdout = &r.out
	return r
}

// again is another attempt at the same task.
func (r *trial) again() *trial {
	n := newTrial(r.task.Spec)
	n.task.ID, n.task.Round, n.task.Failed = r.task.ID, r.task.Round, r.task.Failed
	return n
}

// start starts an attempt, and forces its end when the test is over.
func (r *trial) start(t *testing.T, d *container.Driver) *trial {
	t.Helper()
	execution, err := d.Start(t.Context(), &r.task)
	if err != nil {
		t.Fatal(err)
	}
	r.execution = execution
	return r
}

// end waits for the end.
func (r *trial) end(t *testing.T) (driver.End, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), kubetest.Patience)
	defer cancel()
	end, err := r.execution.Wait(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("it does not end; its output is %.200q", r.out.text())
	}
	return end, err
}

// waiting is a wait in the background.
type waiting struct {
	end  driver.End
	err  error
	done chan struct{}
}

func (r *trial) wait(t *testing.T) *waiting {
	w := &waiting{done: make(chan struct{})}
	go func() {
		defer close(w.done)
		ctx, cancel := context.WithTimeout(t.Context(), kubetest.Patience)
		defer cancel()
		w.end, w.err = r.execution.Wait(ctx)
	}()
	t.Cleanup(func() { <-w.done })
	return w
}

// stop forces the end.
func (r *trial) stop(t *testing.T) {
	t.Helper()
	if err := r.execution.Stop(t.Context(), true); err != nil {
		t.Error(err)
	}
}

// name is that of its Job.
func (r *trial) name() string { return strings.Fields(string(r.execution.Handle()))[1] }

// run runs a spec to its end.
func run(t *testing.T, d *container.Driver, s *navvy.Spec) (*trial, driver.End, error) {
	t.Helper()
	r := newTrial(s).start(t, d)
	end, err := r.end(t)
	return r, end, err
}

// output collects what an attempt writes.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) text() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// await waits until the output holds a text.
func (r *trial) await(t *testing.T, text string) {
	t.Helper()
	kubetest.Until(t, "it writes "+text, func() bool { return strings.Contains(r.out.text(), text) })
}

// pod is what tests look at of a pod.
type pod struct {
	Metadata struct {
		Name, UID         string
		Labels            map[string]string
		DeletionTimestamp string
	}
	Spec struct {
		NodeName   string
		Containers []map[string]any
	}
	Status struct{ Phase string }
}

// pods are those of the Job of an attempt.
func (r *trial) pods(t *testing.T, namespace string) []pod {
	t.Helper()
	var list struct{ Items []pod }
	kubetest.Open(t).Admin().Must(t, http.MethodGet,
		"/api/v1/namespaces/"+namespace+"/pods?labelSelector=batch.kubernetes.io/job-name%3D"+r.name(), "", &list)
	return list.Items
}

// onePod waits for the pod of an attempt.
func (r *trial) onePod(t *testing.T, namespace string) pod {
	t.Helper()
	var found pod
	kubetest.Until(t, "there is a pod", func() bool {
		list := r.pods(t, namespace)
		if len(list) == 1 {
			found = list[0]
		}
		return len(list) == 1
	})
	return found
}

// jobs are the names of all Jobs of a namespace.
func jobs(t *testing.T, namespace string) []string {
	t.Helper()
	var list struct {
		Items []struct{ Metadata struct{ Name string } }
	}
	kubetest.Open(t).Admin().Must(t, http.MethodGet, "/apis/batch/v1/namespaces/"+namespace+"/jobs", "", &list)
	var names []string
	for _, j := range list.Items {
		names = append(names, j.Metadata.Name)
	}
	return names
}

// wantRefusal checks that an attempt ended for a reason, with words that hold a text.
func wantRefusal(t *testing.T, end driver.End, err error, reason navvy.Reason, words string) {
	t.Helper()
	refusal := end.Refusal
	if err != nil {
		errors.As(err, &refusal)
	}
	if refusal == nil || refusal.Reason != reason || !strings.Contains(refusal.Message, words) {
		t.Errorf("ended as %+v (%+v), %v; want reason %s and %q", end, refusal, err, reason, words)
	}
}

// wantAway checks that an attempt came to nothing by the cluster's doing.
func wantAway(t *testing.T, end driver.End, err error, words string) {
	t.Helper()
	away, is := errors.AsType[*driver.Away](err)
	if !is || !strings.Contains(away.Message, words) {
		t.Errorf("ended as %+v, %v; want that it is away with %q", end, err, words)
	}
}
