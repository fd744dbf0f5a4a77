package navvy

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Service has a user's own service answer each input: it is made ready once in each
// worker, and invoked many times at once. docs/services.md says what it can be.
type Service struct {
	// Form is what answers and how it is reached, as in "cgi:./score" or "echo". Empty
	// in what is submitted means the service of the job's queue.
	Form string
	// Env is the environment of its program, NAME=VALUE each. Nothing is inherited.
	Env []string
	// Dir is the absolute working directory of its program. Empty means one of its own.
	Dir string
	// Package is what its program is started in, in place of a directory. Nil if it has none.
	Package *Package
}

// Same tells whether two are answered by the same service.
func (s *Service) Same(other *Service) bool {
	if s.Package == nil || other.Package == nil {
		return s.Form == other.Form && s.Package == other.Package
	}
	return s.Form == other.Form && s.Package.String() == other.Package.String()
}

// MaxServiceForm bounds the form of a service, in bytes.
const MaxServiceForm = 64 << 10

func (s *Service) validate() error {
	switch {
	case s.Form == "":
		return fmt.Errorf("spec: the service is empty: say what answers, or name a queue that has a service: %w", ErrInvalid)
	case len(s.Form) > MaxServiceForm || !utf8.ValidString(s.Form):
		return fmt.Errorf("spec: the service %.100q…: want at most %d bytes of UTF-8: %w", s.Form, MaxServiceForm, ErrInvalid)
	case strings.ContainsRune(s.Form, 0):
		return fmt.Errorf("spec: the service %.100q holds a zero byte, which no process can be given: %w", s.Form, ErrInvalid)
	}
	if s.Package != nil && s.Dir != "" {
		return fmt.Errorf("spec: the service starts in package %s, and its working directory is to be %s: %w", s.Package, s.Dir, ErrInvalid)
	}
	if s.Package != nil {
		if err := s.Package.Validate(); err != nil {
			return fmt.Errorf("spec: %w", err)
		}
	}
	return validateSurroundings(s.Dir, s.Env)
}

// validateSurroundings checks what a process is started in.
func validateSurroundings(dir string, env []string) error {
	if dir != "" && !strings.HasPrefix(dir, "/") {
		return fmt.Errorf("spec: working directory %q is not absolute: %w", dir, ErrInvalid)
	}
	if strings.ContainsRune(dir, 0) {
		return fmt.Errorf("spec: working directory %q holds a zero byte: %w", dir, ErrInvalid)
	}
	for _, pair := range env {
		if strings.ContainsRune(pair, 0) {
			return fmt.Errorf("spec: %q holds a zero byte, which no process can be given: %w", pair, ErrInvalid)
		}
		if i := strings.IndexByte(pair, '='); i <= 0 {
			return fmt.Errorf("spec: environment entry %q is not NAME=VALUE: %w", pair, ErrInvalid)
		}
	}
	return nil
}
