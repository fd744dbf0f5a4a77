package engine_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine"
	"github.com/navvy-run/navvy/engine/memory"
)

func put(t *testing.T, v engine.Values, key, value string) engine.Value {
	t.Helper()
	got, err := v.Put(t.Context(), key, []byte(value), engine.Condition{})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestValues(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	e := open(t, store)
	v, ctx := e.Values("ann"), t.Context()
	for i, step := range []struct {
		value   string
		cond    engine.Condition
		want    error
		version uint64 // afterwards
	}{
		{"0", engine.Condition{IfVersion: 1}, navvy.ErrConflict, 0},
		{"1", engine.Condition{IfAbsent: true}, nil, 1},
		{"2", engine.Condition{IfAbsent: true}, navvy.ErrExists, 1},
		{"3", engine.Condition{IfVersion: 7}, navvy.ErrConflict, 1},
		{"4", engine.Condition{IfVersion: 1}, nil, 2},
		{"5", engine.Condition{}, nil, 3},
		{"6", engine.Condition{IfAbsent: true, IfVersion: 3}, navvy.ErrInvalid, 3},
	} {
		put, err := v.Put(ctx, "a", []byte(step.value), step.cond)
		if !errors.Is(err, step.want) || err == nil && put.Version != step.version {
			t.Errorf("step %d: version %d, %v, want %v", i, put.Version, err, step.want)
		}
		if got, _ := v.Get(ctx, "a"); got.Version != step.version {
			t.Errorf("step %d: version %d, want %d", i, got.Version, step.version)
		}
	}
	if _, err := e.Values("bob").Get(ctx, "a"); !errors.Is(err, navvy.ErrNotFound) {
		t.Errorf("another owner has it, too: %v", err)
	}
	verified, err := e.Verify(ctx, func(err error) { t.Error(err) })
	if err != nil || verified.Values != 1 {
		t.Errorf("verified %d values, %v", verified.Values, err)
	}
}

func TestValuesStay(t *testing.T) {
	t.Parallel()
	store, ctx := newStore(t), t.Context()
	for value := range 3 {
		put(t, open(t, store).Values("ann"), "a", fmt.Sprint(value))
	}
	e := open(t, store)
	v := e.Values("ann")
	if got, err := v.Get(ctx, "a"); err != nil || string(got.Bytes) != "2" || got.Changed.IsZero() {
		t.Errorf("after a restart: %+v, %v", got, err)
	}
	if _, err := v.Delete(ctx, "a", 2); !errors.Is(err, navvy.ErrConflict) {
		t.Errorf("delete another version: %v", err)
	}
	if n, err := v.Delete(ctx, "a", 3); err != nil || n != 4 {
		t.Errorf("deleted with change %d, %v", n, err)
	}
	if _, err := v.Delete(ctx, "a", 0); !errors.Is(err, navvy.ErrNotFound) {
		t.Errorf("delete it again: %v", err)
	}
	if again := put(t, v, "a", ""); again.Version != 5 {
		t.Errorf("made again it has version %d: one that was seen before could be taken for it", again.Version)
	}
	if got, err := v.Shelf(ctx); err != nil || got != (engine.Shelf{Version: 5, Deleted: 4, Keys: 1, Bytes: 1}) {
		t.Errorf("the shelf is %+v, %v", got, err)
	}
	if _, err := e.Verify(ctx, func(err error) { t.Error(err) }); err != nil {
		t.Error(err)
	}
}

func TestValueKeys(t *testing.T) {
	t.Parallel()
	v := open(t, newStore(t)).Values("ann")
	for key, good := range map[string]bool{
		"a": true, "ä/b c": true, strings.Repeat("x", engine.MaxValueKey): true,
		"": false, strings.Repeat("x", engine.MaxValueKey+1): false, "a\x00b": false, "a\nb": false, "\xff": false, "a\u0085": false,
	} {
		if _, err := v.Put(t.Context(), key, nil, engine.Condition{}); (err == nil) != good || !good && !errors.Is(err, navvy.ErrInvalid) {
			t.Errorf("key %q: %v, want it good: %t", key, err, good)
		}
	}
	if _, err := v.Put(t.Context(), "a", make([]byte, engine.MaxValueSize+1), engine.Condition{}); !errors.Is(err, navvy.ErrInvalid) {
		t.Errorf("a large value: %v", err)
	}
	if _, err := v.Put(t.Context(), "a", make([]byte, engine.MaxValueSize), engine.Condition{}); err != nil {
		t.Errorf("the largest value: %v", err)
	}
}

func TestValueBounds(t *testing.T) {
	t.Parallel()
	store := memory.New()
	defer store.Close()
	e, err := engine.Open(t.Context(), store, &engine.Options{MaxValues: 2, MaxValueBytes: 10})
	if err != nil {
		t.Fatal(err)
	}
	v := e.Values("ann")
	put(t, v, "a", "1234")
	put(t, v, "b", "1")
	for _, full := range []struct{ key, value string }{{"c", ""}, {"b", "12345"}} {
		if _, err := v.Put(t.Context(), full.key, []byte(full.value), engine.Condition{}); !errors.Is(err, navvy.ErrExhausted) {
			t.Errorf("%q is %q: %v", full.key, full.value, err)
		}
	}
	put(t, v, "a", "1")
	put(t, v, "b", "12345")
	put(t, e.Values("bob"), "c", "1234")
}

func TestValuePages(t *testing.T) {
	t.Parallel()
	v := open(t, newStore(t)).Values("ann")
	var want []string
	for _, key := range []string{"a", "b", "b/1", "b/2", "b/3", "bä", "c"} {
		put(t, v, key, key)
		if strings.HasPrefix(key, "b") {
			want = append(want, key)
		}
	}
	put(t, open(t, newStore(t)).Values("annb"), "b", "")
	for limit := 1; limit < 8; limit++ {
		var got []string
		for after, more := "", true; more; more = after != "" {
			list, next, err := v.List(t.Context(), "b", after, limit)
			if err != nil || len(list) > limit {
				t.Fatalf("%d values on a page, %v", len(list), err)
			}
			for _, value := range list {
				got = append(got, string(value.Bytes))
			}
			after = next
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("pages of %d: want -, got +:\n%s", limit, diff)
		}
	}
}

// Many count with compare-and-set, and none is lost.
func TestValuesCompareAndSet(t *testing.T) {
	t.Parallel()
	v := open(t, newStore(t)).Values("ann")
	first := put(t, v, "n", "")
	const each, writers = 20, 8
	var group sync.WaitGroup
	for range writers {
		group.Go(func() {
			for done := 0; done < each; {
				now, err := v.Get(t.Context(), "n")
				if err == nil {
					_, err = v.Put(t.Context(), "n", append(now.Bytes, 'x'), engine.Condition{IfVersion: now.Version})
				}
				if err == nil {
					done++
				} else if !errors.Is(err, navvy.ErrConflict) {
					t.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
	if got, err := v.Get(t.Context(), "n"); err != nil || len(got.Bytes) != each*writers || got.Version != first.Version+each*writers {
		t.Errorf("%d were counted, the version is %d, %v", len(got.Bytes), got.Version, err)
	}
}

// follower is somebody who keeps a copy of the values by watching them.
type follower struct {
	watch   *engine.ValueWatch
	copy    map[string]string
	through uint64
	resets  int
}

func follow(t *testing.T, v engine.Values, prefix string, from uint64) *follower {
	t.Helper()
	w, err := v.Watch(prefix, from)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return &follower{watch: w, copy: map[string]string{}, through: from}
}

// next takes what comes next.
func (f *follower) next(t *testing.T) engine.ValueChanges {
	t.Helper()
	c, err := f.watch.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if c.Reset {
		clear(f.copy)
		f.resets++
	}
	for _, change := range c.Changes {
		if change.Deleted {
			delete(f.copy, change.Key)
		} else {
			f.copy[change.Key] = string(change.Bytes)
		}
	}
	f.through = max(f.through, c.Through)
	return c
}

// until takes what comes until all up to a version has been told.
func (f *follower) until(t *testing.T, version uint64) {
	t.Helper()
	for f.through < version {
		f.next(t)
	}
}

func (f *follower) holds(t *testing.T, want map[string]string) {
	t.Helper()
	if diff := cmp.Diff(want, f.copy); diff != "" {
		t.Errorf("the copy: want -, got +:\n%s", diff)
	}
}

func TestWatchValues(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	v := open(t, store).Values("ann")
	put(t, v, "a/1", "one")
	put(t, v, "b", "other")
	f := follow(t, v, "a/", 0)
	f.next(t)
	f.holds(t, map[string]string{"a/1": "one"})
	put(t, v, "a/2", "two")
	put(t, v, "b", "still other")
	last := put(t, v, "a/2", "too")
	c := f.next(t)
	if len(c.Changes) != 1 || c.Through != last.Version {
		t.Errorf("two changes of one key are told as %+v", c)
	}
	gone, err := v.Delete(t.Context(), "a/1", 0)
	if err != nil {
		t.Fatal(err)
	}
	f.until(t, gone)
	f.holds(t, map[string]string{"a/2": "too"})

	// From a version on: what was deleted meanwhile is told as well, by whoever knows it.
	for what, values := range map[string]engine.Values{"same": v, "restarted": open(t, store).Values("ann")} {
		late := follow(t, values, "a/", 2)
		late.copy["a/1"] = "one"
		late.until(t, gone)
		late.holds(t, map[string]string{"a/2": "too"})
		if want := what == "restarted"; (late.resets == 1) != want {
			t.Errorf("%s: %d resets", what, late.resets)
		}
	}
	// Of a version that is yet to come, as after a backup was restored.
	future := follow(t, v, "", gone+10)
	if c := future.next(t); !c.Reset || c.Through != gone {
		t.Errorf("from the future: %+v", c)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := future.watch.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("a watch that is given up: %v", err)
	}
}

// Who is far behind has the newest state of all keys in the end.
func TestSlowWatch(t *testing.T) {
	t.Parallel()
	v := open(t, newStore(t)).Values("ann")
	f := follow(t, v, "", 0)
	f.until(t, put(t, v, "gone", "").Version)
	want, last := map[string]string{}, uint64(0)
	if _, err := v.Delete(t.Context(), "gone", 0); err != nil {
		t.Fatal(err)
	}
	for i := range 5000 {
		key, value := fmt.Sprint("k", i%7), fmt.Sprint(i)
		last = put(t, v, key, value).Version
		want[key] = value
	}
	f.until(t, last)
	f.holds(t, want)
	if f.resets != 1 {
		t.Errorf("%d resets", f.resets)
	}
}

// Who watches while many write and delete has their last state in the end.
func TestWatchMeanwhile(t *testing.T) {
	t.Parallel()
	v := open(t, newStore(t)).Values("ann")
	var group sync.WaitGroup
	for w := range 4 {
		group.Go(func() {
			for i := range 300 {
				key := fmt.Sprint("k", (i*7+w)%20)
				_, err := v.Put(t.Context(), key, []byte(fmt.Sprint(w, i)), engine.Condition{})
				if i%5 == 0 && err == nil {
					_, err = v.Delete(t.Context(), key, 0)
				}
				if err != nil && !errors.Is(err, navvy.ErrNotFound) {
					t.Error(err)
					return
				}
			}
		})
	}
	f := follow(t, v, "k", 0)
	f.until(t, 200)
	group.Wait()
	shelf, err := v.Shelf(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f.until(t, shelf.Version)
	want := map[string]string{}
	list, _, err := v.List(t.Context(), "", "", 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, value := range list {
		want[value.Key] = string(value.Bytes)
	}
	f.holds(t, want)
}
