package placeholder

import "strings"

// Preview is one task's command as a person would write it in a shell, quoted so
// that it could be pasted there.
func (t *Template) Preview(v Values) string {
	var b strings.Builder
	for i, arg := range t.args {
		if t.shell {
			t.previewLine(&b, &v)
			break
		}
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(Quote(join(arg, &v)))
	}
	if t.appends {
		for _, field := range v.Fields {
			b.WriteByte(' ')
			b.WriteString(Quote(field))
		}
	}
	return b.String()
}

// previewLine writes the shell line with values in place of the placeholders.
func (t *Template) previewLine(b *strings.Builder, v *Values) {
	for i, s := range t.args[0] {
		switch {
		case s.ref.source == 0 && t.appends && i == len(t.args[0])-1:
			b.WriteString(strings.TrimRight(s.text, " \t\n"))
		case s.ref.source == 0:
			b.WriteString(s.text)
		case s.quotes == double:
			b.WriteString(doubleEscaper.Replace(s.ref.string(v)))
		case s.quotes == single:
			b.WriteString(singleEscaper.Replace(s.ref.string(v)))
		default:
			b.WriteString(Quote(s.ref.string(v)))
		}
	}
}

var (
	doubleEscaper = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "$", `\$`, "`", "\\`")
	singleEscaper = strings.NewReplacer("'", `'\''`)
)

// Quote writes s as one word of a shell line: as it is, if nothing in it means
// anything to a shell, else in single quotes.
func Quote(s string) string {
	if s == "" || strings.ContainsFunc(s, special) {
		return "'" + singleEscaper.Replace(s) + "'"
	}
	return s
}

// special tells whether a character may mean something to a shell.
func special(r rune) bool {
	switch {
	case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
		return false
	default:
		return !strings.ContainsRune("_@%+=:,./-", r)
	}
}
