package pickle

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"

	"github.com/navvy-run/navvy/internal/pythontest"
)

// python runs testdata/pickles.py and gives the messages that it writes. Without Python
// the test is skipped, but in CI.
func python(t *testing.T, what string, messages [][]byte) [][]byte {
	t.Helper()
	pythontest.Need(t)
	var in bytes.Buffer
	for _, m := range messages {
		in.Write(binary.BigEndian.AppendUint32(nil, uint32(len(m))))
		in.Write(m)
	}
	cmd := exec.CommandContext(t.Context(), pythontest.Python, "-I", "testdata/pickles.py", what)
	cmd.Stdin, cmd.Stderr = &in, t.Output()
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var all [][]byte
	for len(out) > 0 {
		n := binary.BigEndian.Uint32(out)
		all, out = append(all, out[4:4+n]), out[4+n:]
	}
	return all
}

// Whatever Python's picklers write is a pickle.
func TestPicklers(t *testing.T) {
	t.Parallel()
	all := python(t, "make", nil)
	if len(all) < 500 {
		t.Errorf("Python wrote %d pickles", len(all))
	}
	for _, b := range all {
		if err := Validate(b); err != nil {
			t.Errorf("%.100q: %v", b, err)
		}
		if len(b) > 2 && Validate(b[:len(b)-1]) == nil {
			t.Errorf("%.100q is good without its end", b)
		}
	}
}

// What Validate lets in, pickletools reads to the end; what that does not read, Validate
// does not let in: for pickles of which a few bytes have become others.
func TestPickletools(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 1))
	var asked [][]byte
	for _, b := range python(t, "make", nil) {
		if len(b) > 2000 {
			continue
		}
		for range 10 {
			asked = append(asked, changed(random, b))
		}
	}
	accepted := 0
	for i, said := range python(t, "judge", asked) {
		b := asked[i]
		if Validate(b) != nil {
			continue
		}
		accepted++
		// Names in UTF-8 and what stands in quotes Python itself loads, or not.
		if text := string(said); text != "yes" && !strings.HasPrefix(text, "Unicode") && !bytes.ContainsAny(b, `\`) {
			t.Errorf("seed %d: %q is no pickle: %s", seed, b, text)
		}
	}
	if accepted == 0 || accepted == len(asked) {
		t.Errorf("seed %d: %d of %d were pickles", seed, accepted, len(asked))
	}
}

// changed is a copy of b with a few bytes changed, added or left out behind its head.
func changed(random *rand.Rand, b []byte) []byte {
	c := bytes.Clone(b)
	for range 1 + random.IntN(3) {
		at := 2 + random.IntN(max(len(c)-2, 1))
		switch random.IntN(4) {
		case 0:
			c = append(c[:at:at], c[min(at+1, len(c)):]...)
		case 1:
			c = append(c[:at:at], append([]byte{byte(random.Uint32())}, c[at:]...)...)
		case 2:
			if at < len(c) {
				c[at] = "(0123456789NKXRtq.\n"[random.IntN(19)]
			}
		default:
			if at < len(c) {
				c[at] ^= 1 << random.IntN(8)
			}
		}
	}
	return c
}
