package container_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/container"
	"github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/runner/driver/drivertest"
	"github.com/navvy-run/navvy/test/kube/kubetest"
)

// packing returns a driver that can have pods shared.
func packing(tb testing.TB, namespace string) *container.Driver {
	tb.Helper()
	return open(tb, namespace, container.Options{NavvyImage: kubetest.Open(tb).NavvyImage(tb), Keep: time.Second, ImagePatience: time.Second})
}

// shared is a spec of tasks that share pods, and run a shell script there, which finds the
// index of its task in NAVVY_TASK.
func shared(pack int, script string) *navvy.Spec {
	s := shell(script)
	s.Container.Pack = pack
	return s
}

// job of its own, as packs are of one.
func newJob(s *navvy.Spec, n int) []*trial {
	id := navvy.NewJobID()
	list := make([]*trial, n)
	for i := range list {
		list[i] = newTrial(s)
		list[i].task.ID = navvy.TaskID{Job: id, Index: int64(i)}
	}
	return list
}

// startAll starts attempts at once.
func startAll(t *testing.T, d *container.Driver, list []*trial) {
	t.Helper()
	errs := make(chan error, len(list))
	for _, r := range list {
		go func() {
			var err error
			r.execution, err = d.Start(t.Context(), &r.task)
			errs <- err
		}()
	}
	for range list {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if t.Failed() {
		t.FailNow()
	}
}

// Shared pods pass the suite of all drivers, and keep both streams apart.
func TestPackConformance(t *testing.T) {
	t.Parallel()
	cluster := kubetest.Open(t)
	drivertest.Run(t, func(t testing.TB) drivertest.Harness {
		namespace := cluster.Namespace(t)
		return drivertest.Harness{
			Open: func(tb testing.TB) driver.Driver { return packing(tb, namespace) },
			Spec: func(w drivertest.Work) (*navvy.Spec, bool) {
				s, ok := specOf(w)
				if ok {
					// It is no container's first process, and keeps its signal to itself.
					args := s.Container.Command.Args
					for i := range args {
						args[i] = strings.Replace(args[i], fmt.Sprintf("sh -c 'kill -%d $$'\nexit $?", w.Signal), fmt.Sprintf("kill -%d $$", w.Signal), 1)
					}
					s.Container.Pack = 2
				}
				return s, ok
			},
			Many: 20, Patience: kubetest.Patience,
		}
	})
}

// 200 tasks in pods of 50 end each in its own way, and each runs once.
func TestPack(t *testing.T) {
	t.Parallel()
	namespace := kubetest.Open(t).Namespace(t)
	d := packing(t, namespace)
	const n, k = 200, 50
	list := newJob(shared(k, `echo "out $NAVVY_TASK $NAVVY_ATTEMPT"; echo "err $NAVVY_TASK" >&2; exit $((NAVVY_TASK % 7 == 3 ? 3 : 0))`), n)
	errs := make([]output, n)
	for i, r := range list {
		r.task.Stderr = &errs[i]
	}
	startAll(t, d, list)
	pods := map[string]int{}
	for i, r := range list {
		end, err := r.end(t)
		want := 0
		if i%7 == 3 {
			want = 3
		}
		if err != nil || end.Refusal != nil || end.Exit != (navvy.Exit{Code: want}) || end.Ran <= 0 {
			t.Errorf("task %d ended as %+v, %v", i, end, err)
		}
		if out := r.out.text(); out != fmt.Sprintf("out %d 1\n", i) || errs[i].text() != fmt.Sprintf("err %d\n", i) {
			t.Errorf("task %d wrote %q and %q", i, out, errs[i].text())
		}
		pods[r.name()]++
	}
	if len(pods) != n/k || len(jobs(t, namespace)) != n/k {
		t.Errorf("the tasks are in pods %v, there are Jobs %v", pods, jobs(t, namespace))
	}
	for _, r := range list {
		d.Settled(r.task.Token)
	}
	kubetest.Until(t, "the Jobs go", func() bool { return len(jobs(t, namespace)) == 0 })
}

// A driver that comes after one that died goes on where that was: all that runs is found, and
// all output is there from its first byte; what had ended without being settled, too.
func TestPackRecover(t *testing.T) {
	t.Parallel()
	namespace := kubetest.Open(t).Namespace(t)
	one, other := packing(t, namespace), packing(t, namespace)
	list := newJob(shared(10, `echo "begun $NAVVY_TASK"; while [ "$NAVVY_TASK" = 4 ] && [ ! -e /tmp/go ]; do sleep 0.1; done; [ "$NAVVY_TASK" != 4 ] || sleep 1; echo "ended $NAVVY_TASK"; exit "$NAVVY_TASK"`), 10)
	list[0].task.Spec.Container.Command.Args[0] = `echo "begun $NAVVY_TASK"; [ "$NAVVY_TASK" != 4 ] || sleep 5; echo "ended $NAVVY_TASK"; exit "$NAVVY_TASK"`
	startAll(t, one, list)
	for _, r := range list[:4] {
		if end, err := r.end(t); err != nil || end.Refusal != nil {
			t.Errorf("ended as %+v, %v", end, err)
		}
	}
	list[4].await(t, "begun 4")
	again := make([]*trial, len(list))
	for i, r := range list {
		again[i] = newTrial(r.task.Spec)
		again[i].task.ID, again[i].task.Token = r.task.ID, r.task.Token
		handle := r.execution.Handle()
		if i%2 == 0 {
			handle = nil // it died before it could write that down
		}
		var err error
		if again[i].execution, err = other.Recover(t.Context(), handle, &again[i].task); err != nil {
			t.Fatal(err)
		}
	}
	for i, r := range again {
		end, err := r.end(t)
		if want := fmt.Sprintf("begun %d\nended %d\n", i, i); err != nil || end.Exit.Code != i || r.out.text() != want {
			t.Errorf("task %d ended as %+v, %v with output %q", i, end, err, r.out.text())
		}
	}
	if names := jobs(t, namespace); len(names) != 1 {
		t.Errorf("there are Jobs %v", names)
	}
	for _, r := range again {
		other.Settled(r.task.Token)
	}
	kubetest.Until(t, "the Job goes", func() bool { return len(jobs(t, namespace)) == 0 })
}

// Whoever is given tasks that are in a pod already finds them there, without a handle; a stop of
// who had them before leaves them alone.
func TestPackAdopt(t *testing.T) {
	t.Parallel()
	namespace := kubetest.Open(t).Namespace(t)
	one, other := packing(t, namespace), packing(t, namespace)
	list := newJob(shared(4, `echo "begun $NAVVY_TASK"; [ "$NAVVY_TASK" != 1 ] || sleep 5; exit "$NAVVY_TASK"`), 4)
	startAll(t, one, list)
	list[1].wait(t)
	list[1].await(t, "begun 1")
	again := make([]*trial, 3)
	for i := range again { // the half of them that was lost, and more
		again[i] = list[i].again()
		again[i].task.Attempt.Number = 2
		if i == 0 {
			again[i].task.Attempt = navvy.AttemptID{Number: 1, Epoch: 2} // by a server that started again
		}
	}
	startAll(t, other, again)
	for _, r := range list[:3] {
		if err := r.execution.Stop(t.Context(), true); err != nil {
			t.Error(err)
		}
	}
	for i, r := range append(again, list[3]) {
		end, err := r.end(t)
		if want := fmt.Sprintf("begun %d\n", i); err != nil || end.Exit.Code != i || r.out.text() != want {
			t.Errorf("task %d ended as %+v, %v with output %q", i, end, err, r.out.text())
		}
	}
	end, err := list[2].end(t)
	wantRefusal(t, end, err, navvy.ReasonStopped, "another attempt has it")
	if names := jobs(t, namespace); len(names) != 1 {
		t.Errorf("there are Jobs %v", names)
	}
}

// Whoever ends a task leaves a pod alone in which another navvy has one.
func TestPackStopBeside(t *testing.T) {
	t.Parallel()
	namespace := kubetest.Open(t).Namespace(t)
	one, other := packing(t, namespace), packing(t, namespace)
	list := newJob(shared(3, blocked), 3)
	startAll(t, one, list)
	waits := []*waiting{list[0].wait(t), list[1].wait(t), list[2].wait(t)}
	list[1].await(t, "begun 1")
	again := list[1].again()
	again.task.Attempt.Number = 2
	w := again.start(t, other).wait(t)
	again.await(t, "begun 1")
	for _, r := range list {
		if err := r.execution.Stop(t.Context(), false); err != nil {
			t.Error(err)
		}
	}
	<-waits[1].done
	<-waits[2].done
	wantRefusal(t, waits[1].end, waits[1].err, navvy.ReasonStopped, "another attempt has it")
	wantRefusal(t, waits[2].end, waits[2].err, navvy.ReasonStopped, "other attempts go on")
	select {
	case <-w.done:
		t.Fatalf("the other navvy's ended as %+v, %v", w.end, w.err)
	default:
	}
	if names := jobs(t, namespace); len(names) != 1 {
		t.Errorf("there are Jobs %v", names)
	}
	if err := list[0].execution.Stop(t.Context(), false); err != nil { // it has ended
		t.Error(err)
	}
	if err := again.execution.Stop(t.Context(), true); err != nil {
		t.Error(err)
	}
	<-w.done
}

// A pod that nobody wants any more, though tasks that have ended are on it in another navvy's name,
// is told to be looked for by whoever gives up the last that ran, and then ends.
func TestPackNobody(t *testing.T) {
	t.Parallel()
	namespace := kubetest.Open(t).Namespace(t)
	one, other := packing(t, namespace), packing(t, namespace)
	list := newJob(shared(2, blocked), 2)
	startAll(t, one, list)
	if end, err := list[0].end(t); err != nil || end.Exit != (navvy.Exit{}) {
		t.Errorf("the first ended as %+v, %v", end, err)
	}
	one.Settled(list[0].task.Token)
	again := list[1].again()
	again.task.Attempt.Number = 2
	w := again.start(t, other).wait(t)
	again.await(t, "begun 1")
	list[1].stop(t)
	select {
	case <-other.Strays():
		t.Error("it is looked for while it is wanted")
	default:
	}
	if err := again.execution.Stop(t.Context(), false); err != nil {
		t.Error(err)
	}
	<-w.done
	wantRefusal(t, w.end, w.err, navvy.ReasonStopped, "other attempts go on")
	select {
	case <-other.Strays():
	default:
		t.Error("it is not looked for")
	}
	kubetest.Until(t, "the Job goes", func() bool {
		for _, a := range other.Adrift() { // as a worker does whose server says that nobody wants them
			if err := other.Sweep(t.Context(), a.Token); err != nil {
				t.Error(err)
			}
		}
		return len(jobs(t, namespace)) == 0
	})
}

// A task that another navvy has begun while it waits for others to share a pod is given back.
func TestPackElsewhereMeanwhile(t *testing.T) {
	t.Parallel()
	namespace := kubetest.Open(t).Namespace(t)
	one, other := packing(t, namespace), packing(t, namespace)
	list := newJob(shared(3, blocked), 4)
	startAll(t, one, list[:3])
	waits := []*waiting{list[0].wait(t), list[1].wait(t), list[2].wait(t)}
	<-waits[0].done // now those that come wait for more of them
	again := list[3].again()
	again.task.Attempt.Number = 2
	again.start(t, other) // and the first attempt does not look, as it knows of none before
	_, err := one.Start(t.Context(), &list[3].task)
	wantAway(t, driver.End{}, err, "by now")
	if end, err := again.end(t); err != nil || end.Exit != (navvy.Exit{}) || again.out.text() != "begun 3\n" {
		t.Errorf("ended as %+v, %v with %q", end, err, again.out.text())
	}
	if names := jobs(t, namespace); len(names) != 2 {
		t.Errorf("there are Jobs %v", names)
	}
	list[1].stop(t)
}

// blocked is a script of which one task hangs.
const blocked = `echo "begun $NAVVY_TASK"; if [ "$NAVVY_TASK" = 1 ]; then trap 'exit 9' TERM; sleep 1000000 & wait; fi; exit 0`

// When a pod is deleted in the middle, what has ended has ended, who ran is told, and the
// others run elsewhere.
func TestPackDeleted(t *testing.T) {
	t.Parallel()
	cluster := kubetest.Open(t)
	namespace := cluster.Namespace(t)
	d := packing(t, namespace)
	list := newJob(shared(3, blocked), 3)
	startAll(t, d, list)
	waits := []*waiting{list[0].wait(t), list[1].wait(t), list[2].wait(t)}
	list[1].await(t, "begun 1")
	<-waits[0].done
	pod := list[1].onePod(t, namespace)
	cluster.Admin().Must(t, http.MethodDelete, "/api/v1/namespaces/"+namespace+"/pods/"+pod.Metadata.Name, "", nil)
	<-waits[1].done
	<-waits[2].done
	if w := waits[0]; w.err != nil || w.end != (driver.End{Ran: w.end.Ran, Usage: w.end.Usage}) {
		t.Errorf("the first ended as %+v, %v", w.end, w.err)
	}
	wantAway(t, waits[1].end, waits[1].err, "somebody else deleted")
	wantAway(t, waits[2].end, waits[2].err, "before its turn")
	again := list[2].again()
	again.task.Attempt.Number = 2
	again.start(t, d)
	if end, err := again.end(t); err != nil || end.Exit != (navvy.Exit{}) || again.out.text() != "begun 2\n" {
		t.Errorf("ended as %+v, %v with %q", end, err, again.out.text())
	}
}

// A task that fails is tried in a pod of its own; one that is stopped costs others in its pod
// nothing but time; when all are, the pod ends, and once.
func TestPackStop(t *testing.T) {
	t.Parallel()
	namespace := kubetest.Open(t).Namespace(t)
	d := packing(t, namespace)
	list := newJob(shared(4, blocked), 4)
	startAll(t, d, list)
	var waits []*waiting
	for _, r := range list {
		waits = append(waits, r.wait(t))
	}
	list[1].await(t, "begun 1")
	for _, i := range []int{1, 2} {
		if err := list[i].execution.Stop(t.Context(), false); err != nil {
			t.Error(err)
		}
	}
	for _, w := range waits {
		<-w.done
	}
	if w := waits[1]; w.err != nil || w.end.Refusal != nil || w.end.Exit.Code != 9 {
		t.Errorf("who ran ended as %+v, %v", w.end, w.err)
	}
	wantRefusal(t, waits[2].end, waits[2].err, navvy.ReasonStopped, "stopped")
	wantAway(t, waits[3].end, waits[3].err, "another task")
	kubetest.Until(t, "the Job goes", func() bool { return len(jobs(t, namespace)) == 0 })
	failed := list[0].again()
	failed.task.Failed = 1
	failed.start(t, d)
	if end, err := failed.end(t); err != nil || end.Exit != (navvy.Exit{}) {
		t.Errorf("ended as %+v, %v", end, err)
	}
	if pods := failed.pods(t, namespace); len(pods) != 1 || len(pods[0].Spec.Containers[0]) == 0 || pods[0].Metadata.Labels["navvy.run/task"] != "0" {
		t.Errorf("its pods are %+v", pods)
	}
}

// Time and memory are a task's own.
func TestPackTime(t *testing.T) {
	t.Parallel()
	d := packing(t, kubetest.Open(t).Namespace(t))
	s := shared(3, `[ "$NAVVY_TASK" != 1 ] || sleep 1000000; sleep 1; exit 0`)
	s.Timeout, s.Grace = 3*time.Second, time.Second
	list := newJob(s, 3)
	startAll(t, d, list)
	for i, r := range list {
		end, err := r.end(t)
		if i == 1 {
			wantRefusal(t, end, err, navvy.ReasonTimeout, "ran longer than 3s")
		} else if err != nil || end.Refusal != nil || end.Exit != (navvy.Exit{}) {
			t.Errorf("task %d ended as %+v, %v", i, end, err)
		}
	}
}

func TestPackMemory(t *testing.T) {
	t.Parallel()
	d := packing(t, kubetest.Open(t).Namespace(t))
	s := shared(3, `[ "$NAVVY_TASK" != 1 ] || exec tail /dev/zero; exit 0`)
	s.Limits.Memory = 96 << 20
	list := newJob(s, 3)
	startAll(t, d, list)
	if end, err := list[0].end(t); err != nil || end.Exit != (navvy.Exit{}) {
		t.Errorf("the first ended as %+v, %v", end, err)
	}
	if end, err := list[1].end(t); err != nil || end.Usage.OOMKills == 0 {
		t.Errorf("the second ended as %+v, %v", end, err)
	}
	// With control groups of version 2 the kernel kills all that is in the pod.
	end, err := list[2].end(t)
	if _, given := errors.AsType[*driver.Away](err); !given && (err != nil || end.Exit != (navvy.Exit{})) {
		t.Errorf("the third ended as %+v, %v", end, err)
	}
}

// What is wrong with all of them is told to all.
func TestPackRefused(t *testing.T) {
	t.Parallel()
	namespace := kubetest.Open(t).Namespace(t)
	d := packing(t, namespace)
	all := func(t *testing.T, d *container.Driver, s *navvy.Spec, reason navvy.Reason, words string) {
		t.Helper()
		list := newJob(s, 2)
		startAll(t, d, list)
		for _, r := range list {
			end, err := r.end(t)
			wantRefusal(t, end, err, reason, words)
		}
	}
	t.Run("image", func(t *testing.T) {
		t.Parallel()
		s := shared(2, "exit 0")
		s.Container.Image = "local.test/no-such-image:1"
		all(t, d, s, navvy.ReasonImage, "no-such-image")
	})
	t.Run("navvy's image", func(t *testing.T) {
		t.Parallel()
		d := open(t, namespace, container.Options{NavvyImage: kubetest.Image, ImagePatience: time.Second})
		all(t, d, shared(2, "exit 0"), navvy.ReasonStart, "navvy, before it began")
	})
	t.Run("no program", func(t *testing.T) {
		t.Parallel()
		s := shared(2, "")
		s.Container.Entrypoint, s.Container.Command = []string{"/no/such/program"}, navvy.Command{}
		all(t, d, s, navvy.ReasonNotFound, "/no/such/program")
	})
}

// Much output of tasks in turn arrives whole, through connections that break.
func TestPackOutput(t *testing.T) {
	t.Parallel()
	cluster := kubetest.Open(t)
	namespace := cluster.Namespace(t)
	proxy, err := cluster.Proxy()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	d := open(t, namespace, container.Options{
		NavvyImage: cluster.NavvyImage(t), Kubeconfig: cluster.Through(t, proxy, "packing", "system:masters").Kubeconfig,
	})
	script, want := counted(200)
	list := newJob(shared(4, script), 4)
	startAll(t, d, list)
	for i, r := range list {
		w := r.wait(t)
		r.await(t, "line 100\n")
		proxy.Cut()
		<-w.done
		if w.err != nil || w.end.Exit.Code != 5 || r.out.text() != want {
			t.Errorf("task %d ended as %+v, %v with %d bytes of output, want %d", i, w.end, w.err, len(r.out.text()), len(want))
		}
	}
}

// A start that is given up leaves nothing.
func TestPackGivenUp(t *testing.T) {
	t.Parallel()
	namespace := kubetest.Open(t).Namespace(t)
	d := packing(t, namespace)
	r := newJob(shared(5, "exit 0"), 1)[0]
	first, end, err := run(t, d, shell("exit 0")) // so that the watch is there
	if err != nil || end.Exit != (navvy.Exit{}) {
		t.Fatalf("%+v %v", end, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.Start(ctx, &r.task); !errors.Is(err, context.Canceled) {
		t.Errorf("it started with %v", err)
	}
	time.AfterFunc(0, cancel)
	if names := jobs(t, namespace); len(names) != 1 || !strings.Contains(names[0], first.name()) {
		t.Errorf("there are Jobs %v", names)
	}
}
