package engine

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/navvy-run/navvy"
)

// frame is one of Docker's.
func frame(stream byte, text string) string {
	header := []byte{stream, 0, 0, 0}
	return string(binary.BigEndian.AppendUint32(header, uint32(len(text)))) + text
}

func TestFrames(t *testing.T) {
	t.Parallel()
	const at = "2026-01-02T03:04:05.000000006Z "
	long := strings.Repeat("x", 3*flushAt)
	whole := frame(1, at+"one\n") + frame(2, at+"an error") + frame(1, at+"") + frame(1, at+long)
	for name, reader := range map[string]func(io.Reader) io.Reader{"at once": func(r io.Reader) io.Reader { return r }, "bytes": iotest.OneByteReader} {
		var out, err bytes.Buffer
		last, failure := frames(reader(strings.NewReader(whole)), &out, &err)
		if failure != nil || out.String() != "one\n"+long || err.String() != "an error" {
			t.Errorf("%s: %d and %q, %v", name, out.Len(), err.String(), failure)
		}
		tail, failure := frames(strings.NewReader(frame(1, at+long)), io.Discard, io.Discard)
		if failure != nil || tail != last {
			t.Errorf("%s: the last frame is %x, and alone %x, %v", name, last, tail, failure)
		}
		if other, _ := frames(strings.NewReader(frame(2, at+long)), io.Discard, io.Discard); other == last {
			t.Error("a frame of the other stream is the same")
		}
	}
	for text, want := range map[string]error{
		whole[:len(whole)-1]: io.ErrUnexpectedEOF, whole[:5]: io.ErrUnexpectedEOF,
		frame(3, at): navvy.ErrCorrupt, frame(1, "notime"): navvy.ErrCorrupt, "HTTP/1.1 400 what": navvy.ErrCorrupt,
	} {
		if _, err := frames(strings.NewReader(text), io.Discard, io.Discard); !errors.Is(err, want) {
			t.Errorf("%.20q: %v, want %v", text, err, want)
		}
	}
}

func FuzzFrames(f *testing.F) {
	f.Add([]byte(frame(1, "2026-01-02T03:04:05.000000006Z one\n") + frame(2, "t two")))
	f.Add([]byte{1, 0, 0, 0, 255, 255, 255, 255, ' '})
	f.Fuzz(func(t *testing.T, text []byte) {
		var out bytes.Buffer
		if _, err := frames(bytes.NewReader(text), &out, &out); out.Len() > len(text) {
			t.Errorf("%d bytes become %d, %v", len(text), out.Len(), err)
		}
	})
}

func TestLines(t *testing.T) {
	t.Parallel()
	const text = "2016-10-06T00:17:09.669794202Z stdout P one \n2016-10-06T00:17:09.669794203Z stdout F line\n" +
		"2016-10-06T00:17:09.7Z stderr F \n2016-10-06T00:17:10Z stderr P:x an end"
	for size := 1; size <= len(text)+1; size++ {
		var out, err bytes.Buffer
		r := &lineReader{to: [2]io.Writer{&out, &err}}
		for i := 0; i < len(text)+1; i += size {
			if _, err := r.Write([]byte((text + "\n")[i:min(i+size, len(text)+1)])); err != nil {
				t.Fatal(err)
			}
		}
		if r.end() != nil || out.String() != "one line\n" || err.String() != "\nan end" {
			t.Fatalf("in pieces of %d: %q and %q, %v", size, out.String(), err.String(), r.end())
		}
	}
	r := &lineReader{to: [2]io.Writer{io.Discard, io.Discard}}
	if _, err := r.Write([]byte(text)); err != nil || !errors.Is(r.end(), io.ErrUnexpectedEOF) {
		t.Errorf("half a line: %v, %v", err, r.end())
	}
	for _, text := range []string{"no line\n", "t stdin F x\n", strings.Repeat("x", longestLine+1)} {
		if _, err := (&lineReader{}).Write([]byte(text)); !errors.Is(err, navvy.ErrCorrupt) {
			t.Errorf("%.20q: %v", text, err)
		}
	}
}

func FuzzLines(f *testing.F) {
	f.Add([]byte("2016-10-06T00:17:09.669794202Z stdout F x\nt stderr P y\n"), 3)
	f.Fuzz(func(t *testing.T, text []byte, size int) {
		var once, pieces bytes.Buffer
		a, b := &lineReader{to: [2]io.Writer{&once, &once}}, &lineReader{to: [2]io.Writer{&pieces, &pieces}}
		_, whole := a.Write(text)
		for rest := text; len(rest) > 0 && whole == nil; {
			n := min(max(size, 1), len(rest))
			if _, err := b.Write(rest[:n]); err != nil {
				t.Fatalf("in pieces of %d: %v", n, err)
			}
			rest = rest[n:]
		}
		if whole == nil && once.Len() != pieces.Len() {
			t.Errorf("%d bytes at once, %d in pieces", once.Len(), pieces.Len())
		}
	})
}

// What was passed on is not passed on again, however often the log is read from its beginning.
func TestFollow(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	stdout, stderr := &outlet{to: &out}, &outlet{}
	reads := []struct {
		text  string
		whole bool
		err   error
	}{{"", false, io.ErrUnexpectedEOF}, {"abc", false, nil}, {"ab", false, io.ErrUnexpectedEOF}, {"abcdef", true, nil}}
	over := make(chan struct{})
	close(over)
	err := follow(context.Background(), over, stdout, stderr, func() (bool, error) {
		r := reads[0]
		reads = reads[1:]
		_, _ = io.WriteString(stdout, r.text)
		_, _ = io.WriteString(stderr, r.text)
		return r.whole, r.err
	})
	if err != nil || out.String() != "abcdef" || len(reads) != 0 {
		t.Errorf("it wrote %q, %v", out.String(), err)
	}
	if err := follow(context.Background(), over, stdout, stderr, func() (bool, error) { return false, errGone }); !errors.Is(err, errGone) {
		t.Errorf("of a log that is gone: %v", err)
	}
}

func TestOutcome(t *testing.T) {
	t.Parallel()
	for code, want := range map[int]navvy.Exit{0: {}, 3: {Code: 3}, 128: {Code: 128}, 137: {Signal: 9}, 192: {Signal: 64}, 193: {Code: 193}, 255: {Code: 255}} {
		if got := exited(&state{code: code}); got.Exit != want || got.Usage.OOMKills != 0 {
			t.Errorf("code %d is %+v", code, got)
		}
	}
	if got := exited(&state{oom: true}); got.Usage.OOMKills != 0 {
		t.Error("what succeeded has not died")
	}
	for words, want := range map[string]navvy.Reason{
		`exec: "x": executable file not found in $PATH`: navvy.ReasonNotFound, `stat /nope: no such file or directory`: navvy.ReasonNotFound,
		`exec: "/etc/passwd": permission denied`: navvy.ReasonPermission, "cannot set memory limit": navvy.ReasonStart,
	} {
		if got := startReason(words); got != want {
			t.Errorf("%q is %s", words, got)
		}
	}
}
