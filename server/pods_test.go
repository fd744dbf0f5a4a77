package server_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/server/auth"
)

func inQueue(queue, namespace, template string) navvy.Job {
	c := &navvy.Container{Image: "busybox", Namespace: namespace, Command: navvy.Command{Args: []string{"true"}, Literal: true}}
	if template != "" {
		c.Template = []byte(template)
	}
	return navvy.Job{Queue: queue, Detached: true, Spec: navvy.Spec{Container: c}}
}

// submitted is the id of a job that is accepted.
func submitted(t *testing.T, c *client.Client, job navvy.Job) navvy.JobID {
	t.Helper()
	id, err := trySubmit(t.Context(), c, job)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// A job gets what its queue says of pods when it is accepted, and keeps that.
func TestPodsOfQueue(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	root, ann := w.as(t, "root", auth.RoleAdmin), w.as(t, "ann", auth.RoleUser)
	team, runner, nobody := "team", "runner", ""
	_, err := root.SetQueue(t.Context(), "science", client.QueueChange{Create: true, Pods: &client.PodsChange{
		Namespace: &team, ServiceAccount: &runner, NodeSelector: map[string]string{"disk": "fast"},
		Tolerations: []string{"gpu=yes:NoSchedule"}, PullSecrets: []string{"registry"}, Template: []byte("metadata: {labels: {a: b}}"),
	}})
	if err != nil {
		t.Fatal(err)
	}
	id := submitted(t, ann, inQueue("science", "", ""))
	q, err := root.SetQueue(t.Context(), "science", client.QueueChange{Pods: &client.PodsChange{
		ServiceAccount: &nobody, NodeSelector: map[string]string{}, Template: []byte{},
	}})
	want := &navvy.Pods{Namespace: "team", Tolerations: []string{"gpu=yes:NoSchedule"}, PullSecrets: []string{"registry"}}
	if err != nil || !cmp.Equal(q.Settings.Pods, want) {
		t.Errorf("changed to %+v: %v", q.Settings.Pods, err)
	}
	later := submitted(t, ann, inQueue("science", "team", ""))
	plain := submitted(t, ann, inQueue("", "other", ""))
	for id, want := range map[navvy.JobID][2]string{
		id: {"team", `{"metadata":{"labels":{"a":"b"}},"spec":{"imagePullSecrets":[{"name":"registry"}],"nodeSelector":{"disk":"fast"},
			"serviceAccountName":"runner","tolerations":[{"effect":"NoSchedule","key":"gpu","operator":"Equal","value":"yes"}]}}`},
		later: {"team", `{"spec":{"imagePullSecrets":[{"name":"registry"}],"tolerations":[{"effect":"NoSchedule","key":"gpu","operator":"Equal","value":"yes"}]}}`},
		plain: {"other", ""},
	} {
		job, err := root.Get(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		c := job.Spec.Container
		if c.Namespace != want[0] || !sameJSON(t, string(c.Template), want[1]) {
			t.Errorf("the job runs in %q with %s, want %q", c.Namespace, c.Template, want)
		}
	}
	if q, err = root.SetQueue(t.Context(), "science", client.QueueChange{Pods: &client.PodsChange{
		Namespace: &nobody, Tolerations: []string{}, PullSecrets: []string{},
	}}); err != nil || q.Settings.Pods != nil {
		t.Errorf("what is taken away leaves %+v: %v", q.Settings.Pods, err)
	}
}

// sameJSON compares two texts, which may be empty.
func sameJSON(t *testing.T, a, b string) bool {
	t.Helper()
	var va, vb any
	for i, v := range []*any{&va, &vb} {
		text := []string{a, b}[i]
		if text == "" {
			continue
		}
		if err := json.Unmarshal([]byte(text), v); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
	return cmp.Equal(va, vb)
}

// What makes no sense, or is not for whoever asks, is refused before it is accepted, in words
// that name it.
func TestPodsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	root, ann := w.as(t, "root", auth.RoleAdmin), w.as(t, "ann", auth.RoleUser)
	team, bad := "team", "No Account"
	if _, err := root.SetQueue(t.Context(), "science", client.QueueChange{Create: true, Pods: &client.PodsChange{Namespace: &team}}); err != nil {
		t.Fatal(err)
	}
	const template = `{"spec":{"hostname":"x"}}`
	for _, c := range []struct {
		by    *client.Client
		job   navvy.Job
		is    error
		words string
	}{
		{root, inQueue("", "", template), nil, ""},
		{root, inQueue("", "", `{"spec":{"hostnam":"x"}}`), navvy.ErrInvalid, `"spec.hostnam"`},
		{root, inQueue("science", "", `{"spec":{"containers":null}}`), navvy.ErrInvalid, "container main"},
		{ann, inQueue("", "", template), navvy.ErrDenied, "administrators"},
		{ann, inQueue("science", "", template), navvy.ErrDenied, "administrators"},
		{ann, inQueue("science", "elsewhere", ""), navvy.ErrInvalid, "run in namespace team"},
		{root, inQueue("science", "elsewhere", ""), navvy.ErrInvalid, "run in namespace team"},
		{ann, inQueue("", "Else_where", ""), navvy.ErrInvalid, "Else_where"},
	} {
		_, err := trySubmit(t.Context(), c.by, c.job)
		if !errors.Is(err, c.is) || err != nil && !strings.Contains(err.Error(), c.words) {
			t.Errorf("%+v: %v; want %q", c.job.Spec.Container, err, c.words)
		}
	}
	for words, change := range map[string]*client.PodsChange{
		"No Account":   {ServiceAccount: &bad},
		"namespace":    {Namespace: &bad},
		"gpu:Never":    {Tolerations: []string{"gpu:Never"}},
		"spec.hostnam": {Template: []byte("spec: {hostnam: x}")},
		"a b=c":        {NodeSelector: map[string]string{"a b": "c"}},
	} {
		if _, err := root.SetQueue(t.Context(), "science", client.QueueChange{Pods: change}); !errors.Is(err, navvy.ErrInvalid) || !strings.Contains(err.Error(), words) {
			t.Errorf("%+v: %v; want %q", change, err, words)
		}
	}
	if _, err := ann.SetQueue(t.Context(), "science", client.QueueChange{Pods: &client.PodsChange{Namespace: &team}}); !errors.Is(err, navvy.ErrDenied) {
		t.Errorf("a user's: %v", err)
	}
	for _, q := range queuesOf(t, root) {
		if want := (&navvy.Pods{Namespace: "team"}); q.Name == "science" && !cmp.Equal(q.Settings.Pods, want) {
			t.Errorf("what was refused has left %+v", q.Settings.Pods)
		}
	}
}
