package config

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/navvy-run/navvy"
)

// FuzzParse gives foreign files to the parser: it refuses them with ErrInvalid, or makes a
// cluster that Encode writes so that it is read again, which the schema takes, and of which
// the defaults are no more than what they are.
func FuzzParse(f *testing.F) {
	for _, p := range Providers() {
		text, err := Template(p)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	for _, text := range []string{
		whole, least, older, string(Encode(wholeCluster())), "a: &a [*a]", "{\"name\": \"\\ud83d\\ude00\x7f\"}", "SubScriptionId: x", "? [a]\n: b",
		with("name: a", `name: "\x85\u2028\x7f\ufeff"`), with("count: 1", "count: 1, environment: {\"a b\\n\": \"\\0\"}"),
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := Parse("cluster.yaml", text)
		if err != nil {
			if _, ok := errors.AsType[*Mistakes](err); !ok || !errors.Is(err, navvy.ErrInvalid) || c != nil {
				t.Fatalf("%v, %v", c, err)
			}
			return
		}
		written := Encode(c)
		again, err := Parse("cluster.json", written)
		if err != nil {
			t.Fatalf("%v\n%s", err, written)
		}
		if diff := cmp.Diff(c, again); diff != "" {
			t.Fatalf("%s\n%s", diff, written)
		}
		if err := conforms(t, written); err != nil {
			t.Fatalf("%v\n%s", err, written)
		}
		if Validate(c) != nil {
			return
		}
		whole := Defaults(c)
		if err := Validate(whole); err != nil {
			t.Fatalf("with its defaults: %v\n%s", err, Encode(whole))
		}
		if diff := cmp.Diff(whole, Defaults(whole)); diff != "" {
			t.Fatal(diff)
		}
	})
}
