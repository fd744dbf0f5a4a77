package config

import (
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the table of keys into docs/cluster.md")

const (
	page       = "../../docs/cluster.md"
	tableBegin = "<!-- keys: begin; go test ./cluster/config -run TestDocumentation -update writes them -->\n"
	tableEnd   = "<!-- keys: end -->"
)

// The table of keys in the documentation is made of the types and of what the schema says.
func TestDocumentation(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), tableBegin)
	table, after, ended := strings.Cut(rest, tableEnd)
	if !found || !ended {
		t.Fatalf("%s has no place for the table of keys", page)
	}
	var want strings.Builder
	want.WriteString("\n| key | what | without it |\n|---|---|---|\n")
	for _, p := range pathsOf(reflect.TypeFor[Cluster](), "") {
		name := "`" + p.path + "`"
		if p.required {
			name = "**" + name + "**"
		}
		k := keyOf(p.path)
		about := k.about
		if k.words != nil {
			about += ": `" + strings.Join(k.words, "`, `") + "`"
		}
		fmt.Fprintf(&want, "| %s | %s | %s |\n", name, about, k.unset)
	}
	want.WriteString("\n")
	if want.String() == table {
		return
	}
	if !*update {
		t.Fatalf("the table of keys in %s is not that of the types: go test ./cluster/config -run TestDocumentation -update", page)
	}
	if err := os.WriteFile(page, []byte(before+tableBegin+want.String()+tableEnd+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

type pathOf struct {
	path     string
	required bool
	kind     reflect.Type
}

// pathsOf are all keys of a type, each before those below it.
func pathsOf(t reflect.Type, path string) []pathOf {
	var list []pathOf
	for _, f := range fieldsOf(t) {
		own, inner := below(path, f.name), t.Field(f.index).Type
		list = append(list, pathOf{own, f.required, inner})
		for inner.Kind() == reflect.Pointer || inner.Kind() == reflect.Slice {
			inner = inner.Elem()
		}
		if inner.Kind() == reflect.Struct && inner != typeValue {
			list = append(list, pathsOf(inner, own)...)
		}
	}
	return list
}

// Each key of the types has something said about it, in the same order, and nothing else has.
func TestKeys(t *testing.T) {
	t.Parallel()
	var have, want []string
	for _, p := range pathsOf(reflect.TypeFor[Cluster](), "") {
		want = append(want, p.path)
	}
	for _, k := range keys {
		have = append(have, k.path)
		if k.about == "" || strings.HasSuffix(k.about, ".") {
			t.Errorf("%s: what is said about it is %q", k.path, k.about)
		}
	}
	if !reflect.DeepEqual(have, want) {
		t.Errorf("the table says something about\n%v, the types have\n%v", have, want)
	}
}
