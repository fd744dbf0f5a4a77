package drivertest

import (
	"bytes"
	"testing"

	"github.com/navvy-run/navvy"
)

// everyByte holds each byte once.
func everyByte() string {
	b := make([]byte, 256)
	for i := range b {
		b[i] = byte(i)
	}
	return string(b)
}

func testOutput(t *testing.T, h Harness) {
	d := h.Open(t)
	for name, work := range map[string]Work{
		"nothing":    {},
		"stdout":     {Stdout: "to the one\n"},
		"stderr":     {Stderr: "to the other, without an end of line"},
		"binary one": {Stdout: everyByte()},
		"both":       {Stdout: "one", Stderr: "other"},
		"binary":     {Stdout: everyByte(), Stderr: everyByte()},
		"and fails":  {Stdout: "before", Stderr: "why", Exit: 1},
		"why alone":  {Stderr: "why", Exit: 1},
		"and dies":   {Stdout: "before", Stderr: "why", Signal: 9},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if !d.Capabilities().Output {
				t.Skip("the driver has no output")
			}
			if h.OneStream && work.Stdout != "" && work.Stderr != "" {
				t.Skip("both streams are one")
			}
			if h.Codeless && (work.Exit != 0 || work.Signal != 0) {
				t.Skip("who fails has no output")
			}
			a := start(t, d, h, work)
			a.end(t)
			stdout, stderr := h.streams(work)
			if got := string(a.stdout.bytes()); got != stdout {
				t.Errorf("stdout is %q, want %q", got, stdout)
			}
			if got := string(a.stderr.bytes()); got != stderr {
				t.Errorf("stderr is %q, want %q", got, stderr)
			}
		})
	}
}

func testLongOutput(t *testing.T, h Harness) {
	d := h.Open(t)
	for name, n := range map[string]int{"pipe": 64 << 10, "more": 70_001, "long": 20 << 20} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := Work{Stderr: "begun", Pattern: n}
			if h.OneStream {
				w.Stderr = ""
			}
			a := start(t, d, h, w)
			a.end(t)
			if got := a.stdout.bytes(); !bytes.Equal(got, Pattern(n)) {
				t.Errorf("%d bytes of output are not the %d that were written", len(got), n)
			}
		})
	}
}

// testSlowReader holds the output back and sees that the attempt goes on when it is let go.
func testSlowReader(t *testing.T, h Harness) {
	d := h.Open(t)
	const n = 4 << 20
	a := newAttempt(t, h, Work{Pattern: n, Exit: h.fails(5)})
	a.stdout.blocked = make(chan struct{})
	a.start(t, d)
	w := a.wait(t.Context())
	a.await(t)
	select {
	case <-w.done:
		t.Error("the attempt is over before its output was taken")
	default:
	}
	close(a.stdout.blocked)
	if end, err := w.result(t); err != nil || !h.ended(&end, navvy.Exit{Code: h.fails(5)}) {
		t.Errorf("ended as %+v, %v", end, err)
	}
	if got := a.stdout.bytes(); !bytes.Equal(got, Pattern(n)) {
		t.Errorf("%d bytes of output are not the %d that were written", len(got), n)
	}
}

// testFailingReader sees that an attempt whose output nobody wants runs to its end.
func testFailingReader(t *testing.T, h Harness) {
	d := h.Open(t)
	a := newAttempt(t, h, Work{Pattern: 4 << 20, Exit: h.fails(5)})
	a.stdout.err = errGivenUp
	a.start(t, d)
	if end := a.end(t); !h.ended(&end, navvy.Exit{Code: h.fails(5)}) {
		t.Errorf("ended as %+v", end)
	}
}
