package cli

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// pieces cuts a text into pieces at random.
func pieces(t *rapid.T, text []byte) [][]byte {
	var list [][]byte
	for len(text) > 0 {
		n := rapid.IntRange(1, len(text)).Draw(t, "piece")
		list = append(list, text[:n])
		text = text[n:]
	}
	return list
}

func texts() *rapid.Generator[[]byte] {
	return rapid.Map(rapid.SliceOfN(rapid.SampledFrom([]byte("ab\n")), 0, 30), func(b []byte) []byte { return b })
}

// A tail is the last lines, however they come.
func TestTailer(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text, keep := texts().Draw(t, "text"), rapid.IntRange(0, 4).Draw(t, "keep")
		lines := bytes.SplitAfter(text, []byte("\n"))
		if len(lines[len(lines)-1]) == 0 {
			lines = lines[:len(lines)-1]
		}
		want := bytes.Join(lines[max(0, len(lines)-keep):], nil)
		var got bytes.Buffer
		tail := &tailer{w: &got, keep: keep}
		for _, p := range pieces(t, text) {
			if n, err := tail.Write(p); n != len(p) || err != nil {
				t.Fatalf("%d, %v", n, err)
			}
		}
		if err := tail.end(); err != nil || !bytes.Equal(got.Bytes(), want) {
			t.Fatalf("%q, %v; want %q", got.Bytes(), err, want)
		}
	})
}

// A tag stands before each line, once, and the last line is closed.
func TestTagger(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := texts().Draw(t, "text")
		var want strings.Builder
		for line := range strings.Lines(string(text)) {
			want.WriteString("x\t" + strings.TrimSuffix(line, "\n") + "\n")
		}
		var got bytes.Buffer
		tag := &tagger{w: &got, tag: "x"}
		for _, p := range pieces(t, text) {
			if n, err := tag.Write(p); n != len(p) || err != nil {
				t.Fatalf("%d, %v", n, err)
			}
		}
		tag.end()
		if got.String() != want.String() {
			t.Fatalf("%q, want %q", got.String(), want.String())
		}
	})
}

// However often the same bytes come again from the start, each is passed on once.
func TestResumed(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := texts().Draw(t, "text")
		var got bytes.Buffer
		r := &resumed{w: &got}
		for range rapid.IntRange(0, 4).Draw(t, "broken connections") {
			for _, p := range pieces(t, text[:rapid.IntRange(0, len(text)).Draw(t, "came")]) {
				if _, err := r.Write(p); err != nil {
					t.Fatal(err)
				}
			}
			r.again()
		}
		for _, p := range pieces(t, text) {
			if n, err := r.Write(p); n != len(p) || err != nil {
				t.Fatalf("%d, %v", n, err)
			}
		}
		if !bytes.Equal(got.Bytes(), text) {
			t.Fatalf("%q, want %q", got.Bytes(), text)
		}
		r.forget()
		if _, err := r.Write([]byte("new")); err != nil || !bytes.HasSuffix(got.Bytes(), []byte("new")) {
			t.Fatalf("%q, %v", got.Bytes(), err)
		}
	})
}

// terminal shows what is written to it, as far as screen needs it: carriage
// returns, line feeds and erasing to the end of the line.
type terminal struct {
	lines []string
	rest  string
	col   int
}

func (m *terminal) Write(p []byte) (int, error) {
	if len(m.lines) == 0 {
		m.lines = []string{""}
	}
	m.rest += string(p)
	for m.rest != "" {
		last := &m.lines[len(m.lines)-1]
		switch c := m.rest[0]; {
		case strings.HasPrefix("\x1b[K", m.rest) && len(m.rest) < 3:
			return len(p), nil // the rest comes
		case strings.HasPrefix(m.rest, "\x1b[K"):
			*last = (*last)[:min(m.col, len(*last))]
			m.rest = m.rest[2:]
		case c == '\r':
			m.col = 0
		case c == '\n':
			m.lines = append(m.lines, "")
			m.col = 0
		default:
			for len(*last) <= m.col {
				*last += " "
			}
			*last = (*last)[:m.col] + string(c) + (*last)[m.col+1:]
			m.col++
		}
		m.rest = m.rest[1:]
	}
	return len(p), nil
}

// Whatever is shown and written in between, what was written stands there as it
// was, and the line of progress below it, if there is one.
func TestScreen(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := &terminal{}
		s := &screen{w: m}
		out, errs := s.above(m), s.above(m)
		var written strings.Builder
		line := ""
		for range rapid.IntRange(0, 20).Draw(t, "steps") {
			switch rapid.IntRange(0, 2).Draw(t, "step") {
			case 0:
				line = rapid.SampledFrom([]string{"", "1/9", "10%  [##....]  2/9", "9/9"}).Draw(t, "line")
				s.show(line)
			case 1:
				p := texts().Draw(t, "out")
				written.Write(p)
				_, _ = out.Write(p)
			case 2:
				p := texts().Draw(t, "err")
				written.Write(p)
				_, _ = errs.Write(p)
			}
			want := written.String()
			if want == "" || strings.HasSuffix(want, "\n") {
				want += line
			}
			if got := strings.Join(m.lines, "\n"); got != want {
				t.Fatalf("the terminal shows\n%s\nwant\n%s", got, want)
			}
		}
	})
}

// A terminal that takes nothing is no reason to lose an answer's error.
func TestScreenErrors(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	s := &screen{w: failing{broken}}
	s.show("10%")
	if n, err := s.above(failing{broken}).Write([]byte("x")); n != 0 || !errors.Is(err, broken) {
		t.Errorf("%d, %v", n, err)
	}
	if n, err := s.above(io.Discard).Write([]byte("x")); n != 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }
