package placeholder

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/navvy-run/navvy"
)

// script makes the shell script of a line and lists what its variables stand
// for. The script gets the values as its arguments, in that order, then, if they
// are appended, the fields of the input. Variables, not $1 and so on, since
// functions and set have their own; not the environment, since what the line
// starts need not see them.
func script(segments []segment, appends bool) (string, []ref) {
	var vars []ref
	var body strings.Builder
	for _, s := range segments {
		if s.ref.source == 0 {
			body.WriteString(s.text)
			continue
		}
		i := slices.Index(vars, s.ref)
		if i < 0 {
			i = len(vars)
			vars = append(vars, s.ref)
		}
		value := "${" + variable + strconv.Itoa(i+1) + "}"
		switch s.quotes {
		case double:
			body.WriteString(value)
		case single:
			body.WriteString(`'"` + value + `"'`)
		default:
			body.WriteString(`"` + value + `"`)
		}
	}
	line := body.String()
	if appends {
		line = strings.TrimRight(line, " \t\n") + ` "$@"`
	}
	if len(vars) == 0 {
		return line, nil
	}
	var head strings.Builder
	for i := range vars {
		fmt.Fprintf(&head, "%s%d=${%d} ", variable, i+1, i+1)
	}
	return fmt.Sprintf("%s; shift %d; %s", strings.TrimSuffix(head.String(), " "), len(vars), line), vars
}

// assignments matches the end of a line whose last command is nothing but
// variables being set.
var assignments = regexp.MustCompile(`(^|[;&|(){}\n])\s*([A-Za-z_][A-Za-z0-9_]*=\S*\s*)+$`)

// canAppend tells whether what is appended to the line becomes arguments of its
// last command. Otherwise it could become a command itself, which no input may.
func (l *line) canAppend() error {
	trimmed := strings.TrimRight(l.text, " \t\n")
	if l.refuse == "" && !l.comment && strings.TrimRight(trimmed, `;&|<>!\`) == trimmed && trimmed != "" && !assignments.MatchString(trimmed) {
		return nil
	}
	return fmt.Errorf("the input cannot be appended to a shell line with this end; write {} where it belongs: %w", navvy.ErrInvalid)
}

// shells are the programs whose option -c takes a script.
var shells = []string{"sh", "ash", "bash", "dash", "ksh", "mksh", "zsh"}

// nested matches a shell line up to a place within the script of a second shell.
var nested = regexp.MustCompile(`(^|[\s;&|(/])(a|ba|da|k|mk|z)?sh\s+([-+]\S+\s+(\w+\s+)?)*-\w*c\s+('[^']*|"[^"]*|[^\s'"]*)$`)

// InScript tells whether a placeholder for the input seems to stand in the
// script of a "sh -c", where that shell would execute what the input holds.
// Whoever wrote that among arguments wants Options.Shell; whoever wrote it in a
// shell line wants to do without the second shell.
func (t *Template) InScript() bool {
	if t.shell {
		return t.inNested()
	}
	for i, arg := range t.args {
		if len(arg) != 1 || !slices.Contains(shells, path.Base(arg[0].text)) {
			continue
		}
		if script := scriptOf(t.args[i+1:]); slices.ContainsFunc(script, func(s segment) bool { return s.ref.isInput() }) {
			return true
		}
	}
	return false
}

func (t *Template) inNested() bool {
	var before strings.Builder
	for _, s := range t.args[0] {
		if s.ref.isInput() && nested.MatchString(before.String()) {
			return true
		}
		before.WriteString(s.text)
	}
	return false
}

// scriptOf finds the script among a shell's arguments; nil if there is none.
func scriptOf(args [][]segment) []segment {
	command := false
	for i := 0; i < len(args); i++ {
		option := args[i][0].text
		switch {
		case !strings.HasPrefix(option, "-") && !strings.HasPrefix(option, "+"):
			if command {
				return args[i]
			}
			return nil
		case strings.HasPrefix(option, "--"): // a long option of bash or zsh
		default:
			command = command || strings.HasPrefix(option, "-") && strings.Contains(option, "c")
			if strings.HasSuffix(option, "o") || strings.HasSuffix(option, "O") {
				i++ // the name of what is switched
			}
		}
	}
	return nil
}
