package container_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/container"
	"github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/test/kube/kubetest"
)

// counted is a script that writes numbered lines, some of them in the same instant, for a while.
func counted(lines int) (script, want string) {
	var b strings.Builder
	for i := range lines {
		fmt.Fprintf(&b, "line %d\n", i)
	}
	return fmt.Sprintf("i=0; while [ $i -lt %d ]; do echo line $i; i=$((i+1)); [ $((i%%20)) != 0 ] || sleep 0.1; done; exit 5", lines), b.String()
}

// Connections that break, at any time, cost nothing of the output, and add nothing to it.
func TestBrokenConnections(t *testing.T) {
	t.Parallel()
	cluster := kubetest.Open(t)
	namespace := cluster.Namespace(t)
	proxy, err := cluster.Proxy()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	d := open(t, namespace, container.Options{Kubeconfig: cluster.Through(t, proxy, "breaking", "system:masters").Kubeconfig})
	script, want := counted(1000)
	r := newTrial(shell(script)).start(t, d)
	w := r.wait(t)
	for i := 1; ; i++ {
		mark := fmt.Sprintf("line %d\n", i*150)
		kubetest.Until(t, mark, func() bool { return strings.Contains(r.out.text(), mark) || closed(w.done) })
		if closed(w.done) {
			break
		}
		if i%2 == 0 {
			proxy.Cut()
			continue
		}
		proxy.Break()
		time.AfterFunc(time.Second, proxy.Heal)
	}
	if w.err != nil || w.end.Exit.Code != 5 || r.out.text() != want {
		t.Errorf("ended as %+v, %v with %d bytes of output, want %d: %.300q", w.end, w.err, len(r.out.text()), len(want), r.out.text())
	}
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// Logs are rotated at 10 MiB; what is read meanwhile is complete.
func TestRotation(t *testing.T) {
	t.Parallel()
	namespace := kubetest.Open(t).Namespace(t)
	d := open(t, namespace, container.Options{})
	line := strings.Repeat("0123456789", 400) + "\n"
	const lines = 5200 // more than 20 MB, in 13 s and more
	r, end, err := run(t, d, shell(fmt.Sprintf(
		"l=%s; i=0; while [ $i -lt %d ]; do echo $l; i=$((i+1)); [ $((i%%40)) != 0 ] || sleep 0.1; done; exit 6", strings.TrimSpace(line), lines)))
	if err != nil || end.Exit.Code != 6 {
		t.Errorf("ended as %+v, %v", end, err)
	}
	if got := r.out.text(); !bytes.Equal([]byte(got), bytes.Repeat([]byte(line), lines)) {
		t.Errorf("%d bytes of output are not the %d that were written", len(got), lines*len(line))
	}
}

// What the API server refuses is the task's, or the set-up's, fault, and says so.
func TestRefusedByServer(t *testing.T) {
	t.Parallel()
	cluster := kubetest.Open(t)
	namespace := cluster.Namespace(t)
	t.Run("no such namespace", func(t *testing.T) {
		t.Parallel()
		d := open(t, "no-such-namespace", container.Options{})
		_, err := d.Start(t.Context(), &newTrial(shell("exit 0")).task)
		wantRefusal(t, driver.End{}, err, navvy.ReasonNotFound, `namespaces "no-such-namespace" not found`)
	})
	t.Run("not allowed to create", func(t *testing.T) {
		t.Parallel()
		cluster.Grant(t, namespace, "looker", map[string][]string{"batch/jobs": {"list", "watch"}, "/pods": {"list", "watch"}})
		d := open(t, namespace, container.Options{Kubeconfig: cluster.User(t, "looker")})
		_, err := d.Start(t.Context(), &newTrial(shell("exit 0")).task)
		wantRefusal(t, driver.End{}, err, navvy.ReasonPermission, `User "looker" cannot create resource "jobs"`)
	})
	t.Run("a pod that makes no sense", func(t *testing.T) {
		t.Parallel()
		s := shell("exit 0")
		s.Container.Command.Dir = "relative\x01"
		d := open(t, namespace, container.Options{PodTemplate: []byte(`spec: {containers: [{name: main, ports: [{containerPort: 99999999}]}]}`)})
		_, err := d.Start(t.Context(), &newTrial(s).task)
		wantRefusal(t, driver.End{}, err, navvy.ReasonStart, "ports[0].containerPort")
	})
}

// The driver makes the calls that the chart's Role allows, and no others.
func TestRights(t *testing.T) {
	t.Parallel()
	cluster := kubetest.Open(t)
	namespace := cluster.Namespace(t)
	rights := kubetest.Rights(t, "../../deploy/helm/navvy/rights.yaml")
	const user = "navvy-least"
	cluster.Grant(t, namespace, user, rights)
	one := open(t, namespace, container.Options{Kubeconfig: cluster.User(t, user), Keep: time.Second})
	other := open(t, namespace, container.Options{Kubeconfig: cluster.User(t, user), Keep: time.Second})
	done, end, err := run(t, one, shell("echo out; exit 3"))
	if err != nil || end.Exit.Code != 3 || done.out.text() != "out\n" {
		t.Errorf("ended as %+v, %v with output %q", end, err, done.out.text())
	}
	kubetest.Until(t, "it is settled and goes", func() bool {
		return one.Settle(t.Context(), done.task.Token) == nil && len(jobs(t, namespace)) == 0
	})
	calls := cluster.Calls(t, user)
	if writes := calls["create jobs"] + calls["patch jobs"] + calls["delete jobs"] + calls["delete pods"]; writes < 2 || calls["create jobs"] != 1 {
		t.Errorf("one Job cost %v", calls)
	}
	stuck := shell("exit 0")
	stuck.Container.Template = []byte(`{"spec":{"volumes":[{"name":"v","secret":{"secretName":"nowhere"}}],"containers":[{"name":"main","volumeMounts":[{"name":"v","mountPath":"/v"}]}]}}`)
	waits := newTrial(stuck).start(t, one)
	kubetest.Until(t, "the events are told", func() bool { return strings.Contains(one.Why(t.Context(), waits.task.Token), "nowhere") })
	waits.stop(t)
	first := newTrial(shell("trap '' TERM; echo begun; sleep 1000000 & wait")).start(t, one)
	w := first.wait(t)
	first.await(t, "begun")
	second := first.again().start(t, other)
	ws := second.wait(t)
	if err := first.execution.Stop(t.Context(), true); err != nil {
		t.Error(err)
	}
	<-w.done
	for _, force := range []bool{false, true} {
		if err := second.execution.Stop(t.Context(), force); err != nil {
			t.Error(err)
		}
	}
	<-ws.done
	compare(t, cluster.Calls(t, user), rights)
	if err := one.Ping(t.Context()); err != nil { // what everybody may ask is in no role
		t.Error(err)
	}
}

// compare checks that calls use all rights, and no others.
func compare(t *testing.T, calls map[string]int, rights map[string][]string) {
	t.Helper()
	allowed := map[string]bool{}
	for resource, verbs := range rights {
		_, name, _ := strings.Cut(resource, "/")
		for _, verb := range verbs {
			allowed[verb+" "+name] = true
			// A server before Kubernetes 1.32 sends no lists in watches, and is asked for them.
			if calls[verb+" "+name] == 0 && verb != "list" {
				t.Errorf("nobody uses the right to %s %s", verb, name)
			}
		}
	}
	for call := range calls {
		if !allowed[call] {
			t.Errorf("it calls %s, to which it needs no right", call)
		}
	}
}

// One Job costs two writes and no more, if nothing goes wrong.
func TestWrites(t *testing.T) {
	t.Parallel()
	cluster := kubetest.Open(t)
	namespace := cluster.Namespace(t)
	const user = "navvy-writes"
	cluster.Grant(t, namespace, user, map[string][]string{"batch/jobs": {"*"}, "/pods": {"*"}, "/pods/log": {"*"}})
	d := open(t, namespace, container.Options{Kubeconfig: cluster.User(t, user)})
	const n = 5
	for range n {
		r, end, err := run(t, d, shell("exit 0"))
		if err != nil || end.Exit != (navvy.Exit{}) {
			t.Fatalf("ended as %+v, %v", end, err)
		}
		if err := d.Settle(t.Context(), r.task.Token); err != nil {
			t.Fatal(err)
		}
	}
	calls := cluster.Calls(t, user)
	if calls["create jobs"] != n || calls["patch jobs"] != n || calls["list jobs"] > 2 || calls["list pods"] > 2 || calls["get jobs"] > 0 {
		t.Errorf("%d Jobs cost %v", n, calls)
	}
}
