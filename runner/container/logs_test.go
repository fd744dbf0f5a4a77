package container

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// logLine is a line as a node keeps it.
type logLine struct {
	at   time.Time
	text string
}

// serve is what a node sends of the lines at and after a second.
func serve(lines []logLine, since time.Time) string {
	var b strings.Builder
	for _, l := range lines {
		if !l.at.Before(since.Truncate(time.Second)) {
			fmt.Fprintf(&b, "%s %s", l.at.Format(time.RFC3339Nano), l.text)
		}
	}
	return b.String()
}

// Wherever streams break, however often, and whatever the times of the lines: what comes is
// what was written, once.
func TestFollowAnyCuts(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		var lines []logLine
		var want strings.Builder
		for range rapid.IntRange(0, 30).Draw(t, "lines") {
			at = at.Add(rapid.SampledFrom([]time.Duration{0, 0, 1, time.Millisecond, 700 * time.Millisecond, 3 * time.Second}).Draw(t, "later"))
			text := rapid.StringMatching(`[a-z 0-9]{0,40}`).Draw(t, "text") + "\n"
			lines = append(lines, logLine{at, text})
			want.WriteString(text)
		}
		var got bytes.Buffer
		f := &follower{to: &got}
		for range rapid.IntRange(0, 12).Draw(t, "cuts") {
			stream := serve(lines, f.base)
			cut := rapid.IntRange(0, len(stream)).Draw(t, "cut")
			_, _ = f.copy(io.MultiReader(strings.NewReader(stream[:cut]), failing{}))
			if !strings.HasPrefix(want.String(), got.String()) {
				t.Fatalf("%q is no beginning of %q", got.String(), want.String())
			}
		}
		over := make(chan struct{})
		close(over)
		err := f.follow(context.Background(), func(_ context.Context, since time.Time, _ bool) (io.ReadCloser, error) {
			return io.NopCloser(strings.NewReader(serve(lines, since))), nil
		}, over)
		if err != nil || got.String() != want.String() {
			t.Fatalf("%q, %v, want %q", got.String(), err, want.String())
		}
	})
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("cut") }

// FuzzCopy reads what no node should send: nothing panics, and nothing comes that was not sent.
func FuzzCopy(f *testing.F) {
	f.Add([]byte("2026-01-01T00:00:00.000000001Z a\n2026-01-01T00:00:00.000000001Z b"))
	f.Add([]byte("no time\n"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		var got bytes.Buffer
		n, _ := (&follower{to: &got}).copy(bytes.NewReader(stream))
		if int(n) != got.Len() || got.Len() > len(stream) {
			t.Errorf("%d bytes of %d, told as %d", got.Len(), len(stream), n)
		}
	})
}
