package input

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/navvy-run/navvy"
)

// group is sources whose values go along with each other.
type group struct {
	names   []string
	members []values
}

// next appends the next value of each member to dst. All end at once, or it is an error.
func (g *group) next(dst []string) ([]string, error) {
	ended := 0
	for i, m := range g.members {
		value, err := m.next()
		switch {
		case err == nil && ended == 0:
			dst = append(dst, string(value))
		case err == nil:
			return nil, fmt.Errorf("%s has more values than %s; sources that are linked by + must have the same number: %w", g.names[i], g.names[i-1], navvy.ErrInvalid)
		case errors.Is(err, io.EOF) && ended == i:
			ended++
		case errors.Is(err, io.EOF):
			return nil, fmt.Errorf("%s has fewer values than %s; sources that are linked by + must have the same number: %w", g.names[i], g.names[i-1], navvy.ErrInvalid)
		default:
			return nil, err
		}
	}
	if ended > 0 {
		return nil, io.EOF
	}
	return dst, nil
}

// all reads what is left of the group.
func (g *group) all() ([][]string, error) {
	var all [][]string
	for {
		row, err := g.next(nil)
		switch {
		case errors.Is(err, io.EOF):
			return all, nil
		case err != nil:
			return nil, err
		}
		all = append(all, row)
	}
}

// product calls emit for each combination of the groups' values, those of the
// last group varying fastest. The first group is read as it goes, the others are
// kept in memory. If one group is empty there is no combination.
func product(groups []group, emit func(fields []string) error) error {
	var rest [][][]string
	for i := range groups[1:] {
		rows, err := groups[i+1].all()
		if err != nil || len(rows) == 0 {
			return err
		}
		rest = append(rest, rows)
	}
	var fields []string
	for {
		var err error
		if fields, err = groups[0].next(fields[:0]); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if err := each(fields, rest, emit); err != nil {
			return err
		}
	}
}

// each calls emit for fields followed by each combination of rows.
func each(fields []string, rows [][][]string, emit func([]string) error) error {
	if len(rows) == 0 {
		return emit(fields)
	}
	for _, row := range rows[0] {
		if err := each(append(fields, row...), rows[1:], emit); err != nil {
			return err
		}
	}
	return nil
}

// columns splits each value of the row.
func columns(row []string, split func(string) []string) []string {
	var fields []string
	for _, value := range row {
		fields = append(fields, split(value)...)
	}
	return fields
}

// splitter makes a function that parts a value into columns. The separator is a
// regular expression, or one character, which stands for itself.
func splitter(separator string) (func(string) []string, error) {
	if len(separator) == 1 {
		separator = regexp.QuoteMeta(separator)
	}
	re, err := regexp.Compile(separator)
	if err != nil || re.MatchString("") {
		return nil, fmt.Errorf("%q cannot part columns: it must be a regular expression that does not match nothing: %w", separator, navvy.ErrInvalid)
	}
	if literal, complete := re.LiteralPrefix(); complete {
		return func(s string) []string { return strings.Split(s, literal) }, nil
	}
	return func(s string) []string { return re.Split(s, -1) }, nil
}
