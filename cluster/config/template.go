package config

import (
	"embed"
	"fmt"
	"strings"

	"github.com/navvy-run/navvy"
)

//go:embed templates/*.yaml
var templates embed.FS

// Template is a commented file to begin with for a provider. That of local works as it is,
// if this machine does; what has to be filled in for the others Validate refuses, and says
// so. The error wraps navvy.ErrInvalid if there is no such provider.
func Template(p Provider) ([]byte, error) {
	text, err := templates.ReadFile("templates/" + string(p) + ".yaml")
	if err != nil || strings.Contains(string(p), "/") {
		return nil, fmt.Errorf("provider %s: %w", choose(string(p), wordsOf(Providers())), navvy.ErrInvalid)
	}
	return text, nil
}
