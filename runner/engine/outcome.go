package engine

import (
	"strings"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
)

// Engines tell a signal by its number and this.
const (
	codeSignal = 128
	lastSignal = 64
)

// exited tells what the end of a container means.
func exited(s *state) driver.End {
	end := driver.End{Exit: navvy.Exit{Code: s.code & 0xff}}
	if s.code > codeSignal && s.code <= codeSignal+lastSignal {
		end.Exit = navvy.Exit{Signal: s.code - codeSignal}
	}
	if s.oom && s.code != 0 {
		end.Usage.OOMKills = 1
	}
	return end
}

// startReason tells from a runtime's words why a program cannot be started.
func startReason(words string) navvy.Reason {
	for _, k := range []struct {
		words  string
		reason navvy.Reason
	}{
		{"executable file not found", navvy.ReasonNotFound},
		{"no such file or directory", navvy.ReasonNotFound},
		{"permission denied", navvy.ReasonPermission},
		{"is a directory", navvy.ReasonPermission},
	} {
		if strings.Contains(words, k.words) {
			return k.reason
		}
	}
	return navvy.ReasonStart
}
