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
