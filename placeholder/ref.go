package placeholder

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"github.com/navvy-run/navvy"
)

// source says where a placeholder's value comes from.
type source uint8

const (
	sourceAll   source = iota + 1 // all fields of the input
	sourceField                   // one field
	sourceSeq                     // the task's number
	sourceSlot                    // the slot's number
)

// ref is a placeholder, understood.
type ref struct {
	source source
	field  int // from 1, or from -1 backwards; for sourceField
	part   part
}

// isInput tells whether the placeholder stands for something of the input.
func (r ref) isInput() bool { return r.source == sourceAll || r.source == sourceField }

// append adds the placeholder's value to dst.
func (r ref) append(dst []byte, v *Values) []byte {
	switch r.source {
	case sourceSeq:
		return strconv.AppendInt(dst, v.Seq, 10)
	case sourceSlot:
		return strconv.AppendInt(dst, int64(v.Slot), 10)
	case sourceField:
		return append(dst, r.value(v)...)
	default:
		for i, field := range v.Fields {
			if i > 0 {
				dst = append(dst, ' ')
			}
			dst = append(dst, r.part.of(field)...)
		}
		return dst
	}
}

// string is the placeholder's value. It allocates only if it must.
func (r ref) string(v *Values) string {
	if r.source == sourceField || r.source == sourceAll && len(v.Fields) <= 1 {
		return r.value(v)
	}
	return string(r.append(nil, v))
}

// value is the part of the one field that r stands for: empty if there is none.
func (r ref) value(v *Values) string {
	i := r.field - 1
	switch {
	case r.source == sourceAll:
		i = 0
	case r.field < 0:
		i = len(v.Fields) + r.field
	}
	if i < 0 || i >= len(v.Fields) {
		return ""
	}
	return r.part.of(v.Fields[i])
}

// names knows what may stand in braces.
type names struct {
	columns []string
	byName  map[string]int // a column's position, from 1
	fields  int            // how many fields each input has; 0 if that is not known
}

func newNames(o *Options) names {
	n := names{columns: o.Columns, byName: make(map[string]int, len(o.Columns)), fields: o.Fields}
	for i, name := range o.Columns {
		if _, ok := n.byName[name]; !ok {
			n.byName[name] = i + 1
		}
	}
	if len(o.Columns) > 0 {
		n.fields = len(o.Columns)
	}
	return n
}

// at finds the placeholder that s, which begins with a brace, begins with, and
// its length; 0 if it begins with none. The error wraps navvy.ErrInvalid.
func (n *names) at(s string) (ref, int, error) {
	end := strings.IndexAny(s[1:], "{}") + 1
	if end == 0 || s[end] == '{' {
		return ref{}, 0, nil
	}
	r, ok, err := n.lookup(s[1:end])
	if err != nil || !ok {
		return ref{}, 0, err
	}
	return r, end + 1, nil
}

// lookup finds what the text between braces stands for. What the package gives a
// meaning comes first, then columns, whose names may hold any character.
func (n *names) lookup(text string) (r ref, ok bool, err error) {
	switch text {
	case "#":
		return ref{source: sourceSeq}, true, nil
	case "%":
		return ref{source: sourceSlot}, true, nil
	}
	for _, p := range parts {
		stem, ok := strings.CutSuffix(text, p.suffix)
		if !ok {
			continue
		}
		if stem == "" {
			return ref{source: sourceAll, part: p.part}, true, nil
		}
		if field, ok := position(stem); ok {
			return ref{source: sourceField, field: field, part: p.part}, true, n.inRange(text, field)
		}
	}
	if field, ok := n.byName[text]; ok {
		return ref{source: sourceField, field: field}, true, nil
	}
	for _, p := range parts {
		if stem, ok := strings.CutSuffix(text, p.suffix); ok && n.byName[stem] > 0 {
			return ref{source: sourceField, field: n.byName[stem], part: p.part}, true, nil
		}
	}
	if len(n.columns) > 0 && isWord(text) {
		return ref{}, false, fmt.Errorf("{%s}: there is no such column, only %s; if the braces are meant as they are, put a space behind the first: %w",
			text, strings.Join(n.columns, ", "), navvy.ErrInvalid)
	}
	return ref{}, false, nil
}

// inRange checks that some input can have the field.
func (n *names) inRange(text string, field int) error {
	if n.fields > 0 && max(field, -field) > n.fields {
		return fmt.Errorf("{%s}: the inputs have no such field, only %d: %w", text, n.fields, navvy.ErrInvalid)
	}
	return nil
}

// position reads the number of a field: decimal digits, perhaps behind a minus, not zero.
func position(s string) (int, bool) {
	digits := strings.TrimPrefix(s, "-")
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		return 0, false
	}
	field, err := strconv.ParseInt(s, 10, 32)
	return int(field), err == nil && field != 0
}

// isWord tells whether s looks like a name: letters, digits, and what often joins them.
func isWord(s string) bool {
	for i, r := range s {
		if !unicode.IsLetter(r) && r != '_' && (i == 0 || !unicode.IsDigit(r) && !strings.ContainsRune("-./", r)) {
			return false
		}
	}
	return s != ""
}
