package container_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/container"
	"github.com/navvy-run/navvy/test/kube/kubetest"
)

// A pod that the cluster refuses to make fails its task after a while, in the cluster's words.
func TestNoPod(t *testing.T) {
	t.Parallel()
	cluster := kubetest.Open(t)
	for name, c := range map[string]struct{ template, labels, words string }{
		"no service account": {template: `{"spec":{"serviceAccountName":"nobody"}}`, words: `serviceaccount "nobody" not found`},
		"too little is safe": {labels: `{pod-security.kubernetes.io/enforce: restricted}`, words: `violates PodSecurity "restricted:latest"`},
		"no such class":      {template: `{"spec":{"priorityClassName":"nothing"}}`, words: `no PriorityClass with name nothing was found`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			namespace := cluster.Namespace(t)
			if c.labels != "" {
				cluster.Admin().Must(t, http.MethodPatch, "/api/v1/namespaces/"+namespace, `{metadata: {labels: `+c.labels+`}}`, nil)
			}
			s := shell("exit 0")
			if c.template != "" {
				s.Container.Template = []byte(c.template)
			}
			patient := open(t, namespace, container.Options{ImagePatience: time.Hour})
			waits := newTrial(s).start(t, patient)
			w := waits.wait(t)
			kubetest.Until(t, "it says why", func() bool {
				why := patient.Why(t.Context(), waits.task.Token)
				return strings.Contains(why, "its pod cannot be made: ") && strings.Contains(why, c.words)
			})
			waits.stop(t)
			<-w.done
			r, end, err := run(t, open(t, namespace, container.Options{ImagePatience: 2 * time.Second}), s)
			wantRefusal(t, end, err, navvy.ReasonStart, "its pod cannot be made: ")
			wantRefusal(t, end, err, navvy.ReasonStart, c.words)
			r.wantGone(t, namespace)
		})
	}
}

// A quota may have room later: it is waited for, as a node is.
func TestQuota(t *testing.T) {
	t.Parallel()
	cluster := kubetest.Open(t)
	namespace := cluster.Namespace(t)
	quotas := "/api/v1/namespaces/" + namespace + "/resourcequotas"
	cluster.Admin().Must(t, http.MethodPost, quotas, `{metadata: {name: few}, spec: {hard: {pods: "0"}}}`, nil)
	kubetest.Until(t, "the quota counts", func() bool {
		var quota struct {
			Status struct{ Used map[string]string }
		}
		cluster.Admin().Must(t, http.MethodGet, quotas+"/few", "", &quota)
		return quota.Status.Used["pods"] == "0"
	})
	d := open(t, namespace, container.Options{ImagePatience: time.Second})
	bounded := shell("exit 0")
	bounded.Container.Pending = 15 * time.Second
	r := newTrial(bounded).start(t, d)
	w := r.wait(t)
	free := newTrial(shell("exit 0")).start(t, d)
	others := free.wait(t)
	kubetest.Until(t, "it says why", func() bool {
		why := d.Why(t.Context(), free.task.Token)
		return strings.Contains(why, "its pod is not made yet: ") && strings.Contains(why, "exceeded quota: few")
	})
	<-w.done // some patiences later
	wantRefusal(t, w.end, w.err, navvy.ReasonPending, "no pod was made for it within 15s")
	wantRefusal(t, w.end, w.err, navvy.ReasonPending, "exceeded quota: few")
	r.wantGone(t, namespace)
	if closed(others.done) {
		t.Fatalf("without a bound it ended as %+v, %v", others.end, others.err)
	}
	cluster.Admin().Must(t, http.MethodDelete, quotas+"/few", "", nil)
	<-others.done
	if others.err != nil || others.end.Refusal != nil || others.end.Exit.Code != 0 {
		t.Errorf("with room it ended as %+v, %v", others.end, others.err)
	}
}

// Who may not read events is told less, and waits no longer than it may.
func TestQuotaUntold(t *testing.T) {
	t.Parallel()
	cluster := kubetest.Open(t)
	namespace := cluster.Namespace(t)
	cluster.Grant(t, namespace, "deaf", map[string][]string{"batch/jobs": {"*"}, "/pods": {"*"}})
	d := open(t, namespace, container.Options{ImagePatience: time.Second, Kubeconfig: cluster.User(t, "deaf")})
	s := shell("exit 0")
	s.Container.Template = []byte(`{"spec":{"serviceAccountName":"nobody"}}`)
	s.Container.Pending = 4 * time.Second
	r, end, err := run(t, d, s)
	wantRefusal(t, end, err, navvy.ReasonPending, "no pod was made for it within 4s")
	r.wantGone(t, namespace)
}
