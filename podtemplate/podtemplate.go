// Package podtemplate reads pod templates and merges them: those of workers, of queues and of
// administrators. Whoever accepts a template and whoever makes pods of it read it alike.
package podtemplate

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	"github.com/navvy-run/navvy"
)

// Main is the name of the container that runs the task, in every pod.
const Main = "main"

// Parse reads YAML or JSON of a PodTemplateSpec and returns it as JSON; nil for nothing. A
// field that Kubernetes does not know is an error that names it, and so is a template that
// takes the task's container away. Errors wrap navvy.ErrInvalid.
func Parse(text []byte) ([]byte, error) {
	if len(bytes.TrimSpace(text)) == 0 {
		return nil, nil
	}
	if len(text) > navvy.MaxPodTemplate {
		return nil, fmt.Errorf("pod template: it has %d bytes, more than %d: %w", len(text), navvy.MaxPodTemplate, navvy.ErrInvalid)
	}
	patch, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		return nil, wrong(err)
	}
	if patch[0] != '{' {
		return nil, fmt.Errorf("pod template: want metadata and spec of pods, not %.60q: %w", patch, navvy.ErrInvalid)
	}
	var template corev1.PodTemplateSpec
	unknown, err := kjson.UnmarshalStrict(patch, &template)
	if err == nil && len(unknown) > 0 {
		err = unknown[0]
	}
	if err != nil {
		return nil, wrong(err)
	}
	trial := corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: Main}}}}
	return patch, Apply(&trial, patch)
}

// wrong is an error about a template, in one line and without the words of the decoders.
func wrong(err error) error {
	message := err.Error()
	for _, words := range []string{"error converting YAML to JSON: ", "yaml: ", "json: "} {
		message = strings.TrimPrefix(message, words)
	}
	return fmt.Errorf("pod template: %s: %w", strings.Join(strings.Fields(message), " "), navvy.ErrInvalid)
}

// Apply merges templates in JSON over a pod, one after another, as kubectl patch merges; nil
// ones change nothing. Errors wrap navvy.ErrInvalid, and leave the pod as it was.
func Apply(pod *corev1.PodTemplateSpec, templates ...[]byte) error {
	doc, err := json.Marshal(pod)
	if err != nil {
		return err
	}
	for _, t := range templates {
		if t == nil {
			continue
		}
		if doc, err = strategicpatch.StrategicMergePatch(doc, t, corev1.PodTemplateSpec{}); err != nil {
			return wrong(err)
		}
	}
	merged := corev1.PodTemplateSpec{}
	if err := json.Unmarshal(doc, &merged); err != nil {
		return wrong(err)
	}
	if !slices.ContainsFunc(merged.Spec.Containers, func(c corev1.Container) bool { return c.Name == Main }) {
		return fmt.Errorf("pod template: it takes the container %s away, which runs the task: %w", Main, navvy.ErrInvalid)
	}
	*pod = merged
	return nil
}
