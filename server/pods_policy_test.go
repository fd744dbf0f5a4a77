package server

import (
	"errors"
	"strings"
	"testing"

	"github.com/navvy-run/navvy"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
	"github.com/navvy-run/navvy/policy"
	"github.com/navvy-run/navvy/server/auth"
)

// The policy judges what comes of a job and its queue together, and a pod template of a job's
// own is for administrators, wherever they are.
func TestPolicyOfPods(t *testing.T) {
	t.Parallel()
	user, admin := auth.Identity{Name: "ann", Role: auth.RoleUser}, auth.Identity{Name: "bob", Role: auth.RoleAdmin}
	local := auth.Identity{Name: "eve", Role: auth.RoleAdmin, Local: true}
	const teams = "roles: {user: {namespaces: [team-*]}}"
	const template = `{"spec":{"hostname":"x"}}`
	for name, c := range map[string]struct {
		policy, queue, namespace, template string
		who                                auth.Identity
		denied                             string // part of the refusal; empty if it is accepted
	}{
		"the worker's own":          {policy: teams, who: user},
		"one of the list":           {policy: teams, who: user, namespace: "team-a"},
		"another":                   {policy: teams, who: user, namespace: "kube-system", denied: "namespace kube-system is not for jobs of role user, only team-*; role admin may ask for it"},
		"the queue's":               {policy: teams, who: user, queue: "good"},
		"the queue's, not allowed":  {policy: teams, who: user, queue: "bad", denied: "namespace kube-system is not for jobs of role user"},
		"an administrator's":        {policy: teams, who: admin, queue: "bad"},
		"none are":                  {policy: "roles: {user: {namespaces: []}}", who: user, namespace: "team-a", denied: "only none is"},
		"without a policy":          {who: user, namespace: "team-a"},
		"a template":                {who: user, template: template, denied: "for administrators"},
		"an administrator's own":    {who: admin, template: template},
		"a local one's":             {who: local, template: template},
		"a local user's":            {policy: "local: user", who: local, template: template, denied: "for administrators"},
		"a local user's, in a list": {policy: "local: user\n" + teams, who: local, namespace: "other", denied: "is not for jobs of role user"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newJobs(t)
			if c.policy != "" {
				var err error
				if s.opts.Policy, err = policy.Parse("p.yaml", []byte(c.policy)); err != nil {
					t.Fatal(err)
				}
			}
			for queue, namespace := range map[string]string{"good": "team-a", "bad": "kube-system"} {
				_, err := (&queues{Server: s.Server}).Set(auth.With(t.Context(), admin), &navvyv1.QueuesSetRequest{
					Name: queue, Create: true, Pods: &navvyv1.PodsChange{Namespace: &namespace},
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			job, err := s.asked(auth.With(t.Context(), c.who), &navvyv1.Job{Queue: c.queue, Spec: &navvyv1.Spec{Kind: &navvyv1.Spec_Container{Container: &navvyv1.Container{
				Image: "busybox", Namespace: c.namespace, Template: []byte(c.template),
			}}}})
			if c.denied == "" && err == nil {
				if got := job.Spec.Container; string(got.Template) != c.template || got.Namespace == "" && c.namespace+c.queue != "" {
					t.Errorf("it is %+v", got)
				}
				return
			}
			if c.denied == "" || !errors.Is(err, navvy.ErrDenied) || !strings.Contains(err.Error(), c.denied) {
				t.Errorf("it is told %v; want %q", err, c.denied)
			}
		})
	}
}
