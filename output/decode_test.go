package output_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/output"
)

func sample() (frames, stdout, stderr []byte) {
	long := pattern(100_000)
	frames = output.AppendFrame(frames, output.Stdout, []byte("one"))
	frames = output.AppendFrame(frames, output.Stderr, []byte("two"))
	frames = output.AppendFrame(frames, output.Stderr, nil)
	frames = output.AppendFrame(frames, output.Stdout, long)
	frames = output.AppendFrame(frames, output.Stderr, []byte("three"))
	return frames, append([]byte("one"), long...), []byte("twothree")
}

// decode takes frames apart in pieces of at most size bytes.
func decode(frames []byte, size int) (parts [output.Value + 1][]byte, err error) {
	var d output.Decoder
	emit := func(s output.Stream, part []byte) error {
		parts[s] = append(parts[s], part...)
		return nil
	}
	for len(frames) > 0 {
		n := min(len(frames), size)
		if err := d.Decode(frames[:n], emit); err != nil {
			return parts, err
		}
		frames = frames[n:]
	}
	return parts, d.Close()
}

func TestDecode(t *testing.T) {
	t.Parallel()
	frames, stdout, stderr := sample()
	for _, size := range []int{1, 2, 3, 4, 5, 6, 7, 100, 99_999, 1 << 20} {
		got, err := decode(frames, size)
		gotOut, gotErr := got[output.Stdout], got[output.Stderr]
		if err != nil || !bytes.Equal(gotOut, stdout) || !bytes.Equal(gotErr, stderr) {
			t.Errorf("in pieces of %d: %d and %d bytes, %v", size, len(gotOut), len(gotErr), err)
		}
	}
	gotOut, gotErr, err := output.Split(frames)
	if err != nil || !bytes.Equal(gotOut, stdout) || !bytes.Equal(gotErr, stderr) {
		t.Errorf("split: %d and %d bytes, %v", len(gotOut), len(gotErr), err)
	}
}

func TestDecodeErrors(t *testing.T) {
	t.Parallel()
	frame := output.AppendFrame(nil, output.Stdout, []byte("one"))
	for n := 1; n < len(frame); n++ {
		if _, _, err := output.Split(frame[:n]); !errors.Is(err, output.ErrShort) {
			t.Errorf("split of %d bytes: %v", n, err)
		}
	}
	for name, bad := range map[string]string{"no stream": "\x00\x00\x00\x00\x01x", "another stream": "\x04\x00\x00\x00\x01x", "too long": "\x01\xff\x00\x00\x00x"} {
		stdout, _, err := output.Split(append(bytes.Clone(frame), bad...))
		if !errors.Is(err, navvy.ErrCorrupt) || string(stdout) != "one" {
			t.Errorf("%s: %q, %v", name, stdout, err)
		}
	}
	stop := errors.New("stop")
	var d output.Decoder
	if err := d.Decode(frame, func(output.Stream, []byte) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("decode: %v, want the error of emit", err)
	}
}

// FuzzDecoder sees that pieces make no difference, and that Next agrees.
func FuzzDecoder(f *testing.F) {
	frames, _, _ := sample()
	f.Add(frames[:200], 3)
	f.Add([]byte("\x01\x00\x00\x00\x00\x02\x00\x00\x00\x01x"), 1)
	f.Add([]byte("\x03\x00\x00\x00\x02ab\x03\x00\x00\x00\x01c\x01\x00\x00\x00\x01x"), 2)
	f.Add([]byte("\x07garbage"), 2)
	f.Fuzz(func(t *testing.T, frames []byte, size int) {
		if size < 1 {
			size = 1
		}
		parts, err := decode(frames, size)
		stdout, stderr := parts[output.Stdout], parts[output.Stderr]
		whole, wholeErr, errWhole := output.Split(frames)
		if (err == nil) != (errWhole == nil) || !bytes.Equal(stdout, whole) || !bytes.Equal(stderr, wholeErr) {
			t.Fatalf("in pieces of %d: %q %q %v; in one: %q %q %v", size, stdout, stderr, err, whole, wholeErr, errWhole)
		}
		total, rest, nextErr := 0, frames, error(nil)
		for len(rest) > 0 && nextErr == nil {
			var payload []byte
			_, payload, rest, nextErr = output.Next(rest)
			total += len(payload)
		}
		if (nextErr == nil) != (err == nil) || err == nil && total != len(stdout)+len(stderr)+len(parts[output.Value]) {
			t.Fatalf("Next: %d bytes, %v; Decoder: %d, %v", total, nextErr, len(stdout)+len(stderr)+len(parts[output.Value]), err)
		}
	})
}
