package navvy

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// Package names the files of a service: a directory that was packed under a name and a
// version, among its owner's files. A worker deploys it once for all instances of the
// service, which start in it and cannot change it.
type Package struct {
	// Name and Version have 1 to MaxPackageName letters, digits and "._+-" each, of which
	// the first is a letter or a digit, and the last no dot.
	Name, Version string
	// Owner is whose it is: of a job its own owner's, of a queue that of whoever has given
	// it the service. Whoever accepts the job or the settings sets it.
	Owner string
	// SHA256 is what its archive holds, in hexadecimal digits: whoever accepts the job or the
	// settings looks it up, so that nothing else is ever deployed for them.
	SHA256 string
}

// MaxPackageName bounds the name of a package, and its version, in bytes.
const MaxPackageName = 100

// PackagesFolder is where packages lie among the files of an owner.
const PackagesFolder = "packages/"

// packageSuffix is what names of their archives end with.
const packageSuffix = ".tgz"

// ParsePackage reads NAME@VERSION. The error wraps ErrInvalid.
func ParsePackage(text string) (Package, error) {
	name, version, found := strings.Cut(text, "@")
	if !found {
		return Package{}, fmt.Errorf("package %.200q: want NAME@VERSION: %w", text, ErrInvalid)
	}
	p := Package{Name: name, Version: version}
	return p, p.Validate()
}

// PackageOf tells which package the file of a name is, among those of its owner.
func PackageOf(key string) (p Package, ok bool) {
	rest, ok := strings.CutPrefix(key, PackagesFolder)
	if !ok {
		return p, false
	}
	if rest, ok = strings.CutSuffix(rest, packageSuffix); !ok {
		return p, false
	}
	p.Name, p.Version, ok = strings.Cut(rest, "/")
	return p, ok && p.Validate() == nil
}

// String is NAME@VERSION.
func (p *Package) String() string { return p.Name + "@" + p.Version }

// File is the name of its archive among the files of its owner.
func (p *Package) File() string { return PackagesFolder + p.Name + "/" + p.Version + packageSuffix }

// Validate checks the names. The error wraps ErrInvalid.
func (p *Package) Validate() error {
	for _, part := range [...]struct{ what, text string }{{"name", p.Name}, {"version", p.Version}} {
		if !packageName(part.text) {
			return fmt.Errorf("package %.200q: its %s is 1 to %d letters, digits and ._+-, first a letter or a digit, and last no dot: %w", p.String(), part.what, MaxPackageName, ErrInvalid)
		}
	}
	if sum, err := hex.DecodeString(p.SHA256); err != nil || len(sum) != 0 && len(sum) != 32 {
		return fmt.Errorf("package %s: %.100q is no SHA-256: want 64 hexadecimal digits: %w", p, p.SHA256, ErrInvalid)
	}
	return nil
}

func packageName(text string) bool {
	alnum := func(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' }
	if text == "" || len(text) > MaxPackageName || !alnum(text[0]) || strings.HasSuffix(text, ".") || strings.Contains(text, "__0x") {
		return false
	}
	for i := range len(text) {
		if !alnum(text[i]) && strings.IndexByte("._+-", text[i]) < 0 {
			return false
		}
	}
	return true
}
