package navvy_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/navvy-run/navvy"
)

func TestParsePackage(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"ocr@1.2", "a@b", "OCR_x+y-z@2026-11-23.rc1", strings.Repeat("a", 100) + "@1"} {
		p, err := navvy.ParsePackage(text)
		if err != nil || p.String() != text {
			t.Errorf("%s: %v, %v", text, p, err)
		}
		if again, ok := navvy.PackageOf(p.File()); !ok || again != p {
			t.Errorf("%s lies in %s, which is %v, %v", text, p.File(), again, ok)
		}
	}
	for _, text := range []string{
		"", "ocr", "@", "ocr@", "@1", "ocr@1@2", "../x@1", "ocr@../1", "a/b@1", "ocr@1/2", "ocr@.1", "ocr@1.", "-x@1", "o cr@1", "ö@1", "a__0x41_@1",
		strings.Repeat("a", 101) + "@1", "ocr@1\x00",
	} {
		if p, err := navvy.ParsePackage(text); !errors.Is(err, navvy.ErrInvalid) {
			t.Errorf("%q is taken for %v, %v", text, p, err)
		}
	}
	for _, key := range []string{"packages/ocr/1.2", "packages/ocr/1.2/x.tgz", "packages/ocr.tgz", "x/ocr/1.tgz", "packages/ocr/.tgz", "packages//1.tgz"} {
		if p, ok := navvy.PackageOf(key); ok {
			t.Errorf("%s is taken for %v", key, p)
		}
	}
}

// A package says all about the surroundings of its service.
func TestServicePackage(t *testing.T) {
	t.Parallel()
	spec := func(change func(*navvy.Service)) *navvy.Spec {
		s := &navvy.Service{Form: "lines:./ocr", Package: &navvy.Package{Name: "ocr", Version: "1.2"}}
		change(s)
		return &navvy.Spec{Service: s}
	}
	good := spec(func(*navvy.Service) {})
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	if needs := good.Needs(); len(needs) != 1 || needs[0] != navvy.AbilityPackage {
		t.Errorf("a service with a package needs %v", needs)
	}
	for name, change := range map[string]func(*navvy.Service){
		"a directory beside it": func(s *navvy.Service) { s.Dir = "/srv" },
		"no version":            func(s *navvy.Service) { s.Package.Version = "" },
		"a checksum of nothing": func(s *navvy.Service) { s.Package.SHA256 = "abcd" },
	} {
		if err := spec(change).Validate(); !errors.Is(err, navvy.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	other := spec(func(s *navvy.Service) { s.Package.Version = "1.3" })
	if good.Service.Same(other.Service) || !good.Service.Same(spec(func(*navvy.Service) {}).Service) {
		t.Error("the version does not tell services apart")
	}
}
