package container

import (
	"strings"

	"github.com/navvy-run/navvy"
)

// newer tells whether the attempt of a token came after that of another one at the same task.
// It is false where that cannot be told: a token ends in the attempt's id, after a dash, as
// workers make them; others may be anything.
func newer(token, than string) bool {
	task, attempt, ok := parseToken(token)
	other, before, known := parseToken(than)
	return ok && known && task == other && attempt.After(before)
}

func parseToken(token string) (task string, attempt navvy.AttemptID, ok bool) {
	i := strings.LastIndexByte(token, '-')
	if i < 0 {
		return "", attempt, false
	}
	attempt, err := navvy.ParseAttemptID(token[i+1:])
	return token[:i], attempt, err == nil
}

// supersedes tells whether a token, which ends in the id of an attempt at the same task, is that of
// a newer one.
func supersedes(token string, than navvy.AttemptID) bool {
	_, is, ok := parseToken(token)
	return ok && is.After(than)
}
