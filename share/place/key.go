package place

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Own is the first part of no key: directories keep it for themselves.
const Own = ".navvy"

// Bounds of keys: those of S3 for the whole, and of Linux for a part.
const (
	MaxKey  = 1024 // bytes
	MaxPart = 255
)

// CheckKey refuses what cannot name a file in every kind of share. A key is one part or
// more with slashes between them, in UTF-8, without control characters; no part is empty,
// "." or "..", or ends with a dot, which Azure drops. The first is not ".navvy", which
// directories keep for themselves. The error wraps navvy.ErrInvalid.
func CheckKey(key string) error {
	switch {
	case key == "":
		return invalid("the name of the file is missing")
	case len(key) > MaxKey:
		return invalid("the name %.40q… has more than %d bytes", key, MaxKey)
	case !utf8.ValidString(key):
		return invalid("the name %q is no UTF-8", key)
	case strings.ContainsFunc(key, unicode.IsControl):
		return invalid("the name %q has a control character", key)
	case strings.HasPrefix(key, "/"):
		return invalid("the name %q begins with a slash: names are relative to their share", key)
	case strings.Contains(key, "__0x"):
		return invalid("the name %q has __0x in it, by which some stores write what they cannot", key)
	}
	first := true
	for part := range strings.SplitSeq(key, "/") {
		switch {
		case part == "":
			return invalid("the name %q has a slash too many", key)
		case strings.HasSuffix(part, "."):
			return invalid("the name %q has a part that is, or ends with, a dot", key)
		case len(part) > MaxPart:
			return invalid("the name %.40q… has a part of more than %d bytes", key, MaxPart)
		case first && part == Own:
			return invalid("the name %q is kept for what a share itself has to remember", key)
		}
		first = false
	}
	return nil
}

// IsSHA256 tells whether a text is a SHA-256 as files have it: 64 hexadecimal digits, small.
func IsSHA256(text string) bool {
	return len(text) == 64 && strings.Trim(text, "0123456789abcdef") == ""
}
