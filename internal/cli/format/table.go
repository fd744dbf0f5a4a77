package format

import (
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Table writes rows of cells below a header, if there is one, each column as wide
// as its widest cell, two spaces between columns. What a terminal would obey is written as an
// escape, so that a name cannot steer it. It keeps all rows in memory: give it a
// page at a time. Rows may be shorter than the header. The error is the writer's.
func Table(w io.Writer, header []string, rows [][]string) error {
	all := make([][]string, 0, len(rows)+1)
	var widths []int
	if header != nil {
		rows = slices.Insert(slices.Clone(rows), 0, header)
	}
	for _, row := range rows {
		cells := make([]string, len(row))
		if header != nil {
			cells = cells[:min(len(row), len(header))]
		}
		for i := range cells {
			cells[i] = Printable(row[i])
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cells[i]))
		}
		all = append(all, cells)
	}
	var b strings.Builder
	for _, cells := range all {
		var line strings.Builder
		for i, cell := range cells {
			line.WriteString(cell)
			if i < len(cells)-1 {
				line.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+2))
			}
		}
		b.WriteString(strings.TrimRight(line.String(), " "))
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Printable is s with control characters, and bytes that are not UTF-8, as Go
// escapes. Other characters stay as they are.
func Printable(s string) string {
	if utf8.ValidString(s) && !strings.ContainsFunc(s, unprintable) {
		return s
	}
	var b strings.Builder
	for i, r := range s {
		_, size := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && size == 1 || unprintable(r) {
			quoted := strconv.Quote(s[i : i+size])
			b.WriteString(quoted[1 : len(quoted)-1])
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

// PrintableLines is Printable of each line of s, of which tabs stay as well.
func PrintableLines(s string) string {
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		parts := strings.Split(line, "\t")
		for j, part := range parts {
			parts[j] = Printable(part)
		}
		lines[i] = strings.Join(parts, "\t")
	}
	return strings.Join(lines, "\n")
}

func unprintable(r rune) bool { return !unicode.IsPrint(r) }
