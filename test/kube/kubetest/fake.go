package kubetest

import (
	"context"
	"net/http"
	"strconv"
	"testing"
	"time"
)

// Fake is the taint of fake nodes, which pods must tolerate to be there.
const Fake = "kubetest/fake"

// FakeNode makes a node of which nothing is there but its record: what is scheduled on it
// waits, and before long the cluster takes it for lost. It goes when the test ends.
func (c *Cluster) FakeNode(t testing.TB) string {
	t.Helper()
	c.mu.Lock()
	c.uses++
	name := "fake-" + strconv.Itoa(c.uses)
	c.mu.Unlock()
	now := time.Now().UTC().Format(time.RFC3339)
	c.admin.Must(t, http.MethodPost, "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases", `
metadata: {name: `+name+`}
spec: {holderIdentity: `+name+`, leaseDurationSeconds: 40, renewTime: "`+time.Now().UTC().Format("2006-01-02T15:04:05.000000Z")+`"}
`, nil)
	c.admin.Must(t, http.MethodPost, "/api/v1/nodes", `
metadata: {name: `+name+`, labels: {kubernetes.io/hostname: `+name+`, kubernetes.io/os: linux}}
spec: {taints: [{key: `+Fake+`, effect: NoSchedule}]}
status:
  capacity: {cpu: "10", memory: 10Gi, pods: "100"}
  allocatable: {cpu: "10", memory: 10Gi, pods: "100"}
  conditions: [{type: Ready, status: "True", reason: Fake, lastHeartbeatTime: "`+now+`", lastTransitionTime: "`+now+`"}]
`, nil)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), Patience)
		defer cancel()
		if err := c.admin.Do(ctx, http.MethodDelete, "/api/v1/nodes/"+name, "", nil); err != nil {
			t.Error(err)
		}
	})
	return name
}
