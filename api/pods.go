package api

import (
	"github.com/navvy-run/navvy"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
)

// FromPods is how containers run in a cluster as a message; nil for nil.
func FromPods(p *navvy.Pods) *navvyv1.Pods {
	if p == nil {
		return nil
	}
	return &navvyv1.Pods{
		Namespace: p.Namespace, ServiceAccount: p.ServiceAccount, NodeSelector: p.NodeSelector,
		Tolerations: p.Tolerations, PullSecrets: p.PullSecrets, Template: Text(string(p.Template)),
	}
}

// ToPods reads the message; Validate judges it.
func ToPods(m *navvyv1.Pods) *navvy.Pods {
	if m == nil {
		return nil
	}
	p := &navvy.Pods{
		Namespace: m.GetNamespace(), ServiceAccount: m.GetServiceAccount(), NodeSelector: m.GetNodeSelector(),
		Tolerations: m.GetTolerations(), PullSecrets: m.GetPullSecrets(),
	}
	if m.GetTemplate() != "" {
		p.Template = []byte(m.GetTemplate())
	}
	return p
}

// ChangePods changes what the message names, of p, which is not kept; nil if nothing is left.
func ChangePods(p *navvy.Pods, m *navvyv1.PodsChange) *navvy.Pods {
	to := navvy.Pods{}
	if p != nil {
		to = *p
	}
	if m.Namespace != nil {
		to.Namespace = m.GetNamespace()
	}
	if m.ServiceAccount != nil {
		to.ServiceAccount = m.GetServiceAccount()
	}
	if m.NodeSelector != nil {
		to.NodeSelector = m.GetNodeSelector().GetLabels()
	}
	if m.Tolerations != nil {
		to.Tolerations = m.GetTolerations().GetNames()
	}
	if m.PullSecrets != nil {
		to.PullSecrets = m.GetPullSecrets().GetNames()
	}
	if m.Template != nil {
		to.Template = []byte(m.GetTemplate())
	}
	if to.Zero() {
		return nil
	}
	return &to
}
