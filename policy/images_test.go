package policy

import (
	"errors"
	"strings"
	"testing"

	"github.com/navvy-run/navvy"
)

func TestImages(t *testing.T) {
	t.Parallel()
	p, err := Parse("policy.yaml", []byte("roles:\n  user:\n    images: [registry.example/science/*, busybox]\n    require: {isolate: true}\n"))
	if err != nil {
		t.Fatal(err)
	}
	for image, want := range map[string]bool{
		"registry.example/science/align:1.2": true, "registry.example/science/deep/er@sha256:00": true, "busybox": true,
		"busybox:1": false, "registry.example/other/x": false, "evil/registry.example/science/x": false, "registryXexample/science/x": false,
	} {
		s := navvy.Spec{Container: &navvy.Container{Image: image}}
		err := p.Apply(User, &s)
		if (err == nil) != want {
			t.Errorf("%s: %v, want it allowed: %t", image, err, want)
		}
		if err != nil && (!errors.Is(err, navvy.ErrDenied) || !strings.Contains(err.Error(), image) || !strings.Contains(err.Error(), "admin")) {
			t.Errorf("%s: the error is %v", image, err)
		}
		if s.Isolate {
			t.Errorf("%s: a container is to be isolated by its worker", image)
		}
		if err := p.Apply(Admin, &s); err != nil {
			t.Errorf("%s, an admin's: %v", image, err)
		}
	}
	none, err := Parse("policy.yaml", []byte("roles: {user: {images: []}}"))
	if err != nil {
		t.Fatal(err)
	}
	if err := none.Apply(User, &navvy.Spec{Container: &navvy.Container{Image: "busybox"}}); !errors.Is(err, navvy.ErrDenied) {
		t.Errorf("an empty list: %v", err)
	}
	if _, err := Parse("policy.yaml", []byte("roles: {user: {images: ['a b']}}")); !errors.Is(err, navvy.ErrInvalid) {
		t.Errorf("no reference: %v", err)
	}
}

// A namespace that a container names is one of the list; naming none is always allowed.
func TestNamespaces(t *testing.T) {
	t.Parallel()
	p, err := Parse("policy.yaml", []byte("roles:\n  user: {namespaces: [team-*, science]}\n  admin: {namespaces: [team-*, science, ops]}\n"))
	if err != nil {
		t.Fatal(err)
	}
	for namespace, want := range map[string]string{
		"": "", "science": "", "team-a": "", "ops": "role admin may ask for it", "kube-system": "policy.yaml", "my-team-a": "policy.yaml", "sciences": "policy.yaml",
	} {
		s := navvy.Spec{Container: &navvy.Container{Image: "x", Namespace: namespace}}
		err := p.Apply(User, &s)
		if want == "" && err != nil || want != "" && (!errors.Is(err, navvy.ErrDenied) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), namespace)) {
			t.Errorf("%q: %v, want %q", namespace, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "role admin") != (namespace == "ops") {
			t.Errorf("%q: who can do something is said wrongly: %v", namespace, err)
		}
	}
}

func TestNoNamespaces(t *testing.T) {
	t.Parallel()
	none, err := Parse("policy.yaml", []byte("roles: {user: {namespaces: []}}"))
	if err != nil {
		t.Fatal(err)
	}
	for namespace, want := range map[string]error{"": nil, "a": navvy.ErrDenied} {
		if err := none.Apply(User, &navvy.Spec{Container: &navvy.Container{Image: "x", Namespace: namespace}}); !errors.Is(err, want) {
			t.Errorf("an empty list, %q: %v", namespace, err)
		}
	}
	if _, err := Parse("policy.yaml", []byte("roles: {user: {namespaces: ['a b']}}")); !errors.Is(err, navvy.ErrInvalid) || !strings.Contains(err.Error(), "namespaces") {
		t.Errorf("no name: %v", err)
	}
	if _, err := Parse("policy.yaml", []byte("roles: {user: {namespace: a}}")); err == nil || !strings.Contains(err.Error(), "did you mean namespaces?") {
		t.Errorf("misspelt: %v", err)
	}
}
