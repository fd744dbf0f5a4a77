package placeholder

import "strings"

// part says which part of a value, seen as a path, a placeholder stands for.
type part uint8

const (
	whole part = iota
	noExtension
	base
	dir
	baseNoExtension
)

// parts are the parts by the end of the placeholder, the longest first.
var parts = []struct {
	suffix string
	part   part
}{
	{"//", dir},
	{"/.", baseNoExtension},
	{"/", base},
	{".", noExtension},
	{"", whole},
}

// of takes the part from a value. It allocates nothing.
func (p part) of(value string) string {
	switch p {
	case noExtension:
		return withoutExtension(value)
	case base:
		return baseName(value)
	case dir:
		return dirName(value)
	case baseNoExtension:
		return withoutExtension(baseName(value))
	default:
		return value
	}
}

// withoutExtension cuts the last element's text from its last dot on. A name
// that only begins with a dot is all extension.
func withoutExtension(path string) string {
	if i := strings.LastIndexAny(path, "./"); i >= 0 && path[i] == '.' {
		return path[:i]
	}
	return path
}

// baseName is what follows the last slash: nothing, if the path ends in one.
func baseName(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

// dirName is what dirname(1) prints.
func dirName(path string) string {
	trimmed := strings.TrimRight(path, "/")
	if trimmed == "" && path != "" {
		return "/"
	}
	i := strings.LastIndexByte(trimmed, '/')
	if i < 0 {
		return "."
	}
	if folder := strings.TrimRight(trimmed[:i], "/"); folder != "" {
		return folder
	}
	return "/"
}
