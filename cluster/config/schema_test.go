package config

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

func typeOf(v any) reflect.Type { return reflect.TypeOf(v).Elem() }

// schema is the schema of the file, compiled by somebody else's validator.
var schema = sync.OnceValue(func() *jsonschema.Schema {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema()))
	if err != nil {
		panic(err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft2020)
	if err := compiler.AddResource("cluster.json", doc); err != nil {
		panic(err)
	}
	return compiler.MustCompile("cluster.json")
})

// conforms validates a text in YAML or JSON by the schema.
func conforms(t *testing.T, text []byte) error {
	t.Helper()
	var value any
	if err := yaml.Unmarshal(text, &value); err != nil {
		t.Fatal(err)
	}
	inJSON, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	instance, err := jsonschema.UnmarshalJSON(bytes.NewReader(inJSON))
	if err != nil {
		t.Fatal(err)
	}
	return schema().Validate(instance)
}

// What Parse takes the schema takes, and what the schema refuses Parse refuses.
func TestSchema(t *testing.T) {
	t.Parallel()
	for _, text := range []string{whole, least, string(Encode(wholeCluster())), with("count: 1", "autoscale: {min: 0, max: 2}")} {
		if err := conforms(t, []byte(text)); err != nil {
			t.Errorf("%s\n%v", text, err)
		}
		if _, err := Parse("c.yaml", []byte(text)); err != nil {
			t.Error(err)
		}
	}
	for _, text := range []string{
		least + "zzz: 1", with("name: a\n", ""), with("count: 1", "conut: 1"), with("count: 1", "concurrency: 1"), with("count: 1", "count: -1"),
		with("count: 1", "count: one"), with("count: 1", "count: 1, concurrency: 0"), with("kind: navvy", "kind: kafka"), with("kind: echo", "kind: echo, command: 5"),
		with("version: 1", "version: 2"), with("name: a", "name: 5"), with("name: a", `name: ""`), with("{kind: echo}", "echo"),
		with("kind: navvy", "kind: navvy, url: {}"), with("kind: navvy", "kind: navvy, url: {env: A, file: B}"), with("kind: navvy", "kind: navvy, url: [a]"),
		with("kind: navvy", "kind: navvy, lease: [1]"), with("count: 1", "count: 1, labels: {a: [b]}"), with("count: 1", "count: 1, autoscale: {min: 1}"),
		with("count: 1", "count: 1, memory: true"), least + "share: {}", least + "share: [{from: a}]", least + "share: [{at: a, form: b}]",
		least + "ssh: {hosts: []}", least + "ssh: {hosts: [5]}", least + "ssh: {hosts: [a], tunnel: 1}", least + "monitor: {kind: none}", least + "local: []",
	} {
		if err := conforms(t, []byte(text)); err == nil {
			t.Errorf("the schema takes\n%s", text)
		}
		if _, err := Parse("c.yaml", []byte(text)); err == nil {
			t.Errorf("the parser takes\n%s", text)
		}
	}
}

// Schema and parser know the same keys: each in its place, and with a letter more in none.
func TestSchemaKeys(t *testing.T) {
	t.Parallel()
	var root map[string]any
	if err := json.Unmarshal(Schema(), &root); err != nil {
		t.Fatal(err)
	}
	var inSchema []string
	var walk func(s map[string]any, path string)
	walk = func(s map[string]any, path string) {
		if items, ok := s["items"].(map[string]any); ok {
			walk(items, path)
			return
		}
		properties, _ := s["properties"].(map[string]any)
		if properties == nil {
			return
		}
		if s["additionalProperties"] != false {
			t.Errorf("%q takes any key", path)
		}
		for _, name := range sorted(properties) {
			if name == "$schema" {
				continue
			}
			own, inner := below(path, name), properties[name].(map[string]any)
			inSchema = append(inSchema, own)
			if text, _ := inner["description"].(string); !strings.HasSuffix(text, ".") {
				t.Errorf("%s has the description %q", own, text)
			}
			walk(inner, own)
		}
	}
	walk(root, "")
	have := map[string]bool{}
	for _, path := range inSchema {
		have[path] = true
	}
	for _, p := range pathsOf(reflect.TypeFor[Cluster](), "") {
		if !have[p.path] {
			t.Errorf("the schema has no %s", p.path)
		}
		delete(have, p.path)
	}
	for path := range have {
		t.Errorf("the schema has %s, and the types have not", path)
	}
}
