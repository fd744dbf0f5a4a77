package engine_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine"
	"github.com/navvy-run/navvy/engine/driver"
)

func TestRegistry(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	r := open(t, store).Registry()
	ctx := t.Context()
	if _, err := r.Get(ctx, engine.KindToken, "a"); !errors.Is(err, navvy.ErrNotFound) {
		t.Errorf("an entry that nobody has set: %v", err)
	}
	absent := &engine.Change{IfAbsent: true}
	for _, step := range []struct {
		what  string
		value string
		cond  *engine.Change
		want  error
		after string
	}{
		{"change what is not there", "0", &engine.Change{IfEqual: []byte("x")}, navvy.ErrNotFound, ""},
		{"make", "1", absent, nil, "1"},
		{"make again", "2", absent, navvy.ErrExists, "1"},
		{"change from another value", "3", &engine.Change{IfEqual: []byte("x")}, navvy.ErrConflict, "1"},
		{"change", "4", &engine.Change{IfEqual: []byte("1")}, nil, "4"},
		{"set", "5", nil, nil, "5"},
	} {
		if err := r.Set(ctx, engine.KindToken, "a", []byte(step.value), step.cond); !errors.Is(err, step.want) {
			t.Errorf("%s: got %v, want %v", step.what, err, step.want)
		}
		if got, _ := r.Get(ctx, engine.KindToken, "a"); string(got.Value) != step.after {
			t.Errorf("%s: the value is %q, want %q", step.what, got.Value, step.after)
		}
	}
	if _, err := r.Get(ctx, engine.KindWorker, "a"); !errors.Is(err, navvy.ErrNotFound) {
		t.Errorf("the same name of another kind: %v", err)
	}
	if got, err := open(t, store).Registry().Get(ctx, engine.KindToken, "a"); err != nil || string(got.Value) != "5" || got.Changed.IsZero() {
		t.Errorf("after a restart: %+v, %v", got, err)
	}
	if err := errors.Join(r.Delete(ctx, engine.KindToken, "a"), r.Delete(ctx, engine.KindToken, "a")); err != nil {
		t.Errorf("delete it twice: %v", err)
	}
	if _, err := r.Get(ctx, engine.KindToken, "a"); !errors.Is(err, navvy.ErrNotFound) {
		t.Errorf("a deleted entry: %v", err)
	}
}

// Changes that are made together are made all or none.
func TestRegistryTogether(t *testing.T) {
	t.Parallel()
	r := open(t, newStore(t)).Registry()
	ctx := t.Context()
	change := func(name, value string) engine.Change {
		return engine.Change{Kind: engine.KindToken, Name: name, Value: []byte(value), IfAbsent: true}
	}
	if err := r.Apply(ctx, change("a", "1"), change("b", "1")); err != nil {
		t.Fatal(err)
	}
	if err := r.Apply(ctx, change("c", "1"), change("b", "2")); !errors.Is(err, navvy.ErrExists) {
		t.Errorf("one of two exists: %v", err)
	}
	if err := r.Apply(ctx, change("d", "1"), change("d", "2")); !errors.Is(err, navvy.ErrInvalid) {
		t.Errorf("one name twice: %v", err)
	}
	list, next, err := r.List(ctx, engine.KindToken, "", "", 10)
	if err != nil || next != "" || len(list) != 2 || list[0].Name != "a" || list[1].Name != "b" {
		t.Errorf("there is %v, then %q, %v", list, next, err)
	}
}

func TestRegistryPages(t *testing.T) {
	t.Parallel()
	r := open(t, newStore(t)).Registry()
	ctx := t.Context()
	var want []string
	for _, name := range []string{"a", "b", "b1", "b2", "b3", "b4", "b\xff", "c"} {
		if err := r.Set(ctx, engine.KindToken, name, nil, nil); err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(name, "b") {
			want = append(want, name)
		}
	}
	if err := r.Set(ctx, engine.Kind("tokenb"), "b", nil, nil); err != nil {
		t.Fatal(err)
	}
	for limit := 1; limit < 8; limit++ {
		var got []string
		for after, pages := "", 0; after != "" || pages == 0; pages++ {
			list, next, err := r.List(ctx, engine.KindToken, "b", after, limit)
			if err != nil || len(list) > limit || pages > 10 {
				t.Fatalf("%d entries on page %d, %v", len(list), pages, err)
			}
			for _, entry := range list {
				got = append(got, entry.Name)
			}
			after = next
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("pages of %d: want -, got +:\n%s", limit, diff)
		}
	}
}

func TestRegistryBounds(t *testing.T) {
	t.Parallel()
	r := open(t, newStore(t)).Registry()
	long := strings.Repeat("x", engine.MaxEntryName)
	big := make([]byte, engine.MaxEntryValue)
	if err := r.Set(t.Context(), engine.Kind(long[:32]), long, big, nil); err != nil {
		t.Errorf("the largest: %v", err)
	}
	for what, set := range map[string]engine.Change{
		"no kind":           {Name: "a"},
		"no name":           {Kind: "token"},
		"a long name":       {Kind: "token", Name: long + "x"},
		"a long kind":       {Kind: engine.Kind(long[:33]), Name: "a"},
		"a zero in a kind":  {Kind: "token\x00a", Name: "a"},
		"a large value":     {Kind: "token", Name: "a", Value: append(big, 0)},
		"upper-case letter": {Kind: "Token", Name: "a"},
	} {
		if err := r.Apply(t.Context(), set); !errors.Is(err, navvy.ErrInvalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// Of many who change one value at once, each under the condition that it is as it
// was, exactly one does, also if they share a commit.
func TestRegistryOneWins(t *testing.T) {
	t.Parallel()
	r := open(t, newStore(t)).Registry()
	ctx := t.Context()
	if err := r.Set(ctx, engine.KindToken, "uses", []byte("0"), nil); err != nil {
		t.Fatal(err)
	}
	for round := range 50 {
		before := []byte(fmt.Sprint(round))
		var won atomic.Int32
		var all sync.WaitGroup
		for range 16 {
			all.Go(func() {
				err := r.Set(ctx, engine.KindToken, "uses", fmt.Append(nil, round+1), &engine.Change{IfEqual: before})
				if err == nil {
					won.Add(1)
				} else if !errors.Is(err, navvy.ErrConflict) {
					t.Errorf("round %d: %v", round, err)
				}
			})
		}
		all.Wait()
		if n := won.Load(); n != 1 {
			t.Fatalf("round %d: %d have won", round, n)
		}
	}
}

func TestVerifyReadsTheRegistry(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	e := open(t, store)
	if err := e.Registry().Set(t.Context(), engine.KindToken, "a", []byte("1"), nil); err != nil {
		t.Fatal(err)
	}
	var problems []error
	verify := func() engine.Verified {
		problems = nil
		v, err := e.Verify(t.Context(), func(err error) { problems = append(problems, err) })
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	if v := verify(); v.Entries != 1 || len(problems) > 0 {
		t.Errorf("%d entries, %v", v.Entries, problems)
	}
	var batch driver.Batch
	batch.Put([]byte("gtoken\x00b"), []byte("garbage"))
	batch.Put([]byte("gno name\x00"), nil)
	if err := store.Apply(t.Context(), &batch); err != nil {
		t.Fatal(err)
	}
	if v := verify(); v.Entries != 3 || len(problems) != 2 {
		t.Errorf("%d entries, %v", v.Entries, problems)
	}
	if _, _, err := e.Registry().List(t.Context(), engine.KindToken, "", "", 10); !errors.Is(err, navvy.ErrCorrupt) {
		t.Errorf("a list with a damaged entry: %v", err)
	}
}

func TestAllJobs(t *testing.T) {
	t.Parallel()
	e := open(t, newStore(t))
	var want []navvy.JobID // newest first
	for i, owner := range []string{"ann", "bob", "bo", "ann", "ann", "cy", "bob", "annü", "a"} {
		job := noop
		job.Owner = owner
		if i == 4 {
			job.Name = "of ann"
		}
		want = slices.Insert(want, 0, submit(t, e, job, 1).ID)
	}
	for limit := 1; limit < 11; limit++ {
		var got []navvy.JobID
		before, more := time.Time{}, true
		for more {
			ids, next, err := e.AllJobs(t.Context(), before, limit)
			if err != nil || len(ids) > limit || len(got) > len(want) {
				t.Fatalf("%d jobs, %v", len(ids), err)
			}
			got, before, more = append(got, ids...), next, !next.IsZero()
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("pages of %d: want -, got +:\n%s", limit, diff)
		}
	}
	if ids, next, err := open(t, newStore(t)).AllJobs(t.Context(), time.Time{}, 10); err != nil || len(ids) > 0 || !next.IsZero() {
		t.Errorf("of nobody: %v, %v, %v", ids, next, err)
	}
}
