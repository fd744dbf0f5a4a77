package podtemplate

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/navvy-run/navvy"
)

// What Kubernetes does not know is refused, and the error names it.
func TestParse(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"": "", " \n": "",
		"spec: {nodeSelector: {disk: fast}}":                             `{"spec":{"nodeSelector":{"disk":"fast"}}}`,
		`{"metadata":{"labels":{"team":"blue"}}}`:                        `{"metadata":{"labels":{"team":"blue"}}}`,
		"spec: {containers: [{name: main, env: [{name: A, value: b}]}]}": `{"spec":{"containers":[{"env":[{"name":"A","value":"b"}],"name":"main"}]}}`,
	} {
		if got, err := Parse([]byte(text)); err != nil || string(got) != want {
			t.Errorf("%q is %s, %v", text, got, err)
		}
	}
	for text, words := range map[string]string{
		"spec: {nodeSelecter: {a: b}}":       "nodeSelecter",
		"spec: {nodeselector: {a: b}}":       "nodeselector",
		"spec: {containers: [{image: x}]}":   "name",
		"spec: {containers: null}":           "container main",
		"spec: {priority: high}":             "priority",
		"spec: {nodeSelector: {a: b, a: c}}": `"a"`,
		"[1]":                                "not",
		"word":                               "not",
		"null":                               "null",
		"spec: {containers: [{name: main, $patch: delete}]}": "$patch",
		"# " + strings.Repeat("x", navvy.MaxPodTemplate):     "bytes",
	} {
		got, err := Parse([]byte(text))
		if !errors.Is(err, navvy.ErrInvalid) || !strings.Contains(err.Error(), words) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%.60q is %s, %v; want an error with %q", text, got, err, words)
		}
	}
}

// Of several templates the last word counts, and lists are merged as kubectl patch does.
func TestApply(t *testing.T) {
	t.Parallel()
	pod := corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: Main, Image: "img"}}}}
	err := Apply(&pod, nil, []byte(`{"spec":{"serviceAccountName":"one","nodeSelector":{"a":"1"},"imagePullSecrets":[{"name":"x"}]}}`),
		[]byte(`{"spec":{"serviceAccountName":"two","nodeSelector":{"b":"2"},"imagePullSecrets":[{"name":"y"}],"containers":[{"name":"beside","image":"b"}]}}`))
	if err != nil {
		t.Fatal(err)
	}
	s := pod.Spec
	if s.ServiceAccountName != "two" || len(s.NodeSelector) != 2 || len(s.ImagePullSecrets) != 2 || len(s.Containers) != 2 {
		t.Errorf("the pod is %+v", s)
	}
	before := pod.DeepCopy()
	if err := Apply(&pod, []byte(`{"spec":{"containers":null}}`)); !errors.Is(err, navvy.ErrInvalid) || !cmp.Equal(before, &pod) {
		t.Errorf("without a container: %v", err)
	}
}

func TestCompose(t *testing.T) {
	t.Parallel()
	p := &navvy.Pods{
		Namespace: "team", ServiceAccount: "runner", NodeSelector: map[string]string{"disk": "fast", "example.com/zone": "a"},
		Tolerations: []string{"gpu=yes:NoSchedule", "spot:NoExecute", "dedicated", "*"}, PullSecrets: []string{"registry", "other"},
		Template: []byte("metadata: {labels: {team: blue}}\nspec: {nodeSelector: {disk: slow, arch: arm}, tolerations: [{key: old, operator: Exists}], imagePullSecrets: [{name: other}]}"),
	}
	got, err := Compose(p, []byte(`{"spec":{"serviceAccountName":"mine","nodeSelector":{"disk":null}}}`))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"metadata":{"labels":{"team":"blue"}},"spec":{
		"serviceAccountName":"mine","nodeSelector":{"arch":"arm","example.com/zone":"a"},
		"tolerations":[{"key":"old","operator":"Exists"},{"key":"gpu","operator":"Equal","value":"yes","effect":"NoSchedule"},
			{"key":"spot","operator":"Exists","effect":"NoExecute"},{"key":"dedicated","operator":"Exists"},{"operator":"Exists"}],
		"imagePullSecrets":[{"name":"other"},{"name":"registry"}]}}`
	var a, b any
	if json.Unmarshal(got, &a) != nil || json.Unmarshal([]byte(want), &b) != nil || !cmp.Equal(a, b) {
		t.Errorf("it is %s: %s", got, cmp.Diff(b, a))
	}
	for _, p := range []*navvy.Pods{nil, {}, {Namespace: "team"}} {
		if got, err := Compose(p, nil); got != nil || err != nil {
			t.Errorf("of nothing comes %s, %v", got, err)
		}
		if got, err := Compose(p, []byte("spec: {hostname: x}")); string(got) != `{"spec":{"hostname":"x"}}` || err != nil {
			t.Errorf("a job's own is %s, %v", got, err)
		}
	}
}

func TestComposeRefuses(t *testing.T) {
	t.Parallel()
	for words, p := range map[string]*navvy.Pods{
		"Bad_Name": {ServiceAccount: "Bad_Name"},
		"-x":       {PullSecrets: []string{"-x"}},
		"a b":      {NodeSelector: map[string]string{"a b": "c"}},
		"d e":      {NodeSelector: map[string]string{"c": "d e"}},
		"NoSched":  {Tolerations: []string{"a:NoSched"}},
		"=v":       {Tolerations: []string{"=v"}},
		"speck":    {Template: []byte("speck: {}")},
	} {
		if got, err := Compose(p, nil); !errors.Is(err, navvy.ErrInvalid) || !strings.Contains(err.Error(), words) {
			t.Errorf("%+v is %s, %v", p, got, err)
		}
	}
	if _, err := Compose(&navvy.Pods{ServiceAccount: "x"}, []byte("spec: {hostnam: x}")); !errors.Is(err, navvy.ErrInvalid) || !strings.Contains(err.Error(), "hostnam") {
		t.Errorf("a job's own: %v", err)
	}
}

// Whatever is taken can be merged over a pod, and leaves the container that runs the task.
func FuzzParse(f *testing.F) {
	f.Add([]byte("spec: {nodeSelector: {disk: fast}}"))
	f.Add([]byte(`{"spec":{"containers":[{"name":"main","env":[{"name":"A","value":"b"}]}],"tolerations":null}}`))
	f.Add([]byte("spec: &a {volumes: [{name: x, emptyDir: {}}]}\nmetadata: {labels: {a: b}}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := Parse(text)
		if err != nil {
			if !errors.Is(err, navvy.ErrInvalid) {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		if again, err := Parse(got); err != nil || !cmp.Equal(again, got) {
			t.Errorf("%s is read again as %s, %v", got, again, err)
		}
		pod := corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: Main}}}}
		if err := Apply(&pod, got); err != nil {
			t.Errorf("%s: %v", got, err)
		}
	})
}
