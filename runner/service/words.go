package service

import (
	"fmt"
	"strings"

	"github.com/navvy-run/navvy"
)

// needsShell are what a shell would act upon where it is not quoted. A command is given
// to no shell, and so they are refused instead of meaning something else.
const needsShell = "|&;<>()`$\n"

// Words splits a command line into the program and its arguments, as a shell does: by
// spaces and tabs, with '…', "…" and \ to keep what is in them together. Nothing is
// expanded, and a line that would need a shell is refused: write sh -c '…'. The error
// wraps navvy.ErrInvalid.
func Words(line string) ([]string, error) {
	var words []string
	for rest := strings.TrimLeft(line, " \t"); rest != ""; rest = strings.TrimLeft(rest, " \t") {
		word, left, err := cutWord(rest)
		if err != nil {
			return nil, fmt.Errorf("command %q: %w: %w", line, err, navvy.ErrInvalid)
		}
		words, rest = append(words, word), left
	}
	switch {
	case len(words) == 0 || words[0] == "":
		return nil, fmt.Errorf("command %q names no program: %w", line, navvy.ErrInvalid)
	case strings.ContainsRune(line, 0):
		return nil, fmt.Errorf("command %q holds a zero byte: %w", line, navvy.ErrInvalid)
	}
	return words, nil
}

// cutWord takes the first word off a line that begins with one.
func cutWord(line string) (word, rest string, err error) {
	var b strings.Builder
	for i := 0; i < len(line); {
		switch c := line[i]; {
		case c == ' ' || c == '\t':
			return b.String(), line[i:], nil
		case c == '\'' || c == '"':
			n, err := quoted(&b, line[i:])
			if err != nil {
				return "", "", err
			}
			i += n
		case c == '\\':
			if i+1 == len(line) {
				return "", "", fmt.Errorf("nothing stands behind the last \\")
			}
			b.WriteByte(line[i+1])
			i += 2
		case strings.IndexByte(needsShell, c) >= 0:
			return "", "", fmt.Errorf("%q is for a shell, and there is none: quote it, or write sh -c '…'", c)
		default:
			b.WriteByte(c)
			i++
		}
	}
	return b.String(), "", nil
}

// quoted writes what is in the quotes that s begins with, and returns how long that is
// with them.
func quoted(b *strings.Builder, s string) (int, error) {
	quote := s[0]
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == quote:
			return i + 1, nil
		case quote == '"' && c == '\\' && i+1 < len(s) && strings.IndexByte("\\\"$`", s[i+1]) >= 0:
			i++
			b.WriteByte(s[i])
		case quote == '"' && (c == '$' || c == '`'):
			return 0, fmt.Errorf("%q is for a shell, and there is none: put it in '…', or write sh -c '…'", c)
		default:
			b.WriteByte(c)
		}
	}
	return 0, fmt.Errorf("a %c is not closed", quote)
}
