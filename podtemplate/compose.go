package podtemplate

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/navvy-run/navvy"
)

// Compose makes one template of what a queue says of pods and of a job's own template, which
// is merged over it; nil if neither says anything but where. p may be nil. Errors wrap
// navvy.ErrInvalid.
func Compose(p *navvy.Pods, own []byte) ([]byte, error) {
	own, err := Parse(own)
	if err != nil || p == nil {
		return own, err
	}
	queue, err := ofSettings(p)
	if err != nil || queue == nil {
		return own, err
	}
	if own != nil {
		if queue, err = strategicpatch.StrategicMergePatch(queue, own, corev1.PodTemplateSpec{}); err != nil {
			return nil, wrong(err)
		}
	}
	return Parse(queue)
}

// ofSettings is the template of a queue, with what it says beside it; nil for nothing.
func ofSettings(p *navvy.Pods) ([]byte, error) {
	doc := map[string]any{}
	if len(p.Template) > 0 {
		text, err := Parse(p.Template)
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(text, &doc); err != nil {
			return nil, wrong(err)
		}
	}
	spec, _ := doc["spec"].(map[string]any)
	if spec == nil {
		spec = map[string]any{}
	}
	if err := settings(spec, p); err != nil {
		return nil, err
	}
	if len(spec) > 0 {
		doc["spec"] = spec
	}
	if len(doc) == 0 {
		return nil, nil
	}
	return json.Marshal(doc)
}

// settings adds to the spec of a pod what a queue says beside its template.
func settings(spec map[string]any, p *navvy.Pods) error {
	if p.ServiceAccount != "" {
		if err := name("service account", p.ServiceAccount); err != nil {
			return err
		}
		spec["serviceAccountName"] = p.ServiceAccount
	}
	if len(p.NodeSelector) > 0 {
		selector, _ := spec["nodeSelector"].(map[string]any)
		if selector == nil {
			selector = map[string]any{}
		}
		for _, key := range slices.Sorted(maps.Keys(p.NodeSelector)) {
			value := p.NodeSelector[key]
			if problems := append(validation.IsQualifiedName(key), validation.IsValidLabelValue(value)...); problems != nil {
				return fmt.Errorf("node selector %.100q: %s: %w", key+"="+value, problems[0], navvy.ErrInvalid)
			}
			selector[key] = value
		}
		spec["nodeSelector"] = selector
	}
	for _, text := range p.Tolerations {
		t, err := toleration(text)
		if err != nil {
			return err
		}
		list, _ := spec["tolerations"].([]any)
		spec["tolerations"] = append(list, t)
	}
	for _, secret := range p.PullSecrets {
		if err := name("pull secret", secret); err != nil {
			return err
		}
		list, _ := spec["imagePullSecrets"].([]any)
		entry := map[string]any{"name": secret}
		if !slices.ContainsFunc(list, func(e any) bool { m, _ := e.(map[string]any); return m["name"] == secret }) {
			list = append(list, entry)
		}
		spec["imagePullSecrets"] = list
	}
	return nil
}

// name checks the name of an object.
func name(what, text string) error {
	if problems := validation.IsDNS1123Subdomain(text); problems != nil {
		return fmt.Errorf("%s %.100q: %s: %w", what, text, problems[0], navvy.ErrInvalid)
	}
	return nil
}

// anyTaint is the toleration of whatever keeps pods off a node.
const anyTaint = "*"

// toleration reads KEY[=VALUE][:EFFECT], as kubectl taint writes taints, or * for all of them.
// Without a value any will do, and without an effect all.
func toleration(text string) (map[string]any, error) {
	bad := func(why string) error {
		return fmt.Errorf("toleration %.100q: %s: want KEY, KEY=VALUE, either with :NoSchedule, :PreferNoSchedule or :NoExecute, or *: %w", text, why, navvy.ErrInvalid)
	}
	if text == anyTaint {
		return map[string]any{"operator": string(corev1.TolerationOpExists)}, nil
	}
	rest, effect, hasEffect := strings.Cut(text, ":")
	key, value, hasValue := strings.Cut(rest, "=")
	if problems := validation.IsQualifiedName(key); problems != nil {
		return nil, bad(problems[0])
	}
	t := map[string]any{"key": key, "operator": string(corev1.TolerationOpExists)}
	if hasValue {
		if problems := validation.IsValidLabelValue(value); problems != nil {
			return nil, bad(problems[0])
		}
		t["operator"], t["value"] = string(corev1.TolerationOpEqual), value
	}
	if !hasEffect {
		return t, nil
	}
	switch e := corev1.TaintEffect(effect); e {
	case corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute:
		t["effect"] = effect
		return t, nil
	default:
		return nil, bad("there is no such effect")
	}
}
