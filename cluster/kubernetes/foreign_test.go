package kubernetes

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/navvy-run/navvy"
)

// Somebody who is faster, between our look at a name and what we put there, is not pushed aside:
// neither where there was nothing, nor where he has taken the mark off ours.
func TestSomebodyFaster(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "runs")
	admin, secrets := w.c.Admin(), "/api/v1/namespaces/"+w.namespace+"/secrets"
	c := w.answering(t, "faster")
	const theirs = "data: {requests: bWluZQ==}"
	at := secrets + "/" + queueSecret(c.Name)
	for _, step := range []struct{ name, method, path, object string }{
		{"new", http.MethodPost, secrets, "metadata: {name: " + queueSecret(c.Name) + "}\n" + theirs},
		{"marked", http.MethodPatch, at, "metadata: {labels: {" + labelCluster + ": null}}\n" + theirs},
	} {
		if step.name == "marked" {
			w.same(t, w.open(t), c)
			admin.Must(t, http.MethodPatch, at, "data: {requests: YW5vdGhlcg==}", nil) // there is something to mend
		}
		var once sync.Once
		d := w.open(t, func(next http.RoundTripper) http.RoundTripper {
			return roundTrip(func(r *http.Request) (*http.Response, error) {
				answer, err := next.RoundTrip(r)
				if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, at) {
					once.Do(func() { admin.Must(t, step.method, step.path, step.object, nil) })
				}
				return answer, err
			})
		})
		_, err := controller(d).Apply(t.Context(), c)
		wantError(t, step.name, err, navvy.ErrExists, queueSecret(c.Name))
		var is struct {
			Metadata struct{ Labels map[string]string }
			Data     map[string]string
		}
		admin.Must(t, http.MethodGet, at, "", &is)
		if is.Metadata.Labels[labelCluster] != "" || is.Data["requests"] != "bWluZQ==" {
			t.Errorf("%s: it is %+v now", step.name, is)
		}
		if _, err := controller(w.open(t)).Destroy(t.Context(), c.Name); err != nil {
			t.Error(err)
		}
		admin.Must(t, http.MethodDelete, at, "", nil)
	}
}

// A namespace that was made for a cluster stays with what belongs to somebody's who is not in it;
// what belongs to nobody who is there any more is in nobody's way.
func TestOwned(t *testing.T) {
	t.Parallel()
	const roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles/"
	for name, stays := range map[string]bool{"owned": true, "orphan": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "runs")
			w.namespace += "-" + name
			admin, at := w.c.Admin(), "/api/v1/namespaces/"+w.namespace
			var role struct{ Metadata struct{ UID string } }
			if admin.Must(t, http.MethodGet, roles+"view", "", &role); !stays {
				role.Metadata.UID = "00000000-0000-0000-0000-000000000000"
			}
			seen := &diary{w: w, t: t, owner: role.Metadata.UID}
			d := w.open(t, seen.around)
			if _, err := controller(d).Apply(t.Context(), w.answering(t, name)); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := admin.Do(context.Background(), http.MethodDelete, at, "", nil); err != nil && stays {
					t.Error(err)
				}
			})
			if _, err := controller(d).Destroy(t.Context(), name); err != nil {
				t.Fatal(err)
			}
			if there := admin.Do(t.Context(), http.MethodGet, at, "", nil) == nil; there != stays || !seen.listed {
				t.Errorf("that the namespace is there is %t, want %t; what was in it was listed: %t", there, stays, seen.listed)
			}
			if there := admin.Do(t.Context(), http.MethodGet, at+"/configmaps/diary", "", nil) == nil; there != stays {
				t.Errorf("that is there is %t, want %t", there, stays)
			}
		})
	}
}

// diary is a ConfigMap of an owner, which appears when somebody lists all that there are, and is in
// that list: Kubernetes soon removes what belongs to nobody.
type diary struct {
	w      *world
	t      *testing.T
	owner  string
	listed bool
}

func (m *diary) around(next http.RoundTripper) http.RoundTripper {
	return roundTrip(func(r *http.Request) (*http.Response, error) {
		at := "/api/v1/namespaces/" + m.w.namespace + "/configmaps"
		if r.Method != http.MethodGet || !strings.HasSuffix(r.URL.Path, at) || r.URL.Query().Get("labelSelector") != "" {
			return next.RoundTrip(r)
		}
		for {
			err := m.w.c.Admin().Do(r.Context(), http.MethodPost, at, fmt.Sprintf(`
metadata:
  name: diary
  ownerReferences: [{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, name: view, uid: %s}]`, m.owner), nil)
			if err != nil && !strings.Contains(err.Error(), "409") {
				m.t.Error(err)
			}
			answer, err := next.RoundTrip(r)
			if err != nil {
				return nil, err
			}
			text, err := io.ReadAll(answer.Body)
			if err = errors.Join(err, answer.Body.Close()); err != nil {
				return nil, err
			}
			answer.Body = io.NopCloser(bytes.NewReader(text))
			if m.listed = bytes.Contains(text, []byte(`"name":"diary"`)); m.listed {
				return answer, nil
			}
		}
	})
}
