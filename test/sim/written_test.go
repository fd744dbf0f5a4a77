package sim

import (
	"encoding/binary"
	"math/rand/v2"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/output"
)

// written is what one attempt writes: frames that differ from those of any other
// attempt, so that bytes in the wrong place are seen.
type written struct {
	frames []byte
	ends   []int // where each frame ends
}

// write makes the output of an attempt.
func write(rng *rand.Rand, ref string) *written {
	w := &written{}
	size := 0
	switch n := rng.IntN(100); {
	case n < 15:
	case n < 85:
		size = rng.IntN(200)
	case n < 92: // on either side of the bound between result and log
		size = output.InlineLimit - 40 + rng.IntN(80)
	default:
		size = output.InlineLimit + rng.IntN(100<<10)
	}
	pattern := make([]byte, 0, size)
	for n := uint64(0); len(pattern) < size; n++ {
		pattern = append(pattern, ref...)
		pattern = binary.BigEndian.AppendUint64(pattern, n*0x9e3779b97f4a7c15)
	}
	pattern = pattern[:size]
	for len(pattern) > 0 {
		n := 1 + rng.IntN(len(pattern))
		stream := output.Stdout
		if rng.IntN(4) == 0 {
			stream = output.Stderr
		}
		w.frames = output.AppendFrame(w.frames, stream, pattern[:n])
		w.ends = append(w.ends, len(w.frames))
		pattern = pattern[n:]
	}
	return w
}

// upTo is what the first n frames hold.
func (w *written) upTo(n int) []byte {
	if n == 0 {
		return nil
	}
	return w.frames[:w.ends[n-1]]
}

// claim is what a worker says of frames that it has written, inline or logged.
func claim(frames []byte, logged bool) navvy.Output {
	out := navvy.Output{Logged: logged, Length: int64(len(frames)), CRC: output.UpdateCRC(0, frames)}
	if !logged {
		out.Inline = append([]byte(nil), frames...)
	}
	for rest := frames; len(rest) > 0; {
		s, payload, left, err := output.Next(rest)
		if err != nil {
			panic(err) // we made them
		}
		if s == output.Stdout {
			out.Stdout += int64(len(payload))
		} else {
			out.Stderr += int64(len(payload))
		}
		rest = left
	}
	return out
}
