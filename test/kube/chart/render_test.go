package chart_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// rule is one of a Role.
type rule struct {
	APIGroups, Resources, ResourceNames, Verbs []string
}

// object is a manifest.
type object struct {
	Kind     string
	Metadata struct{ Name, Namespace string }
	Rules    []rule

	text string
}

// render gives the manifests of the chart with values.
func render(t *testing.T, args ...string) []object {
	t.Helper()
	text := helm(t, append([]string{"template", "navvy", chart, "--namespace", "space", "--kube-version", kubeVersion}, args...)...)
	return objects(t, text)
}

func objects(t *testing.T, text string) []object {
	t.Helper()
	var list []object
	for part := range strings.SplitSeq("\n"+text, "\n---\n") {
		o := object{text: part}
		if err := yaml.Unmarshal([]byte(part), &o); err != nil {
			t.Fatalf("%v:\n%s", err, part)
		}
		if o.Kind != "" {
			list = append(list, o)
		}
	}
	return list
}

// find gives the object of a kind and name.
func find(t *testing.T, list []object, kind, name string) object {
	t.Helper()
	i := slices.IndexFunc(list, func(o object) bool { return o.Kind == kind && o.Metadata.Name == name })
	if i < 0 {
		t.Fatalf("there is no %s %s", kind, name)
	}
	return list[i]
}

// rights are what the chart says a worker may do.
func rights(t *testing.T) []rule {
	t.Helper()
	text, err := os.ReadFile(chart + "/rights.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var list []rule
	if err := yaml.UnmarshalStrict(text, &list); err != nil {
		t.Fatal(err)
	}
	return list
}
