package driver

import (
	"fmt"
	"strings"

	"github.com/navvy-run/navvy"
)

// CheckLogName tells whether a log may have the name, by the rule of
// Store.CreateLog. Its error wraps navvy.ErrInvalid.
func CheckLogName(name string) error {
	if len(name) == 0 || len(name) > MaxLogName {
		return fmt.Errorf("log name of %d bytes, not 1 to %d: %w", len(name), MaxLogName, navvy.ErrInvalid)
	}
	for i := range len(name) {
		c := name[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '.' && c != '/' && c != '-' {
			return fmt.Errorf("log name %q: only a-z, 0-9, '.', '/' and '-' are allowed: %w", name, navvy.ErrInvalid)
		}
	}
	for element := range strings.SplitSeq(name, "/") {
		if element == "" || element == "." || element == ".." {
			return fmt.Errorf("log name %q has the element %q: %w", name, element, navvy.ErrInvalid)
		}
	}
	return nil
}
