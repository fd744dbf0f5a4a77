package config

import (
	"fmt"

	"github.com/navvy-run/navvy"
)

// ValidateName refuses what cannot be the name of a cluster. The error wraps navvy.ErrInvalid.
func ValidateName(name string) error {
	if !clusterName.MatchString(name) {
		return fmt.Errorf("cluster %q: want 1 to 40 small letters, digits and -, a letter first, no - at the end: %w", short(name), navvy.ErrInvalid)
	}
	return nil
}
