package input

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/navvy-run/navvy"
)

func TestSplit(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args    string
		command []string
		sources []Source
	}{
		{"", []string{}, nil},
		{"wc -l", []string{"wc", "-l"}, nil},
		{"wc ::: a b", []string{"wc"}, []Source{{Words: []string{"a", "b"}}}},
		{"wc :::", []string{"wc"}, []Source{{Words: []string{}}}},
		{"::: a", []string{}, []Source{{Words: []string{"a"}}}},
		{"wc :::: f g ::::+ h - ::: a :::+ b", []string{"wc"}, []Source{{File: "f"}, {File: "g"}, {File: "h", Linked: true},
			{File: "-", Linked: true}, {Words: []string{"a"}}, {Words: []string{"b"}, Linked: true}}},
		{"wc :: ::::: :::a", []string{"wc", "::", ":::::", ":::a"}, nil},
	} {
		command, sources, err := Split(strings.Fields(c.args))
		if err != nil || !cmp.Equal(command, c.command) || !cmp.Equal(sources, c.sources) {
			t.Errorf("%q: %q, %+v, %v", c.args, command, sources, err)
		}
	}
	for _, args := range [][]string{{"wc", "::::"}, {"wc", "::::", "f", "::::+"}, {"wc", "::::", ""}} {
		if _, _, err := Split(args); !errors.Is(err, navvy.ErrInvalid) {
			t.Errorf("%q: %v", args, err)
		}
	}
}
