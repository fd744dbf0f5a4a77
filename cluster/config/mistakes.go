package config

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"

	"github.com/navvy-run/navvy"
)

// maxMistakes is how many mistakes a message tells.
const maxMistakes = 10

// Mistake is one thing that is wrong with a file.
type Mistake struct {
	Line int    // where it is; 0 if that is not known
	Key  string // such as queue.kind; empty for the file as a whole
	Why  string // what is wrong, and what to do
}

// Mistakes are what is wrong with a file, in the order of its lines. It wraps
// navvy.ErrInvalid.
type Mistakes struct {
	File string // empty if there is none
	List []Mistake
	More int // how many there are beside
}

// Error is a line for each mistake: FILE:LINE: KEY: WHY.
func (m *Mistakes) Error() string {
	var b strings.Builder
	for i, one := range m.List {
		if i > 0 {
			b.WriteByte('\n')
		}
		if m.File != "" {
			b.WriteString(m.File)
			if one.Line > 0 {
				fmt.Fprintf(&b, ":%d", one.Line)
			}
			b.WriteString(": ")
		}
		if one.Key != "" {
			b.WriteString(one.Key + ": ")
		}
		b.WriteString(one.Why)
	}
	if m.More > 0 {
		fmt.Fprintf(&b, "\nand %d more", m.More)
	}
	return b.String() + ": " + navvy.ErrInvalid.Error()
}

// Unwrap is navvy.ErrInvalid.
func (m *Mistakes) Unwrap() error { return navvy.ErrInvalid }

func (m *Mistakes) add(line int, key, format string, args ...any) {
	m.List = append(m.List, Mistake{line, printable(key), printable(fmt.Sprintf(format, args...))})
}

// printable keeps what a file has in it from steering a terminal.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, text)
}

// err is m, in order and bounded; nil if nothing is wrong.
func (m *Mistakes) err() error {
	if len(m.List) == 0 {
		return nil
	}
	slices.SortStableFunc(m.List, func(a, b Mistake) int { return cmp.Compare(a.Line, b.Line) })
	if n := len(m.List); n > maxMistakes {
		m.List, m.More = m.List[:maxMistakes], m.More+n-maxMistakes
	}
	return m
}

// why is an error without its sentinel.
func why(err error) string {
	return strings.TrimSuffix(err.Error(), ": "+navvy.ErrInvalid.Error())
}

// short keeps a text of the file from filling a screen.
func short(text string) string {
	const most = 60
	if len(text) > most {
		return strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
