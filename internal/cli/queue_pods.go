package cli

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/podtemplate"
)

// podFlags are those of queue create and set that say how containers of its jobs run.
type podFlags struct {
	namespace, serviceAccount              string
	nodeSelector, tolerations, pullSecrets []string
	podTemplate                            string
}

func (f *podFlags) add(fs *pflag.FlagSet) {
	fs.StringVar(&f.namespace, "namespace", "", "for jobs with --image: the Kubernetes namespace `NAME` in which they run; '' for the one of their worker")
	fs.StringVar(&f.serviceAccount, "service-account", "", "the service account `NAME` as which they run; '' for none of the queue's")
	fs.StringArrayVar(&f.nodeSelector, "node-selector", nil, "a label `KEY=VALUE` that their nodes must have; may be repeated, and takes the place of those before; '' for none")
	fs.StringArrayVar(&f.tolerations, "toleration", nil, "a taint of nodes that they put up with, `KEY[=VALUE][:EFFECT]`, or '*'; may be repeated, likewise")
	fs.StringArrayVar(&f.pullSecrets, "pull-secret", nil, "the `NAME` of a secret that their images are pulled with; may be repeated, likewise")
	fs.StringVar(&f.podTemplate, "pod-template", "", "a `FILE` with YAML or JSON of a Kubernetes PodTemplateSpec that is merged over their pods; '' for none")
}

// podFlagNames are those of podFlags.
var podFlagNames = []string{"namespace", "service-account", "node-selector", "toleration", "pull-secret", "pod-template"}

// change is what the flags ask for; nil for nothing.
func (f *podFlags) change(flags *pflag.FlagSet) (*client.PodsChange, error) {
	if !slices.ContainsFunc(podFlagNames, flags.Changed) {
		return nil, nil //nolint:nilnil // nothing is asked for
	}
	c := &client.PodsChange{}
	if flags.Changed("namespace") {
		if err := navvy.ValidateNamespace(f.namespace); err != nil {
			return nil, usagef("--namespace: %w", err)
		}
		c.Namespace = &f.namespace
	}
	if flags.Changed("service-account") {
		c.ServiceAccount = &f.serviceAccount
	}
	if flags.Changed("node-selector") {
		c.NodeSelector = map[string]string{}
		for _, text := range given(f.nodeSelector) {
			key, value, ok := strings.Cut(text, "=")
			if !ok {
				return nil, usagef("--node-selector %s: want KEY=VALUE", text)
			}
			c.NodeSelector[key] = value
		}
	}
	if flags.Changed("toleration") {
		c.Tolerations = given(f.tolerations)
	}
	if flags.Changed("pull-secret") {
		c.PullSecrets = given(f.pullSecrets)
	}
	if flags.Changed("pod-template") {
		template, err := readPodTemplate(f.podTemplate)
		if err != nil {
			return nil, usagef("--pod-template: %w", err)
		}
		c.Template = append([]byte{}, template...)
	}
	return c, nil
}

// given are the words of a flag that is repeated; the empty one stands for none.
func given(list []string) []string {
	return slices.DeleteFunc(append([]string{}, list...), func(s string) bool { return s == "" })
}

// readPodTemplate reads the pod template in a file, as JSON; nil if none is named. Errors name
// the file.
func readPodTemplate(file string) ([]byte, error) {
	if file == "" {
		return nil, nil
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, navvy.MaxPodTemplate+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	template, err := podtemplate.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return template, nil
}

// podsObject is how containers of a queue's jobs run, for programs.
type podsObject struct {
	Namespace      string            `json:"namespace,omitempty"`
	ServiceAccount string            `json:"service_account,omitempty"`
	NodeSelector   map[string]string `json:"node_selector,omitempty"`
	Tolerations    []string          `json:"tolerations,omitempty"`
	PullSecrets    []string          `json:"pull_secrets,omitempty"`
	Template       string            `json:"pod_template,omitempty"`
}

// newPods is nil for a queue that says nothing of them.
func newPods(p *navvy.Pods) *podsObject {
	if p == nil {
		return nil
	}
	return &podsObject{
		Namespace: p.Namespace, ServiceAccount: p.ServiceAccount, NodeSelector: p.NodeSelector,
		Tolerations: p.Tolerations, PullSecrets: p.PullSecrets, Template: string(p.Template),
	}
}

// sayPods prints how containers of a queue's jobs run.
func (a *app) sayPods(p *navvy.Pods) error {
	if p == nil {
		return nil
	}
	selector := []string{}
	for _, key := range slices.Sorted(maps.Keys(p.NodeSelector)) {
		selector = append(selector, key+"="+p.NodeSelector[key])
	}
	if _, err := fmt.Fprintln(a.out); err != nil {
		return err
	}
	for _, row := range [][2]string{
		{"namespace", p.Namespace}, {"service account", p.ServiceAccount}, {"node selector", strings.Join(selector, ", ")},
		{"tolerations", strings.Join(p.Tolerations, ", ")}, {"pull secrets", strings.Join(p.PullSecrets, ", ")}, {"pod template", string(p.Template)},
	} {
		if row[1] == "" {
			continue
		}
		if _, err := fmt.Fprintf(a.out, "%-16s %s\n", row[0], row[1]); err != nil {
			return err
		}
	}
	return nil
}
