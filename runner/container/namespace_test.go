package container_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/podtemplate"
	"github.com/navvy-run/navvy/runner/container"
	"github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/test/kube/kubetest"
)

// in is a spec that runs in a namespace.
func in(namespace string, s *navvy.Spec) *navvy.Spec {
	s.Container.Namespace = namespace
	return s
}

// A spec's namespace is where its Job is made, watched, adopted, recovered and settled.
func TestNamespaces(t *testing.T) {
	t.Parallel()
	cluster := kubetest.Open(t)
	home, team := cluster.Namespace(t), cluster.Namespace(t)
	d := open(t, home, container.Options{Keep: time.Second})
	r := newTrial(in(team, shell(hang))).start(t, d)
	w := r.wait(t)
	r.await(t, "begun")
	if len(jobs(t, home)) != 0 || len(jobs(t, team)) != 1 || !strings.HasSuffix(string(r.execution.Handle()), " "+team) {
		t.Fatalf("at home are %v, there are %v, the handle is %s", jobs(t, home), jobs(t, team), r.execution.Handle())
	}
	next := open(t, home, container.Options{Keep: time.Second})
	for name, handle := range map[string][]byte{"by its handle": r.execution.Handle(), "by its token": nil} {
		e, err := next.Recover(t.Context(), handle, &r.task)
		if err != nil || string(e.Handle()) != string(r.execution.Handle()) {
			t.Errorf("%s: %v", name, err)
		}
	}
	other := r.again().start(t, open(t, home, container.Options{}))
	if string(other.execution.Handle()) != string(r.execution.Handle()) {
		t.Errorf("%s was not adopted: %s", r.execution.Handle(), other.execution.Handle())
	}
	if err := other.execution.Stop(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	<-w.done
	done, end, err := run(t, d, in(team, shell("exit 3")))
	if err != nil || end.Exit.Code != 3 {
		t.Fatalf("ended as %+v, %v", end, err)
	}
	kubetest.Until(t, "it is settled and goes", func() bool {
		return d.Settle(t.Context(), done.task.Token) == nil && len(jobs(t, team)) == 0
	})
}

// Handles of a version that had none stand for the worker's own namespace.
func TestOldHandle(t *testing.T) {
	t.Parallel()
	namespace := kubetest.Open(t).Namespace(t)
	d := open(t, namespace, container.Options{})
	r := newTrial(shell("exit 0")).start(t, d)
	words := strings.Fields(string(r.execution.Handle()))
	e, err := open(t, namespace, container.Options{}).Recover(t.Context(), []byte("container/1 "+words[1]+" "+words[2]), &r.task)
	if err != nil || string(e.Handle()) != string(r.execution.Handle()) {
		t.Errorf("recovered with %v", err)
	}
	if end, err := r.end(t); err != nil || end.Exit.Code != 0 {
		t.Errorf("ended as %+v, %v", end, err)
	}
}

// A result that a dead worker's successor settles frees a Job in another namespace, too, when
// that is watched.
func TestSettleLater(t *testing.T) {
	t.Parallel()
	cluster := kubetest.Open(t)
	home, team := cluster.Namespace(t), cluster.Namespace(t)
	r, end, err := run(t, open(t, home, container.Options{}), in(team, shell("exit 0")))
	if err != nil || end.Exit.Code != 0 {
		t.Fatalf("ended as %+v, %v", end, err)
	}
	next := open(t, home, container.Options{Keep: time.Second})
	if err := next.Settle(t.Context(), r.task.Token); err != nil {
		t.Fatal(err)
	}
	another := newTrial(in(team, shell(hang))).start(t, next)
	kubetest.Until(t, "the old one goes", func() bool { return len(jobs(t, team)) == 1 })
	another.stop(t)
}

// A worker that may do nothing in its own namespace settles what it has run in others all the same,
// and what an earlier process has left when it comes to know of it.
func TestSettleAway(t *testing.T) {
	t.Parallel()
	cluster := kubetest.Open(t)
	home, team := cluster.Namespace(t), cluster.Namespace(t)
	const user = "navvy-away"
	rights := map[string][]string{"batch/jobs": {"*"}, "/pods": {"*"}, "/pods/log": {"*"}}
	cluster.Grant(t, team, user, rights)
	there, end, err := run(t, open(t, team, container.Options{}), shell("exit 0"))
	if err != nil || end.Exit.Code != 0 {
		t.Fatalf("ended as %+v, %v", end, err)
	}
	here, end, err := run(t, open(t, home, container.Options{}), shell("exit 0"))
	if err != nil || end.Exit.Code != 0 {
		t.Fatalf("ended as %+v, %v", end, err)
	}
	d := open(t, home, container.Options{Kubeconfig: cluster.User(t, user), Keep: time.Second})
	for range 20 { // more than are told at once
		d.Settled(there.task.Token)
		d.Settled(here.task.Token)
	}
	r, end, err := run(t, d, in(team, shell("exit 0")))
	if err != nil || end.Exit.Code != 0 {
		t.Fatalf("ended as %+v, %v", end, err)
	}
	d.Settled(r.task.Token)
	kubetest.Until(t, "they are settled and go", func() bool { return len(jobs(t, team)) == 0 })
	cluster.Grant(t, home, user, rights)
	kubetest.Until(t, "so does that at home", func() bool { return len(jobs(t, home)) == 0 })
}

// A namespace that a job names and the worker may not use is the job's fault.
func TestForeignNamespace(t *testing.T) {
	t.Parallel()
	cluster := kubetest.Open(t)
	home, team := cluster.Namespace(t), cluster.Namespace(t)
	const user = "navvy-at-home"
	cluster.Grant(t, home, user, map[string][]string{"batch/jobs": {"*"}, "/pods": {"*"}, "/pods/log": {"*"}})
	d := open(t, home, container.Options{Kubeconfig: cluster.User(t, user)})
	for range 2 {
		_, err := d.Start(t.Context(), &newTrial(in(team, shell("exit 0"))).task)
		wantRefusal(t, driver.End{}, err, navvy.ReasonPermission, `in the namespace "`+team+`"`)
	}
	_, err := open(t, home, container.Options{}).Start(t.Context(), &newTrial(in("no-such-namespace", shell("exit 0"))).task)
	wantRefusal(t, driver.End{}, err, navvy.ReasonNotFound, `namespaces "no-such-namespace" not found`)
	if _, end, err := run(t, d, shell("exit 2")); err != nil || end.Exit.Code != 2 {
		t.Errorf("at home it ended as %+v, %v", end, err)
	}
}

// What a queue says of pods is in those that are made.
func TestPodSettings(t *testing.T) {
	t.Parallel()
	cluster := kubetest.Open(t)
	namespace := cluster.Namespace(t)
	cluster.Admin().Must(t, http.MethodPost, "/api/v1/namespaces/"+namespace+"/serviceaccounts", "metadata: {name: runner}", nil)
	d := open(t, namespace, container.Options{PodTemplate: []byte("spec: {nodeSelector: {kubernetes.io/arch: amd64}, serviceAccountName: worker}")})
	s := shell("env; exit 0")
	var err error
	s.Container.Template, err = podtemplate.Compose(&navvy.Pods{
		ServiceAccount: "runner", NodeSelector: map[string]string{"kubernetes.io/os": "linux"},
		Tolerations: []string{"gpu=yes:NoSchedule"}, PullSecrets: []string{"registry"},
		Template: []byte("spec: {containers: [{name: main, image: evil, env: [{name: FROM_QUEUE, value: 'yes'}]}]}"),
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	r := newTrial(s).start(t, d)
	if end, err := r.end(t); err != nil || end.Exit.Code != 0 || !strings.Contains(r.out.text(), "FROM_QUEUE=yes\n") || !strings.Contains(r.out.text(), "NAVVY_TASK=") {
		t.Fatalf("ended as %+v, %v with output %q", end, err, r.out.text())
	}
	var list struct{ Items []struct{ Spec settings } }
	cluster.Admin().Must(t, http.MethodGet, "/api/v1/namespaces/"+namespace+"/pods", "", &list)
	if len(list.Items) != 1 {
		t.Fatalf("there are %d pods", len(list.Items))
	}
	got := list.Items[0].Spec
	got.Tolerations = got.Tolerations[:min(1, len(got.Tolerations))] // Kubernetes adds its own
	want := settings{
		ServiceAccountName: "runner",
		NodeSelector:       map[string]string{"kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"},
		Tolerations:        []toleration{{Key: "gpu", Operator: "Equal", Value: "yes", Effect: "NoSchedule"}},
		ImagePullSecrets:   []named{{Name: "registry"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the pod is another; want -, got +:\n%s", diff)
	}
}

// settings are what a queue says of a pod.
type settings struct {
	ServiceAccountName string
	NodeSelector       map[string]string
	Tolerations        []toleration
	ImagePullSecrets   []named
}

type (
	toleration struct{ Key, Operator, Value, Effect string }
	named      struct{ Name string }
)

// What a node says about a pod that it cannot make is told, in its words.
func TestWhy(t *testing.T) {
	t.Parallel()
	namespace := kubetest.Open(t).Namespace(t)
	d := open(t, namespace, container.Options{ImagePatience: time.Hour})
	missing := shell("exit 0")
	missing.Container.Template = []byte(`{"spec":{"volumes":[{"name":"v","secret":{"secretName":"nowhere"}}],"containers":[{"name":"main","volumeMounts":[{"name":"v","mountPath":"/v"}]}]}}`)
	image := shell("exit 0")
	image.Container.Image = "registry.invalid/no/such:1"
	before, beside := shell("exit 0"), shell("exit 0")
	before.Container.Template = []byte(`{"spec":{"initContainers":[{"name":"setup","image":"registry.invalid/setup:1"}]}}`)
	beside.Container.Template = []byte(`{"spec":{"initContainers":[{"name":"proxy","image":"registry.invalid/proxy:1","restartPolicy":"Always"}]}}`)
	for words, s := range map[string]*navvy.Spec{
		`secret "nowhere" not found`: missing, "image registry.invalid/no/such:1: ErrImagePull: failed to pull": image,
		"image registry.invalid/setup:1 of container setup: ErrImagePull: failed to pull": before,
		"image registry.invalid/proxy:1 of container proxy: ErrImagePull: failed to pull": beside,
	} {
		r := newTrial(s).start(t, d)
		w := r.wait(t)
		kubetest.Until(t, "it says "+words, func() bool { return strings.Contains(d.Why(t.Context(), r.task.Token), words) })
		r.stop(t)
		<-w.done
	}
	r := newTrial(shell(hang)).start(t, d)
	r.wait(t)
	r.await(t, "begun")
	if why := d.Why(t.Context(), r.task.Token); why != "" {
		t.Errorf("it runs, and waits for %q", why)
	}
	if why := d.Why(t.Context(), "nobody"); why != "" {
		t.Errorf("nobody waits for %q", why)
	}
	r.stop(t)
}

// No more Jobs are there than may be, those included that have ended and are not settled.
func TestMaxJobs(t *testing.T) {
	t.Parallel()
	namespace := kubetest.Open(t).Namespace(t)
	d := open(t, namespace, container.Options{MaxJobs: 2, Keep: time.Hour})
	ended, end, err := run(t, d, shell("exit 0"))
	if err != nil || end.Exit.Code != 0 {
		t.Fatalf("ended as %+v, %v", end, err)
	}
	second := newTrial(shell(hang)).start(t, d)
	w := second.wait(t)
	second.await(t, "begun")
	third := newTrial(shell("exit 0"))
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := d.Start(ctx, &third.task); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a third one started with %v", err)
	}
	// Who takes over what is there waits for nothing.
	second.again().start(t, d)
	started := make(chan error, 1)
	go func() {
		var err error
		third.execution, err = d.Start(t.Context(), &third.task)
		started <- err
	}()
	kubetest.Until(t, "it says why it waits", func() bool { return strings.Contains(d.Why(t.Context(), third.task.Token), "there are 2 Jobs") })
	if names := jobs(t, namespace); len(names) != 2 {
		t.Errorf("there are Jobs %v", names)
	}
	// The Job of who is settled while others wait goes at once.
	if err := d.Settle(t.Context(), ended.task.Token); err != nil {
		t.Fatal(err)
	}
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	if end, err := third.end(t); err != nil || end.Exit.Code != 0 {
		t.Errorf("ended as %+v, %v", end, err)
	}
	second.again().start(t, d).stop(t)
	<-w.done
}
