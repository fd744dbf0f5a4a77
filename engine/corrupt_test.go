package engine

import (
	"errors"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine/driver"
)

func TestNegativeLengthsAreRefused(t *testing.T) {
	t.Parallel()
	if _, _, err := decodeChunk("0123456789ab", 0, encodeLoggedChunk(loggedChunk{length: -1})); !errors.Is(err, navvy.ErrCorrupt) {
		t.Errorf("a chunk in a log: got %v, want ErrCorrupt", err)
	}
	for what, out := range map[string]navvy.Output{
		"output": {Logged: true, Length: -1}, "stdout": {Stdout: -1}, "stderr": {Stderr: -1},
	} {
		b := appendResult(nil, &navvy.Result{State: navvy.Succeeded, Attempt: navvy.Attempt{Output: out}})
		if _, err := decodeResult(sampleTask, b); !errors.Is(err, navvy.ErrCorrupt) {
			t.Errorf("%s: got %v, want ErrCorrupt", what, err)
		}
	}
}

// A record that says that a log is larger than it is must not be believed: there
// may not be so much memory.
func TestALogShorterThanItsRecordIsCorrupt(t *testing.T) {
	t.Parallel()
	e, store := openMemory(t)
	s, _, err := e.Submit(t.Context(), navvy.Job{Owner: "ann", Detached: true, Spec: navvy.Spec{Noop: &navvy.Noop{}}}, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Add(t.Context(), make([]byte, 3<<20)), s.Seal(t.Context())); err != nil {
		t.Fatal(err)
	}
	id := s.Job().ID
	if _, err := e.Inputs(t.Context(), id, 0); err != nil {
		t.Fatal(err)
	}
	for _, length := range []int64{0, 4 << 20, 1 << 40, 1<<63 - 1} {
		var b driver.Batch
		b.Put(indexKey(tableInput, id, 0), encodeLoggedChunk(loggedChunk{length: length}))
		if err := store.Apply(t.Context(), &b); err != nil {
			t.Fatal(err)
		}
		if _, err := e.Inputs(t.Context(), id, 0); !errors.Is(err, navvy.ErrCorrupt) {
			t.Errorf("a log of %d bytes: got %v, want ErrCorrupt", length, err)
		}
	}
}
