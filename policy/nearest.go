package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/navvy-run/navvy/internal/nearest"
)

// meant guesses which key somebody meant, as the end of a sentence that says that
// there is no such key.
func meant[V any](key string, keys map[string]V) string {
	names := slices.Sorted(maps.Keys(keys))
	if near := nearest.To(key, names); near != "" {
		return fmt.Sprintf("; did you mean %s?", near)
	}
	return ", only " + strings.Join(names, ", ")
}
