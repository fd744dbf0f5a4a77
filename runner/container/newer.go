package container

import (
	"cmp"
	"strings"

	"github.com/navvy-run/navvy"
)

// newer tells whether the attempt of a token came after that of another one at the same task.
// It is false where that cannot be told: a token ends in the attempt's id, after a dash, as
// workers make them; others may be anything.
func newer(token, than string) bool {
	task, attempt, ok := parseToken(token)
	other, before, known := parseToken(than)
	if !ok || !known || task != other {
		return false
	}
	// Numbers may be given again after a start of the server, which has another epoch.
	return cmp.Or(cmp.Compare(attempt.Epoch, before.Epoch), cmp.Compare(attempt.Number, before.Number)) > 0
}

func parseToken(token string) (task string, attempt navvy.AttemptID, ok bool) {
	i := strings.LastIndexByte(token, '-')
	if i < 0 {
		return "", attempt, false
	}
	attempt, err := navvy.ParseAttemptID(token[i+1:])
	return token[:i], attempt, err == nil
}
