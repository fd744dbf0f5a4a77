package drivertest

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/navvy-run/navvy/engine/driver"
	"github.com/navvy-run/navvy/engine/memory"
)

// useSeed lets NAVVY_SEED choose rapid's seed too.
var useSeed = sync.OnceFunc(func() {
	if env := os.Getenv("NAVVY_SEED"); env != "" {
		if err := flag.Set("rapid.seed", env); err != nil {
			panic(fmt.Sprintf("NAVVY_SEED: %v", err))
		}
	}
})

// testModel does whatever it likes to the store and to an in-memory one, which
// must not differ.
func testModel(t *testing.T, h Harness) {
	useSeed()
	s := open(t, h)
	rapid.Check(t, func(rt *rapid.T) {
		b := new(driver.Batch)
		b.DeleteRange([]byte{0}, nil)
		apply(t, s, b)
		oracle := memory.New()
		defer oracle.Close()
		rt.Repeat(map[string]func(*rapid.T){
			"apply": func(rt *rapid.T) {
				b := drawBatch(rt)
				got, want := s.Apply(t.Context(), b), oracle.Apply(t.Context(), b)
				if err := sameConflict(got, want); err != nil {
					rt.Fatalf("apply: %v", err)
				}
			},
			"get": func(rt *rapid.T) {
				key := drawKey().Draw(rt, "key")
				got, gotErr := s.Get(t.Context(), key)
				want, wantErr := oracle.Get(t.Context(), key)
				if string(got) != string(want) || (gotErr == nil) != (wantErr == nil) {
					rt.Fatalf("get %q = %q, %v; want %q, %v", key, got, gotErr, want, wantErr)
				}
			},
			"": func(rt *rapid.T) {
				r := drawRange(rt)
				got, err := scan(t.Context(), s, r)
				if err != nil {
					rt.Fatal(err)
				}
				want, err := scan(t.Context(), oracle, r)
				if err != nil {
					rt.Fatal(err)
				}
				if err := same(got, want); err != nil {
					rt.Fatalf("scan %+v: %v", r, err)
				}
			},
		})
	})
}

// drawKey draws from few keys, so that they meet.
func drawKey() *rapid.Generator[[]byte] {
	return rapid.SliceOfN(rapid.SampledFrom([]byte{0, 'a', 'b', 0xff}), 1, 3)
}

func drawBatch(rt *rapid.T) *driver.Batch {
	b := new(driver.Batch)
	value := rapid.SliceOfN(rapid.SampledFrom([]byte{0, 'x'}), 0, 2)
	for range rapid.IntRange(0, 3).Draw(rt, "conditions") {
		if rapid.Bool().Draw(rt, "absent") {
			b.IfAbsent(drawKey().Draw(rt, "key"))
		} else {
			b.IfEqual(drawKey().Draw(rt, "key"), value.Draw(rt, "value"))
		}
	}
	for range rapid.IntRange(0, 8).Draw(rt, "changes") {
		key := drawKey().Draw(rt, "key")
		switch rapid.IntRange(0, 5).Draw(rt, "kind") {
		case 0:
			b.DeleteRange(key, rapid.SliceOfN(rapid.SampledFrom([]byte{0, 'a', 'b', 0xff}), 0, 3).Draw(rt, "end"))
		case 1:
			b.Delete(key)
		default:
			b.Put(key, value.Draw(rt, "value"))
		}
	}
	return b
}

func drawRange(rt *rapid.T) driver.Range {
	bound := rapid.SliceOfN(rapid.SampledFrom([]byte{0, 'a', 'b', 0xff}), 0, 3)
	return driver.Range{
		Start:   bound.Draw(rt, "start"),
		End:     bound.Draw(rt, "end"),
		Reverse: rapid.Bool().Draw(rt, "reverse"),
		Limit:   rapid.IntRange(0, 5).Draw(rt, "limit"),
	}
}

// sameConflict compares the outcomes of one batch on two stores.
func sameConflict(got, want error) error {
	var conflict *driver.ConflictError
	if !errors.As(want, &conflict) {
		if want != nil {
			return fmt.Errorf("the oracle failed: %w", want)
		}
		return got
	}
	seen := map[string]bool{}
	var keys []string
	for _, key := range conflict.Keys {
		if !seen[string(key)] {
			keys = append(keys, string(key))
		}
		seen[string(key)] = true
	}
	return conflictNames(got, sorted(keys))
}
