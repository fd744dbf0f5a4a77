package kubernetes

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/cluster"
	"github.com/navvy-run/navvy/cluster/driver"
	"github.com/navvy-run/navvy/test/kube/kubetest"
)

// A queue that a file has no more, and whose server goes away just then, is told to be there still,
// and the next apply removes it. Who destroys the cluster is not kept by that.
func TestQueueStays(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "runs")
	w.serve()
	d := w.open(t)
	const name, after = "stays", "stays-after"
	c := w.described(t, name, 1)
	w.same(t, d, c)
	c.Queue.Request = after
	d.dial = func(ctx context.Context, space, of string) (*grpc.ClientConn, error) {
		conn, err := w.dial(ctx, space, of)
		if err != nil || !queues(t, conn)[after] {
			return conn, err
		}
		_ = conn.Close() // it made the new one, and that was that
		return nil, errOnPurpose
	}
	_, err := controller(d).Apply(t.Context(), c)
	wantError(t, "the server is away", err, navvy.ErrUnavailable, "queue "+name, "still there", "apply again")
	d.dial = w.dial
	p, err := controller(d).Plan(t.Context(), c)
	if err != nil || !slices.ContainsFunc(p.Changes, func(c cluster.Change) bool {
		return c.Action == cluster.Remove && c.ID == driver.ID{Kind: kindQueue, Name: name}
	}) {
		t.Errorf("there is to do %+v, %v", p, err)
	}
	w.same(t, d, c)
	conn, err := w.dial(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	if all := queues(t, conn); all[name] || !all[after] {
		t.Errorf("there are the queues %v", all)
	}
	_ = conn.Close()
	d.dial = func(context.Context, string, string) (*grpc.ClientConn, error) { return nil, errOnPurpose }
	if _, err := controller(d).Destroy(t.Context(), name); err != nil {
		t.Errorf("without its server: %v", err)
	}
	if l := left(t, w.c, w.namespace, name); len(l) > 0 {
		t.Errorf("there is left %q", l)
	}
}

// queues are the names of those that a server has.
func queues(t *testing.T, conn *grpc.ClientConn) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	for q, err := range client.New(conn).Queues(t.Context()) {
		if err != nil {
			t.Error(err)
			break
		}
		all[q.Name] = true
	}
	return all
}

// A claim whose volume was removed is told, with what to do about it, and what that is helps.
func TestLostVolume(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "runs")
	w.serve()
	d := w.open(t)
	c := w.described(t, "loses", 1)
	w.same(t, d, c)
	w.bind(t, "loses", "")
	admin, at := w.c.Admin(), "/api/v1/namespaces/"+w.namespace
	volume, claim := "/api/v1/persistentvolumes/"+w.namespace+"-loses", at+"/persistentvolumeclaims/"+claimName("loses")
	admin.Must(t, http.MethodDelete, volume, "", nil)
	admin.Must(t, http.MethodPatch, volume, "metadata: {finalizers: []}", nil)
	w.until(t, claim, "Lost")
	p, err := controller(d).Plan(t.Context(), c)
	if err != nil || !slices.ContainsFunc(p.Changes, func(c cluster.Change) bool {
		return c.Action == cluster.Repair && c.Kind == "persistentvolumeclaim" && strings.Contains(c.Why, "was removed")
	}) {
		t.Errorf("there is to do %+v, %v", p, err)
	}
	_, err = controller(d).Apply(t.Context(), c)
	wantError(t, "to mend it", err, navvy.ErrUnavailable, w.namespace+"-loses", "delete --wait=false pvc/loses-data pod/loses-server-0")
	admin.Must(t, http.MethodDelete, claim, "", nil)
	// The scheduler gives no node to a pod whose claim is being removed; here nobody asks it, and a pod
	// that comes too early keeps the claim.
	kubetest.Until(t, "the claim is gone", func() bool {
		_ = admin.Do(t.Context(), http.MethodDelete, at+"/pods/"+podName("loses"), "", nil) // there may be none just now
		return admin.Do(t.Context(), http.MethodGet, claim, "", nil) != nil
	})
	w.same(t, d, c)
	if _, err := controller(d).Destroy(t.Context(), "loses"); err != nil {
		t.Error(err)
	}
}
