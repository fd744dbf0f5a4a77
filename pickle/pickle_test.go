package pickle

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/navvy-run/navvy"
)

// Each is a pickle, as Python or a hand writes it.
var good = map[string]string{
	"none":                "\x80\x02N.",
	"protocol 3":          "\x80\x03N.",
	"a frame":             "\x80\x04\x95\x04\x00\x00\x00\x00\x00\x00\x00\x8c\x01a.",
	"args and kwargs":     "\x80\x04K\x02\x85\x94}\x94\x86\x94.",
	"a list":              "\x80\x02]q\x00(K\x01K\x02e.",
	"a memo":              "\x80\x02]q\x00h\x00\x86.",
	"an exception":        "\x80\x02cbuiltins\nRuntimeError\nX\x03\x00\x00\x00bad\x85R.",
	"text arguments":      "\x80\x02(I01\nL-5L\nF1e5\nS'a'\nVb\\u00e4\np0\nt.",
	"a pop of a mark":     "\x80\x02N(0.",
	"surrogates":          "\x80\x02X\x03\x00\x00\x00\xed\xb2\x80.",
	"an instance":         "\x80\x02(K\x01iposixpath\njoin\n.",
	"an old object":       "\x80\x02(NK\x01o.",
	"a duplicate":         "\x80\x02N2\x86.",
	"bytes of 8":          "\x80\x05\x96\x02\x00\x00\x00\x00\x00\x00\x00ab.",
	"a buffer of nobody":  "\x80\x05\x97\x98.",
	"a place in the memo": "\x80\x02(K\x01r\x00\x00\x00\x00j\x00\x00\x00\x00t.",
}

func TestValidate(t *testing.T) {
	t.Parallel()
	for name, text := range good {
		if err := Validate([]byte(text)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What is none is refused, and it is said where.
func TestRefused(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, text, want string }{
		{"nothing", "", "no pickle"},
		{"text", "payload", "begins with its protocol"},
		{"protocol 0", "I1\n.", "begins with its protocol"},
		{"protocol 1", "\x80\x01N.", "protocol 1"},
		{"a protocol to come", "\x80\x06N.", "protocol 6"},
		{"no object", "\x80\x04.", "takes more"},
		{"two objects", "\x80\x04NN.", "more than one"},
		{"an open mark", "\x80\x04(N.", "more than one"},
		{"no end", "\x80\x04N", "the bytes end"},
		{"more behind the end", "\x80\x04N.N", "1 bytes behind"},
		{"another pickle behind it", "\x80\x04N.\x80\x04N.", "behind its end"},
		{"no opcode", "\x80\x04\xffN.", "at byte 2 of 5: there is no such opcode"},
		{"a second protocol", "\x80\x04N\x80\x04.", "no such opcode"},
		{"a short argument", "\x80\x04J\x00\x00.", "the bytes end"},
		{"a length beyond the end", "\x80\x04X\xff\xff\xff\xffa.", "the bytes end"},
		{"a length beyond all", "\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\xffa.", "the bytes end"},
		{"a length below nothing", "\x80\x04T\xff\xff\xff\xffa.", "not of the opcode's kind"},
		{"a frame beyond the end", "\x80\x04\x95\xff\x00\x00\x00\x00\x00\x00\x00N.", "the bytes end"},
		{"no UTF-8", "\x80\x04\x8c\x01\xff.", "not of the opcode's kind"},
		{"half a surrogate", "\x80\x04\x8c\x02\xed\xa0.", "not of the opcode's kind"},
		{"no mark", "\x80\x04Nt.", "a mark that is not there"},
		{"nothing to pop", "\x80\x04N00.", "a mark that is not there"},
		{"across a mark", "\x80\x04N(\x85.", "takes more"},
		{"an object without a class", "\x80\x04(o.", "takes more"},
		{"an unknown place", "\x80\x04h\x00.", "no such place"},
		{"a place that takes all memory", "\x80\x04Nr\xff\xff\xff\xff.", "no such place"},
		{"a line without an end", "\x80\x02cos", "the bytes end"},
		{"half a global", "\x80\x02cos\nsystem", "the bytes end"},
		{"a number in letters", "\x80\x02Iten\n.", "not of the opcode's kind"},
		{"a string without quotes", "\x80\x02Sa\n.", "not of the opcode's kind"},
		{"half an escape", "\x80\x02V\\u00\n.", "not of the opcode's kind"},
	} {
		err := Validate([]byte(tt.text))
		if !errors.Is(err, navvy.ErrInvalid) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

// A pickle that nests as nobody nests is refused, and what is long takes the time that
// its length asks for.
func TestBounds(t *testing.T) {
	t.Parallel()
	deep := "\x80\x04" + strings.Repeat("(", maxMarks+1) + strings.Repeat("t", maxMarks+1) + "."
	if err := Validate([]byte(deep)); !errors.Is(err, navvy.ErrInvalid) {
		t.Errorf("%d marks: %v", maxMarks+1, err)
	}
	begun := time.Now()
	for _, part := range []string{"N0", "I1\n0", "X\x03\x00\x00\x00\xed\x95\x9c0", "X\x03\x00\x00\x00\xed\xa0\x800", "(0", "\x8c\x000"} {
		long := "\x80\x04" + strings.Repeat(part, 1<<20/len(part)) + "N."
		if err := Validate([]byte(long)); err != nil {
			t.Errorf("%q again and again: %v", part, err)
		}
	}
	hangul := strings.Repeat("\xed\x95\x9c", 1<<18) + "\xed\xa0\x80"
	if !validText([]byte(hangul)) {
		t.Error("a surrogate behind a long text")
	}
	if took := time.Since(begun); took > time.Minute {
		t.Errorf("it took %v", took)
	}
}

func FuzzValidate(f *testing.F) {
	for _, text := range good {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		err := Validate(b)
		if err != nil && !errors.Is(err, navvy.ErrInvalid) {
			t.Error(err)
		}
		if err != nil {
			return
		}
		// An end is where it is, and nowhere else.
		if Validate(b[:len(b)-1]) == nil || Validate(append(slices.Clip(b), '.')) == nil {
			t.Errorf("%q has two ends", b)
		}
	})
}

func BenchmarkValidate(b *testing.B) {
	text := []byte("\x80\x04" + strings.Repeat("\x8c\x05value\x94K\x07\x86\x940", 1000) + "N.")
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if err := Validate(text); err != nil {
			b.Fatal(err)
		}
	}
}
