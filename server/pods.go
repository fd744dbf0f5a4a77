package server

import (
	"cmp"
	"context"
	"fmt"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/podtemplate"
	"github.com/navvy-run/navvy/policy"
)

// resolvePods gives a job with a container what its queue says of pods, so that whoever runs
// it needs to know nothing of queues. A queue's namespace is where all its jobs run.
func (s *Server) resolvePods(ctx context.Context, job *navvy.Job) error {
	c := job.Spec.Container
	if c == nil {
		return nil
	}
	if len(c.Template) > 0 && s.policyRole(ctx) != policy.Admin {
		return fmt.Errorf("submit: a pod template of a job's own is for administrators; that of a queue is not (navvy queue set NAME --pod-template FILE): %w", navvy.ErrDenied)
	}
	name := cmp.Or(job.Queue, navvy.DefaultQueue)
	pods := &navvy.Pods{}
	r, err := s.queueRecord(ctx, name)
	if err != nil {
		return err
	}
	if r != nil && r.Pods != nil {
		pods = r.Pods
	}
	own := *c
	if own.Template, err = podtemplate.Compose(pods, c.Template); err != nil {
		return fmt.Errorf("submit: %w", err)
	}
	if pods.Namespace != "" && own.Namespace != "" && own.Namespace != pods.Namespace {
		return fmt.Errorf("submit: jobs of queue %s run in namespace %s, not in %.100s: leave the namespace out: %w", name, pods.Namespace, own.Namespace, navvy.ErrInvalid)
	}
	own.Namespace = cmp.Or(own.Namespace, pods.Namespace)
	job.Spec.Container = &own // whoever has the spec keeps it as it was
	return nil
}
