package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/cluster/driver"
)

// What is being removed and does not go is waited for a while, and told with what keeps it.
func TestStuck(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "runs")
	d := w.open(t)
	d.gone = time.Second
	admin, at := w.c.Admin(), "/api/v1/namespaces/"+w.namespace
	c := w.answering(t, "stuck")
	if _, err := controller(d).Apply(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	const keep, free = `{metadata: {finalizers: [navvy.run/test]}}`, `{metadata: {finalizers: []}}`
	secret := at + "/secrets/" + queueSecret("stuck")
	admin.Must(t, http.MethodPatch, secret, keep, nil)
	admin.Must(t, http.MethodDelete, secret, "", nil)
	_, err := controller(d).Apply(t.Context(), c)
	wantError(t, "to make it", err, navvy.ErrUnavailable, "secret stuck-queue", "navvy.run/test", "kubectl --namespace "+w.namespace)
	_, err = controller(d).Destroy(t.Context(), "stuck")
	wantError(t, "to remove it", err, navvy.ErrUnavailable, "secret stuck-queue", "navvy.run/test")
	admin.Must(t, http.MethodPatch, secret, free, nil)
	if _, err := controller(d).Destroy(t.Context(), "stuck"); err != nil {
		t.Error(err)
	}
}

// So it is with a namespace, and with a claim that a pod uses.
func TestStuckSpace(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "runs")
	d := w.open(t)
	d.gone = time.Second
	admin, space := w.c.Admin(), w.namespace+"-stuck"
	admin.Must(t, http.MethodPost, "/api/v1/namespaces", "metadata: {name: "+space+"}", nil)
	admin.Must(t, http.MethodPost, "/api/v1/namespaces/"+space+"/configmaps", "metadata: {name: held, finalizers: [navvy.run/test]}", nil)
	admin.Must(t, http.MethodDelete, "/api/v1/namespaces/"+space, "", nil)
	d.o.Namespace = space
	_, err := d.Lock(t.Context(), "late", driver.Holder{Who: "late", What: "apply"})
	wantError(t, "a namespace", err, navvy.ErrUnavailable, "namespace "+space, "is being removed")
	admin.Must(t, http.MethodPatch, "/api/v1/namespaces/"+space+"/configmaps/held", `{metadata: {finalizers: []}}`, nil)

	u := (&compiler{c: w.described(t, "claims", 1)}).object("PersistentVolumeClaim", claimName("claims"))
	wantError(t, "a claim", d.stuck("claims", u, errStuck), navvy.ErrUnavailable, "delete pod claims-server-0", "apply again")
}

// Jobs of tasks go with the workers, also with those that somebody has removed by hand; those of
// others stay.
func TestTasksGo(t *testing.T) {
	t.Parallel()
	for name, byHand := range map[string]bool{"together": false, "by-hand": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tasksGo(t, byHand)
		})
	}
}

func tasksGo(t *testing.T, byHand bool) {
	t.Helper()
	w := newWorld(t, "runs")
	d := w.open(t)
	if _, err := controller(d).Apply(t.Context(), w.answering(t, "tasks")); err != nil {
		t.Fatal(err)
	}
	admin, at := w.c.Admin(), "/apis/batch/v1/namespaces/"+w.namespace+"/jobs"
	for name, label := range map[string]string{"task": "navvy.run/job: j", "mine": "owner: me"} {
		admin.Must(t, http.MethodPost, at, `
metadata: {name: `+name+`, labels: {app.kubernetes.io/managed-by: navvy, app.kubernetes.io/instance: tasks, `+label+`}}
spec:
  suspend: true
  template: {spec: {restartPolicy: Never, containers: [{name: c, image: "local.test/none:1"}]}}`, nil)
	}
	if byHand {
		admin.Must(t, http.MethodDelete, w.deployment("tasks"), "", nil)
	}
	if _, err := controller(d).Destroy(t.Context(), "tasks"); err != nil {
		t.Fatal(err)
	}
	var left struct {
		Items []struct {
			Metadata struct{ Name, DeletionTimestamp string }
		}
	}
	admin.Must(t, http.MethodGet, at, "", &left)
	for _, j := range left.Items {
		if j.Metadata.Name == "task" && j.Metadata.DeletionTimestamp == "" {
			t.Error("the Job of a task is left")
		}
	}
	admin.Must(t, http.MethodDelete, at+"/mine", "", nil)
}

// Who has waited long enough for a server is told what was seen of it last.
func TestNotReady(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "waits")
	d := w.open(t)
	d.ready = time.Second
	_, err := controller(d).Apply(t.Context(), w.described(t, "waits", 1))
	wantError(t, "a server that is not ready", err, navvy.ErrUnavailable, "statefulset waits-server", "not ready after 1s", "seen last: 0 of 1 are ready")
	if errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("it is told as %v", err)
	}
	if _, err := controller(d).Destroy(t.Context(), "waits"); err != nil {
		t.Error(err)
	}
}

// So it is if a call was cut short by that; other failures are told with it.
func TestWaited(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeoutCause(t.Context(), 0, errStuck)
	defer cancel()
	cut := fmt.Errorf("Get: %w", ctx.Err())
	err := waited(ctx, cut, "0 of 1 are ready")
	wantError(t, "cut short", err, errStuck, "0 of 1 are ready")
	if strings.Contains(err.Error(), "deadline") {
		t.Errorf("it is told as %v", err)
	}
	wantError(t, "failed", waited(ctx, navvy.ErrDenied, "nothing"), navvy.ErrDenied, errStuck.Error(), "nothing")
	if err := waited(t.Context(), errOnPurpose, "nothing"); err != errOnPurpose { //nolint:errorlint // it is the very one
		t.Errorf("in time it is %v", err)
	}
}

// A server that accepts a connection and says nothing does not keep anybody for ever.
func TestSilentServer(t *testing.T) {
	t.Parallel()
	d := &Driver{change: 50 * time.Millisecond, dial: func(context.Context, string, string) (*grpc.ClientConn, error) {
		return grpc.NewClient("passthrough:silent", grpc.WithTransportCredentials(insecure.NewCredentials()))
	}}
	err := d.changeServer(t.Context(), "space", "silent", func(ctx context.Context, _ *client.Client) error {
		<-ctx.Done()
		return ctx.Err()
	})
	wantError(t, "a silent server", err, navvy.ErrUnavailable, "silent-server-0", "kubectl --namespace space logs")
}

// A way to the server that is used has no second connection, and says so also before it has ended.
func TestUsedPipe(t *testing.T) {
	t.Parallel()
	if err := (&piped{over: make(chan struct{})}).last(); !errors.Is(err, errHungUp) {
		t.Errorf("it says %v", err)
	}
}
