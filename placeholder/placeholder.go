package placeholder

import (
	"fmt"
	"slices"
	"strings"

	"github.com/navvy-run/navvy"
)

// Options say how a command is to be read.
type Options struct {
	// Shell says that the command is one line for /bin/sh.
	Shell bool
	// Columns names the fields of each input. Defaults to none.
	Columns []string
	// Fields is how many fields each input has; with Columns it need not be
	// said. Defaults to 0: not known, or not always the same.
	Fields int
	// Stdin says that tasks read their input, so that it is not appended to
	// a command without a placeholder.
	Stdin bool
}

// Values is what one task puts into the command.
type Values struct {
	Fields []string // of the input, as navvy.InputFormat.Fields gives them
	Seq    int64    // the task's number, from 1
	Slot   int      // from 1
}

// Template is a command, understood. It does not change and may be used by any
// number of goroutines at once.
type Template struct {
	args    [][]segment // in shell form: the one line
	names   bool        // a placeholder stands for something of the input
	appends bool        // the input is appended

	// In shell form: the line with variables in place of placeholders, and
	// what the variables stand for.
	shell  bool
	script string
	vars   []ref
}

func newTemplate(args [][]segment, stdin bool) *Template {
	t := &Template{args: args}
	holes := false
	for _, arg := range args {
		holes = holes || slices.ContainsFunc(arg, func(s segment) bool { return s.ref.source != 0 })
		t.names = t.names || slices.ContainsFunc(arg, func(s segment) bool { return s.ref.isInput() })
	}
	t.appends = !stdin && !holes
	return t
}

// segment is a piece of an argument or of a shell line: a text or a placeholder.
type segment struct {
	text   string
	ref    ref // if text is empty
	quotes quotes
}

// Parse reads a command: a program and its arguments, or with o.Shell one shell
// line. The error wraps navvy.ErrInvalid and says which placeholder is wrong and
// why. What o.Fields says makes more errors visible and changes nothing else.
func Parse(args []string, o Options) (*Template, error) {
	if len(args) == 0 || args[0] == "" {
		return nil, fmt.Errorf("the command is empty: %w", navvy.ErrInvalid)
	}
	if o.Shell && len(args) != 1 {
		return nil, fmt.Errorf("a shell command is one line, not %d arguments: %w", len(args), navvy.ErrInvalid)
	}
	names := newNames(&o)
	if o.Shell {
		return parseLine(args[0], names, o.Stdin)
	}
	split := make([][]segment, len(args))
	for i, arg := range args {
		var err error
		if split[i], err = cut(arg, &names); err != nil {
			return nil, err
		}
	}
	return newTemplate(split, o.Stdin), nil
}

// cut divides an argument into texts and placeholders.
func cut(arg string, n *names) ([]segment, error) {
	var all []segment
	start := 0
	for i := 0; i < len(arg); {
		brace := strings.IndexByte(arg[i:], '{')
		if brace < 0 {
			break
		}
		i += brace
		r, size, err := n.at(arg[i:])
		if err != nil {
			return nil, err
		}
		if size == 0 {
			i++
			continue
		}
		if i > start {
			all = append(all, segment{text: arg[start:i]})
		}
		all = append(all, segment{ref: r})
		i += size
		start = i
	}
	if start < len(arg) || len(all) == 0 {
		all = append(all, segment{text: arg[start:]})
	}
	return all, nil
}

// UsesInput tells whether the command depends on the input: by a placeholder, or
// because the input is appended.
func (t *Template) UsesInput() bool { return t.appends || t.names }

// Render appends to dst the program and the arguments of one task, ready to be
// executed: in shell form those of /bin/sh. The error wraps navvy.ErrInvalid: a
// value holds a zero byte, which no process can be given.
func (t *Template) Render(dst []string, v Values) ([]string, error) {
	if t.UsesInput() {
		for i, field := range v.Fields {
			if strings.IndexByte(field, 0) >= 0 {
				return dst, fmt.Errorf("field %d of the input holds a zero byte, which no process can be given: %w", i+1, navvy.ErrInvalid)
			}
		}
	}
	if t.shell {
		dst = append(dst, "/bin/sh", "-c", t.script)
		if t.appends || len(t.vars) > 0 {
			dst = append(dst, "sh") // what the shell calls itself
		}
		for _, r := range t.vars {
			dst = append(dst, r.string(&v))
		}
	} else {
		for _, arg := range t.args {
			dst = append(dst, join(arg, &v))
		}
	}
	if t.appends {
		dst = append(dst, v.Fields...)
	}
	return dst, nil
}

// join puts an argument together. Only one that mixes texts and placeholders, or
// holds a number, is allocated.
func join(arg []segment, v *Values) string {
	if len(arg) == 1 {
		if arg[0].ref.source == 0 {
			return arg[0].text
		}
		return arg[0].ref.string(v)
	}
	var room [256]byte
	b := room[:0]
	for _, s := range arg {
		if s.ref.source == 0 {
			b = append(b, s.text...)
		} else {
			b = s.ref.append(b, v)
		}
	}
	return string(b)
}
