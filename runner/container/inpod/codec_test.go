package inpod

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/navvy-run/navvy"
)

// A load is what was packed, whatever bytes are in it, and its arguments fit.
func TestLoad(t *testing.T) {
	t.Parallel()
	noise := make([]byte, MaxSize-100)
	random := rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(noise)
	for _, want := range []*Load{
		{},
		{Timeout: time.Second, Grace: time.Minute, Tasks: []Task{{Index: 7, Argv: []string{"a", "", "\xff$(A) ü"}, Env: []string{"A=1"}}, {Index: -1, Argv: []string{"b"}}}},
		{Tasks: []Task{{Argv: []string{"x", string(noise)}}}},
	} {
		pieces, err := want.Pack()
		if err != nil {
			t.Fatal(err)
		}
		total := 0
		for _, piece := range pieces {
			total += len(piece)
			if len(piece) > maxPiece || strings.ContainsAny(piece, "$ \n") {
				t.Errorf("a piece of %d bytes: %.50s", len(piece), piece)
			}
		}
		if total > 530<<10 {
			t.Errorf("%d bytes in all", total)
		}
		got, err := Unpack(pieces)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%v; %.300s", err, diff)
		}
		if len(pieces) > 0 && len(want.Tasks) > 0 {
			pieces[0] = pieces[0][:len(pieces[0])/2]
			if _, err := Unpack(pieces); !errors.Is(err, navvy.ErrCorrupt) {
				t.Errorf("half of it is %v", err)
			}
		}
	}
}

func FuzzUnpack(f *testing.F) {
	pieces, err := (&Load{Timeout: 1, Tasks: []Task{{Argv: []string{"a", "b"}, Env: []string{"c=d"}}}}).Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(pieces[0])
	f.Add("1")
	f.Add("2abc")
	f.Fuzz(func(t *testing.T, text string) {
		l, err := Unpack([]string{text})
		if err != nil {
			if !errors.Is(err, navvy.ErrCorrupt) {
				t.Errorf("the error is %v", err)
			}
			return
		}
		again, err := l.Pack()
		if err != nil {
			t.Fatal(err)
		}
		same, err := Unpack(again)
		if diff := cmp.Diff(l, same); err != nil || diff != "" {
			t.Errorf("%v; %s", err, diff)
		}
	})
}

// decoded is what a reader makes of bytes that come in pieces of n.
func decoded(text []byte, n int) (frames []Frame, others [][]byte) {
	r := &Reader{
		Frame: func(f Frame) { frames = append(frames, f) },
		Other: func(line []byte) { others = append(others, bytes.Clone(line)) },
	}
	for len(text) > 0 {
		n := min(n, len(text))
		_, _ = r.Write(text[:n])
		text = text[n:]
	}
	return frames, others
}

// Frames arrive as they were written, whatever is between them; damaged ones don't.
func TestFrames(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	w := NewWriter(&b)
	data := bytes.Repeat([]byte("\x00\xff\n "), maxData/4)
	noise := make([]byte, maxData)
	_, _ = rand.NewChaCha8([32]byte{2}).Read(noise)
	want := []Frame{
		{Kind: KindBegin, Index: 3},
		{Kind: KindStdout, Seq: 1, Index: 3, Data: data},
		{Kind: KindStderr, Seq: 2, Index: 1 << 60, Data: []byte("x")},
		{Kind: KindStdout, Seq: 3, Data: noise},
		{Kind: KindDone, Seq: 4},
	}
	for i, f := range want {
		if i == 2 {
			b.WriteString("panic: somebody else\n")
		}
		if err := w.Write(f.Kind, f.Index, f.Data); err != nil {
			t.Fatal(err)
		}
	}
	b.WriteString(strings.Repeat("long", MaxLine) + "\n")
	if line := b.Bytes()[:bytes.LastIndexByte(b.Bytes(), '\n')]; len(line) == 0 {
		t.Fatal("nothing was written")
	}
	for _, n := range []int{1, 7, 1 << 20} {
		frames, others := decoded(b.Bytes(), n)
		if diff := cmp.Diff(want, frames); diff != "" {
			t.Errorf("in pieces of %d: %.300s", n, diff)
		}
		if len(others) != 2 || string(others[0]) != "panic: somebody else" || len(others[1]) != MaxLine {
			t.Errorf("in pieces of %d there are %d other lines", n, len(others))
		}
	}
	for line := range bytes.SplitSeq(b.Bytes(), []byte("\n")) {
		if len(line) > 16<<10 && !bytes.HasPrefix(line, []byte("long")) {
			t.Errorf("a line has %d bytes", len(line))
		}
		for at := range min(len(line), 40) {
			bad := bytes.Clone(line)
			bad[at] ^= 4
			if f, ok := Parse(bad); ok {
				t.Errorf("damaged at %d it is %+v", at, f)
			}
		}
	}
}

func FuzzFrames(f *testing.F) {
	var b bytes.Buffer
	w := NewWriter(&b)
	_ = w.Write(KindStdout, 1, []byte("hello"))
	_ = w.End(1, &End{Code: 3})
	f.Add(b.Bytes())
	f.Add([]byte("navvy1 o 0 0 - 00000000\n\nnavvy1"))
	f.Fuzz(func(t *testing.T, text []byte) {
		frames, others := decoded(text, 1+len(text)/3)
		if n := bytes.Count(text, []byte("\n")); len(frames)+len(others) != n {
			t.Errorf("%d lines are %d frames and %d others", n, len(frames), len(others))
		}
		for _, frame := range frames {
			if frame.Kind == KindEnd {
				_, _ = ParseEnd(frame.Data)
			}
		}
	})
}

func TestParent(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{"12 (a) b) c) S 7 1 1": 7, "1 (init) R 0 1": 0, "": 0, "junk)": 0} {
		if got := parent([]byte(text)); got != want {
			t.Errorf("the parent in %q is %d", text, got)
		}
	}
}

func TestKilledIn(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{
		"low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n": 2,
		"oom_kill_disable 0\nunder_oom 0\noom_kill 1\n":                1,
		"": 0,
	} {
		if got := killedIn([]byte(text)); got != want {
			t.Errorf("%q says %d", text, got)
		}
	}
}
