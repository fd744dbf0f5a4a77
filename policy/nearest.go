package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// meant guesses which key somebody meant, as the end of a sentence that says that
// there is no such key.
func meant[V any](key string, keys map[string]V) string {
	names := slices.Sorted(maps.Keys(keys))
	const longest = 40 // of a key that is worth a guess
	if len(key) <= longest {
		nearest := slices.MinFunc(names, func(a, b string) int { return distance(key, a) - distance(key, b) })
		if begun := slices.IndexFunc(names, func(name string) bool { return strings.HasPrefix(name, key+"-") }); begun >= 0 {
			nearest = names[begun]
		} else if distance(key, nearest) > 1+len(nearest)/3 {
			return ", only " + strings.Join(names, ", ")
		}
		return fmt.Sprintf("; did you mean %s?", nearest)
	}
	return ", only " + strings.Join(names, ", ")
}

// distance is how many letters have to be put in, taken out or changed to make one
// word of another (Levenshtein, 1965). Those that - and _ stand for are the same.
func distance(a, b string) int {
	a, b = strings.ReplaceAll(a, "_", "-"), strings.ReplaceAll(b, "_", "-")
	row := make([]int, len(b)+1)
	for k := range row {
		row[k] = k
	}
	for i := range len(a) {
		left := row[0]
		row[0] = i + 1
		for k := range len(b) {
			change := left
			if a[i] != b[k] {
				change++
			}
			left = row[k+1]
			row[k+1] = min(change, row[k]+1, left+1)
		}
	}
	return row[len(b)]
}
