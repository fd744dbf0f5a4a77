package container_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/container"
	"github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/test/kube/kubetest"
)

func TestExitCode(t *testing.T) {
	t.Parallel()
	namespace := kubetest.Open(t).Namespace(t)
	d := open(t, namespace, container.Options{})
	r, end, err := run(t, d, shell("echo out; echo err >&2; exit 3"))
	if err != nil || end.Refusal != nil || end.Exit.Code != 3 {
		t.Errorf("ended as %+v, %v", end, err)
	}
	if got := r.out.text(); got != "out\nerr\n" && got != "err\nout\n" {
		t.Errorf("wrote %q", got)
	}
}

func TestOutOfMemory(t *testing.T) {
	t.Parallel()
	namespace := kubetest.Open(t).Namespace(t)
	d := open(t, namespace, container.Options{})
	s := shell("tail /dev/zero")
	s.Limits.Memory = 32 << 20
	_, end, err := run(t, d, s)
	if err != nil || end.Refusal != nil || end.Exit == (navvy.Exit{}) || end.Usage.OOMKills == 0 {
		t.Errorf("ended as %+v, %v, want an end for want of memory", end, err)
	}
}

// A deadline ends the pod, whatever its program makes of that.
func TestDeadline(t *testing.T) {
	t.Parallel()
	namespace := kubetest.Open(t).Namespace(t)
	d := open(t, namespace, container.Options{})
	s := shell("trap 'echo asked; exit 0' TERM; echo begun; sleep 1000000 & wait")
	s.Timeout = 5 * time.Second
	r, end, err := run(t, d, s)
	wantRefusal(t, end, err, navvy.ReasonTimeout, "longer than 5s")
	if got := r.out.text(); !strings.HasPrefix(got, "begun\n") && got != "" { // a slow machine may not have begun
		t.Errorf("wrote %q", got)
	}
	for _, p := range r.pods(t, namespace) {
		if p.Status.Phase == "Running" && p.Metadata.DeletionTimestamp == "" {
			t.Errorf("pod %s runs on", p.Metadata.Name)
		}
	}
}

// Images that cannot be had are waited for, for a while; the registry's words are told.
func TestImages(t *testing.T) {
	t.Parallel()
	namespace := kubetest.Open(t).Namespace(t)
	d := open(t, namespace, container.Options{ImagePatience: time.Second})
	for name, c := range map[string]struct{ image, words string }{
		"nobody answers": {"127.0.0.1:9/none:1", "connection refused"},
		"no name":        {"UPPER/case:1", "invalid reference format"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := shell("exit 0")
			s.Container.Image = c.image
			r, end, err := run(t, d, s)
			wantRefusal(t, end, err, navvy.ReasonImage, c.words)
			r.wantGone(t, namespace)
		})
	}
}

func TestConfigError(t *testing.T) {
	t.Parallel()
	namespace := kubetest.Open(t).Namespace(t)
	d := open(t, namespace, container.Options{ImagePatience: time.Second, PodTemplate: []byte(`
spec: {containers: [{name: main, env: [{name: A, valueFrom: {secretKeyRef: {name: nowhere, key: a}}}]}]}
`)})
	r, end, err := run(t, d, shell("exit 0"))
	wantRefusal(t, end, err, navvy.ReasonStart, `secret "nowhere" not found`)
	r.wantGone(t, namespace)
}

// wantGone checks that nothing of an attempt that has ended can run any more: its retry has
// another Job.
func (r *trial) wantGone(t *testing.T, namespace string) {
	t.Helper()
	for _, p := range r.pods(t, namespace) {
		if p.Status.Phase != "Failed" && p.Status.Phase != "Succeeded" {
			t.Errorf("pod %s is there, in phase %s", p.Metadata.Name, p.Status.Phase)
		}
	}
	kubetest.Until(t, "its Job is gone", func() bool { return !slices.Contains(jobs(t, namespace), r.name()) })
}

// A container beside the task's own that cannot be made is its failure, also if that runs: then
// that is ended first.
func TestBesideFails(t *testing.T) {
	t.Parallel()
	namespace := kubetest.Open(t).Namespace(t)
	d := open(t, namespace, container.Options{ImagePatience: time.Second, PodTemplate: []byte(`
spec: {containers: [{name: beside, image: "127.0.0.1:9/none:1"}]}
`)})
	r, end, err := run(t, d, shell(hang))
	wantRefusal(t, end, err, navvy.ReasonImage, "connection refused")
	wantRefusal(t, end, err, navvy.ReasonImage, "image 127.0.0.1:9/none:1 of container beside: ")
	r.wantGone(t, namespace)
}

// A pod for which no node has room waits, as long as it may.
func TestUnschedulable(t *testing.T) {
	t.Parallel()
	namespace := kubetest.Open(t).Namespace(t)
	d := open(t, namespace, container.Options{})
	s := shell("exit 0")
	s.Limits.CPUs = 1_000_000
	s.Container.Pending = 3 * time.Second
	r := newTrial(s).start(t, d)
	w := r.wait(t)
	kubetest.Until(t, "it says why it waits", func() bool { return strings.Contains(d.Why(t.Context(), r.task.Token), "Insufficient cpu") })
	<-w.done
	wantRefusal(t, w.end, w.err, navvy.ReasonPending, "Insufficient cpu")
	r.wantGone(t, namespace)
}

// hang begins at once and ends when it is asked to, as if all were well.
const hang = "trap 'exit 0' TERM; echo begun; sleep 1000000 & wait"

func TestEvicted(t *testing.T) {
	t.Parallel()
	cluster := kubetest.Open(t)
	namespace := cluster.Namespace(t)
	d := open(t, namespace, container.Options{})
	r := newTrial(shell(hang)).start(t, d)
	w := r.wait(t)
	r.await(t, "begun")
	p := r.onePod(t, namespace)
	cluster.Admin().Must(t, http.MethodPost, "/api/v1/namespaces/"+namespace+"/pods/"+p.Metadata.Name+"/eviction",
		`{apiVersion: policy/v1, kind: Eviction, metadata: {name: `+p.Metadata.Name+`}}`, nil)
	<-w.done
	wantAway(t, w.end, w.err, "EvictionByEvictionAPI")
	// The next attempt at the task makes a Job of the same name.
	next := r.again().start(t, d)
	if next.name() != r.name() || string(next.execution.Handle()) == string(r.execution.Handle()) {
		t.Errorf("after %s comes %s", r.execution.Handle(), next.execution.Handle())
	}
	next.wait(t)
	next.await(t, "begun")
	next.stop(t)
}

func TestPreempted(t *testing.T) {
	t.Parallel()
	cluster := kubetest.Open(t)
	namespace := cluster.Namespace(t)
	admin := cluster.Admin()
	const gadget = "test.example~1gadget"
	admin.Must(t, http.MethodPatch, "/api/v1/nodes/"+kubetest.Node+"/status", `[{"op": "add", "path": "/status/capacity/`+gadget+`", "value": "1"}]`, nil)
	admin.Must(t, http.MethodPost, "/apis/scheduling.k8s.io/v1/priorityclasses",
		`{metadata: {name: urgent}, value: 1000}`, nil)
	d := open(t, namespace, container.Options{PodTemplate: []byte(`
spec: {containers: [{name: main, resources: {limits: {test.example/gadget: 1}}}]}
`)})
	r := newTrial(shell(hang)).start(t, d)
	w := r.wait(t)
	r.await(t, "begun")
	admin.Must(t, http.MethodPost, "/api/v1/namespaces/"+namespace+"/pods", `
metadata: {name: urgent}
spec:
  priorityClassName: urgent
  restartPolicy: Never
  containers: [{name: main, image: `+kubetest.Image+`, command: ["true"], resources: {limits: {test.example/gadget: 1}}}]
`, nil)
	<-w.done
	wantAway(t, w.end, w.err, "PreemptionByScheduler")
}

// Who deletes a Job or a pod of it by hand is told from those who have reasons.
func TestDeletedByOthers(t *testing.T) {
	t.Parallel()
	cluster := kubetest.Open(t)
	namespace := cluster.Namespace(t)
	d := open(t, namespace, container.Options{})
	for name, remove := range map[string]func(*testing.T, *trial){
		"pod": func(t *testing.T, r *trial) {
			cluster.Admin().Must(t, http.MethodDelete, "/api/v1/namespaces/"+namespace+"/pods/"+r.onePod(t, namespace).Metadata.Name, "", nil)
		},
		"job": func(t *testing.T, r *trial) {
			cluster.Admin().Must(t, http.MethodDelete, "/apis/batch/v1/namespaces/"+namespace+"/jobs/"+r.name()+"?propagationPolicy=Background", "", nil)
		},
		"job and pods first": func(t *testing.T, r *trial) {
			cluster.Admin().Must(t, http.MethodDelete, "/apis/batch/v1/namespaces/"+namespace+"/jobs/"+r.name()+"?propagationPolicy=Foreground", "", nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newTrial(shell(hang)).start(t, d)
			w := r.wait(t)
			r.await(t, "begun")
			remove(t, r)
			<-w.done
			wantRefusal(t, w.end, w.err, navvy.ReasonDeleted, "somebody else deleted")
		})
	}
}

// A node that is lost, with what ran on it, is nobody's fault.
func TestNodeLost(t *testing.T) {
	t.Parallel()
	cluster := kubetest.Open(t)
	namespace := cluster.Namespace(t)
	node := cluster.FakeNode(t)
	d := open(t, namespace, container.Options{PodTemplate: []byte(`
spec:
  nodeSelector: {kubernetes.io/hostname: ` + node + `}
  tolerations:
  - {key: ` + kubetest.Fake + `, operator: Exists}
  - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 1}
`)})
	s := shell(hang)
	s.Grace = time.Second
	r := newTrial(s).start(t, d)
	w := r.wait(t)
	kubetest.Until(t, "its pod has a node", func() bool {
		list := r.pods(t, namespace)
		return len(list) == 1 && list[0].Spec.NodeName == node
	})
	// Nobody renews the node's lease: after a while it is unreachable, and its pods are evicted.
	<-w.done
	wantAway(t, w.end, w.err, "DeletionByTaintManager")
	if left := jobs(t, namespace); len(left) != 0 {
		t.Errorf("the lost node keeps %v", left)
	}
}

// What a kubelet tells of pods, on nodes that kwok plays.
func TestFates(t *testing.T) {
	t.Parallel()
	cluster := kubetest.Open(t)
	namespace := cluster.Namespace(t)
	for fate, check := range map[string]func(*testing.T, driver.End, error){
		"slow":  succeeded,
		"later": succeeded, // an image that comes while it is waited for
		"image": func(t *testing.T, end driver.End, err error) {
			wantRefusal(t, end, err, navvy.ReasonImage, "the registry says no")
		},
		"pressure": func(t *testing.T, end driver.End, err error) { wantAway(t, end, err, "low on resource: memory") },
		"unknown":  func(t *testing.T, end driver.End, err error) { wantAway(t, end, err, "could not be located") },
	} {
		t.Run(fate, func(t *testing.T) {
			t.Parallel()
			patience := kubetest.Patience
			if fate == "image" {
				patience = time.Second
			}
			d := open(t, namespace, container.Options{PodTemplate: cluster.Fated(t, fate), ImagePatience: patience})
			_, end, err := run(t, d, shell("exit 0"))
			check(t, end, err)
		})
	}
}

func succeeded(t *testing.T, end driver.End, err error) {
	t.Helper()
	if err != nil || end.Refusal != nil || end.Exit != (navvy.Exit{}) {
		t.Errorf("ended as %+v, %v", end, err)
	}
}
