package pickle

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"
)

// lines reads an argument of one line or two. It gives the number of argLinePlace.
func (s *scan) lines(a argument) (int64, error) {
	line, err := s.line()
	if err != nil {
		return 0, err
	}
	good, place := false, int64(0)
	switch a {
	case argLineInt:
		good = isInteger(line)
	case argLineLong:
		good = isInteger(strings.TrimSuffix(line, "L"))
	case argLineFloat:
		good = isFloat(line)
	case argLinePlace:
		place, err = strconv.ParseInt(line, 10, 64)
		good = err == nil && place >= 0 && line[0] != '+'
	case argLineQuoted:
		good = isQuoted(line)
	case argLineEscaped:
		good = isEscaped(line)
	case argLines:
		if good = utf8.ValidString(line); !good {
			break
		}
		if line, err = s.line(); err != nil {
			return 0, err
		}
		good = utf8.ValidString(line)
	default:
		good = utf8.ValidString(line)
	}
	if !good {
		return 0, errText
	}
	return place, nil
}

// line reads up to a newline, which it leaves out.
func (s *scan) line() (string, error) {
	end := bytes.IndexByte(s.b[s.at:], '\n')
	if end < 0 {
		return "", errShort
	}
	begin := s.at
	s.at += end + 1
	return string(s.b[begin : begin+end]), nil
}

const digits = "0123456789"

func isInteger(line string) bool {
	rest := strings.TrimLeft(line, "+-")
	return rest != "" && len(line)-len(rest) <= 1 && strings.Trim(rest, digits) == ""
}

func isFloat(line string) bool {
	if strings.Trim(line, digits+"+-.einfaEINFA") != "" {
		return false // Go reads some that Python does not
	}
	_, err := strconv.ParseFloat(line, 64)
	return err == nil || errors.Is(err, strconv.ErrRange)
}

// isQuoted tells whether a line is a string as Python 2 wrote it. What stands between the
// quotes Python looks at.
func isQuoted(line string) bool {
	n := len(line)
	return n >= 2 && (line[0] == '\'' || line[0] == '"') && line[n-1] == line[0]
}

// isEscaped tells whether a line is Unicode in Python's encoding raw-unicode-escape.
func isEscaped(line string) bool {
	for {
		i := strings.IndexByte(line, '\\')
		if i < 0 {
			return true
		}
		line = line[i:]
		run := len(line) - len(strings.TrimLeft(line, `\`))
		line = line[run:]
		if run%2 == 0 || line == "" || line[0] != 'u' && line[0] != 'U' {
			continue // as they are
		}
		size := 4
		if line[0] == 'U' {
			size = 8
		}
		if len(line) <= size {
			return false
		}
		if n, err := strconv.ParseUint(line[1:1+size], 16, 32); err != nil || n > utf8.MaxRune {
			return false
		}
		line = line[1+size:]
	}
}

// validText tells whether b is UTF-8, in which, other than usual, surrogates may stand.
func validText(b []byte) bool {
	if utf8.Valid(b) {
		return true
	}
	for len(b) > 0 {
		r, size := utf8.DecodeRune(b)
		if r == utf8.RuneError && size == 1 {
			if len(b) < 3 || b[0] != 0xed || b[1] < 0xa0 || b[1] > 0xbf || b[2] < 0x80 || b[2] > 0xbf {
				return false
			}
			size = 3
		}
		b = b[size:]
	}
	return true
}
