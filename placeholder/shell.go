package placeholder

import (
	"fmt"
	"slices"
	"strings"

	"github.com/navvy-run/navvy"
)

// quotes says how a place in a shell line is quoted.
type quotes uint8

const (
	bare quotes = iota
	double
	single
)

// frame is what a place in a shell line lies in; the grammar is POSIX's, Shell
// Command Language, 2.2 to 2.6.
type frame uint8

const (
	frameLine   frame = iota // the line itself, ( … ) and $( … )
	frameDouble              // " … "
	frameSingle              // ' … '
	frameBrace               // ${ … }
	frameArith               // (( … )) and $(( … )), and parentheses in them
	frameParen               // ( … ) within arithmetic
	frameTick                // ` … `
)

var frameNames = [...]string{
	frameLine: "a parenthesis", frameDouble: `"`, frameSingle: "'", frameBrace: "${",
	frameArith: "((", frameParen: "a parenthesis within ((", frameTick: "a backquote",
}

// variable begins the names of the shell variables that hold values.
const variable = "_navvy"

// line reads a shell line from left to right.
type line struct {
	text    string
	pos     int
	start   int // of the text that is not a segment yet
	names   names
	frames  []frame // the innermost last; the line itself is not listed
	refuse  string  // why no placeholder may follow: what came before is read differently by different shells
	comment bool    // pos is in a comment
	out     []segment
}

// parseLine reads a shell line. Should it misread a line, values may arrive in
// pieces or not at all, but are still never parsed by the shell: the script
// holds variables only.
func parseLine(text string, n names, stdin bool) (*Template, error) {
	l := &line{text: text, names: n}
	for l.pos < len(l.text) {
		if err := l.step(); err != nil {
			return nil, err
		}
	}
	l.flush()
	t := newTemplate([][]segment{l.out}, stdin)
	t.shell = true
	if len(l.frames) > 0 && l.refuse == "" && (t.appends || len(l.out) > 1) {
		return nil, fmt.Errorf("the shell line ends within %s: %w", frameNames[l.top()], navvy.ErrInvalid)
	}
	if t.appends {
		if err := l.canAppend(); err != nil {
			return nil, err
		}
	}
	t.script, t.vars = script(l.out, t.appends)
	return t, nil
}

// step reads what stands at pos.
func (l *line) step() error {
	c := l.text[l.pos]
	if c == '{' && !l.comment {
		return l.brace()
	}
	if l.refuse != "" {
		l.pos++
		return nil
	}
	switch l.top() {
	case frameLine:
		return l.bare(c)
	case frameSingle:
		l.closeAt(c, '\'')
		l.pos++
	case frameTick:
		l.backslash(c)
		l.closeAt(c, '`')
		l.pos++
	case frameDouble, frameBrace:
		return l.quoted(c)
	default:
		return l.arithmetic(c)
	}
	return nil
}

// brace reads a brace that opens: a placeholder, if it is one and may stand here.
func (l *line) brace() error {
	r, size, err := l.names.at(l.text[l.pos:])
	if err != nil {
		return err
	}
	if size == 0 {
		l.pos++
		return nil
	}
	name := l.text[l.pos : l.pos+size]
	if l.refuse != "" {
		return fmt.Errorf("%s cannot stand behind %s in a shell line; %s: %w", name, l.refuse, useVariable, navvy.ErrInvalid)
	}
	for _, f := range l.frames {
		if f == frameBrace || f == frameArith || f == frameParen || f == frameTick {
			return fmt.Errorf("%s cannot stand within %s in a shell line; %s: %w", name, frameNames[f], useVariable, navvy.ErrInvalid)
		}
	}
	l.flush()
	l.out = append(l.out, segment{ref: r, quotes: map[frame]quotes{frameDouble: double, frameSingle: single}[l.top()]})
	l.pos += size
	l.start = l.pos
	return nil
}

const useVariable = `put it into a variable first, as in x={}; echo "$x"`

// bare reads a character outside of all quotes.
func (l *line) bare(c byte) error {
	if l.comment {
		l.comment = c != '\n'
		l.pos++
		return nil
	}
	switch c {
	case '\'':
		l.open(frameSingle, 1)
	case '(':
		if l.follows("((") {
			l.open(frameArith, 2)
		} else {
			l.open(frameLine, 1)
		}
	case ')':
		if len(l.frames) > 0 {
			l.frames = l.frames[:len(l.frames)-1]
		}
		l.pos++
	case '#':
		l.comment = l.wordStarts()
		l.pos++
	case '<':
		if l.follows("<<") {
			l.refuse = "<<"
		}
		l.pos++
	case 'c':
		if l.wordStarts() && len(l.frames) > 0 && (l.follows("case ") || l.follows("case\t")) {
			l.refuse = "case within $( )" // its patterns end in parentheses that nothing opened
		}
		l.pos++
	default:
		return l.common(c)
	}
	return nil
}

// quoted reads a character between double quotes, or within ${ }.
func (l *line) quoted(c byte) error {
	switch in := l.top(); {
	case c == '"' && in == frameDouble, c == '}' && in == frameBrace:
		l.frames = l.frames[:len(l.frames)-1]
		l.pos++
	case c == '\'' && in == frameBrace && !slices.Contains(l.frames, frameDouble):
		l.open(frameSingle, 1)
	default:
		return l.common(c)
	}
	return nil
}

// arithmetic reads a character within (( )).
func (l *line) arithmetic(c byte) error {
	switch {
	case c == '(':
		l.open(frameParen, 1)
	case c == ')' && l.top() == frameArith && !l.follows("))"):
		l.refuse = "(( that is not arithmetic"
	case c == ')':
		if l.top() == frameArith {
			l.pos++
		}
		l.closeAt(c, ')')
		l.pos++
	default:
		return l.common(c)
	}
	return nil
}

// common reads a character that means the same in and out of double quotes.
func (l *line) common(c byte) error {
	switch c {
	case '"':
		l.open(frameDouble, 1)
	case '`':
		l.open(frameTick, 1)
	case '$':
		return l.dollar()
	default:
		l.backslash(c)
		l.pos++
	}
	return nil
}

// dollar reads what a dollar begins.
func (l *line) dollar() error {
	switch {
	case l.follows("${"):
		r, size, _ := l.names.at(l.text[l.pos+1:])
		if size > 0 && (r.source == sourceAll || r.source == sourceSlot) {
			name := l.text[l.pos+1 : l.pos+1+size]
			return fmt.Errorf(`$%s is no parameter of the shell; for a dollar before the value write \$%s: %w`, name, name, navvy.ErrInvalid)
		}
		l.open(frameBrace, 2)
	case l.follows("$(("):
		l.open(frameArith, 3)
	case l.follows("$("):
		l.open(frameLine, 2)
	case l.follows("$["):
		l.refuse = "$["
	case l.follows("$'") && l.top() == frameLine:
		l.refuse = "$'"
	default:
		l.pos++
	}
	return nil
}

// open enters a frame that size characters open.
func (l *line) open(f frame, size int) {
	l.frames = append(l.frames, f)
	l.pos += size
}

// closeAt leaves the innermost frame if c is what ends it.
func (l *line) closeAt(c, end byte) {
	if c == end {
		l.frames = l.frames[:len(l.frames)-1]
	}
}

// backslash passes over the character that c, if it is a backslash, protects.
func (l *line) backslash(c byte) {
	if c == '\\' && l.pos+1 < len(l.text) {
		l.pos++
	}
}

// top is the innermost frame.
func (l *line) top() frame {
	if len(l.frames) == 0 {
		return frameLine
	}
	return l.frames[len(l.frames)-1]
}

// follows tells whether s stands at pos.
func (l *line) follows(s string) bool { return strings.HasPrefix(l.text[l.pos:], s) }

// wordStarts tells whether a word may begin at pos.
func (l *line) wordStarts() bool {
	return l.pos == 0 || strings.IndexByte(" \t\n;&|()<>", l.text[l.pos-1]) >= 0
}

// flush makes a segment of the text since the last one.
func (l *line) flush() {
	if l.start < l.pos {
		l.out = append(l.out, segment{text: l.text[l.start:l.pos]})
	}
	l.start = l.pos
}
