// Package nearest guesses which word somebody meant who wrote another one.
package nearest

import (
	"slices"
	"strings"
)

// longest is how long a word may be that is worth a guess, in bytes.
const longest = 40

// To is the word of a list that is nearest to one that is not in it; empty if none is
// near. One that begins with the word and goes on behind a - or _ comes before all others.
// Letters of both cases are the same, as are - and _, which may be missing.
func To(word string, words []string) string {
	if len(word) > longest || len(words) == 0 {
		return ""
	}
	if i := slices.IndexFunc(words, func(w string) bool { return begins(w, word) }); i >= 0 {
		return words[i]
	}
	best := slices.MinFunc(words, func(a, b string) int { return distance(word, a) - distance(word, b) })
	if distance(word, best) > 1+len(best)/3 {
		return ""
	}
	return best
}

func begins(whole, word string) bool {
	rest, ok := strings.CutPrefix(whole, word)
	return ok && word != "" && rest != "" && (rest[0] == '-' || rest[0] == '_')
}

var plain = strings.NewReplacer("-", "", "_", "")

// distance is how many letters have to be put in, taken out or changed to make one word
// of another (Levenshtein, 1965).
func distance(a, b string) int {
	a, b = plain.Replace(strings.ToLower(a)), plain.Replace(strings.ToLower(b))
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
