package engine

import (
	"encoding/binary"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine/driver"
	"github.com/navvy-run/navvy/engine/memory"
)

// accept makes a job of one task.
func acceptIn(t *testing.T, e *Engine, owner, queue string, priority int32) navvy.JobID {
	t.Helper()
	s, id, err := e.Submit(t.Context(), navvy.Job{Owner: owner, Queue: queue, Priority: priority, Spec: navvy.Spec{Noop: &navvy.Noop{}}}, false)
	if err == nil {
		err = s.Add(t.Context(), nil)
	}
	if err == nil {
		err = s.Seal(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func openOn(t *testing.T, store driver.Store) *Engine {
	t.Helper()
	e, err := Open(t.Context(), store, nil)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// Each owner has a line in each queue, with its own order; names that begin alike are apart.
func TestLines(t *testing.T) {
	t.Parallel()
	e := openOn(t, memory.New())
	low := acceptIn(t, e, "ann", "q", -5)
	first, second := acceptIn(t, e, "ann", "q", 0), acceptIn(t, e, "ann", "q", 0)
	high := acceptIn(t, e, "ann", "q", 7)
	acceptIn(t, e, "anna", "q", 0)
	acceptIn(t, e, "ann", "qq", 0)
	acceptIn(t, e, "ann", "", 0)
	lines, err := e.Lines(t.Context())
	want := []Line{{navvy.DefaultQueue, "ann"}, {"q", "ann"}, {"q", "anna"}, {"qq", "ann"}}
	if diff := cmp.Diff(want, lines); diff != "" || err != nil {
		t.Error(diff, err)
	}
	var got []navvy.JobID
	for after := []byte(nil); ; {
		ids, last, err := e.QueuedAfter(t.Context(), Line{"q", "ann"}, after, 2)
		if err != nil {
			t.Fatal(err)
		}
		if len(ids) == 0 {
			break
		}
		got, after = append(got, ids...), last
	}
	if diff := cmp.Diff([]navvy.JobID{high, first, second, low}, got); diff != "" {
		t.Error(diff)
	}
}

// Data that an earlier navvy has written, with one order of service a queue, are
// brought to lines, also after a crash in the middle.
func TestFormat1(t *testing.T) {
	t.Parallel()
	store := memory.New()
	e := openOn(t, store)
	var want []navvy.JobID
	var old driver.Batch
	for i := range requeueAtOnce + 5 {
		id := acceptIn(t, e, []string{"ann", "bob"}[i%2], "", 0)
		want = append(want, id)
		job, _, err := e.Job(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		k := append([]byte{tableQueued}, "default\x00\x7f\xff\xff\xff"...)
		k = binary.BigEndian.AppendUint64(k, uint64(job.Accepted.UnixNano()))
		old.Put(append(k, id...), nil)
		if i != 3 { // which a crash has let come over already
			old.Delete(lineKey(job))
		}
	}
	meta := newRecord(tableMeta, metaVersion, 8)
	meta.uint(1)
	meta.uint(7)
	old.Put(metaKey, meta.b)
	if err := store.Apply(t.Context(), &old); err != nil {
		t.Fatal(err)
	}

	e = openOn(t, store)
	if e.Epoch() != 8 {
		t.Errorf("epoch %d", e.Epoch())
	}
	var got []navvy.JobID
	for _, line := range []Line{{navvy.DefaultQueue, "ann"}, {navvy.DefaultQueue, "bob"}} {
		ids, _, err := e.QueuedAfter(t.Context(), line, nil, len(want))
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, ids...)
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if v, err := e.Verify(t.Context(), func(err error) { t.Error(err) }); err != nil || v.Jobs != int64(len(want)) {
		t.Errorf("%+v, %v", v, err)
	}
	left := 0
	if err := store.Scan(t.Context(), driver.Prefix([]byte{tableQueued}), func(_, _ []byte) error {
		left++
		return nil
	}); err != nil || left > 0 {
		t.Errorf("%d keys of the old order are left, %v", left, err)
	}
}
