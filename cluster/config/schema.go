package config

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
)

// Schema is the JSON Schema (draft 2020-12) of the file, for editors and programs. What it
// refuses Parse refuses; what does not fit together only Validate finds. It is not of
// CloudWorker's configurations.
func Schema() []byte {
	root := section(reflect.TypeFor[Cluster](), "")
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = "A cluster of navvy"
	properties := root["properties"].(map[string]any)
	properties["$schema"] = map[string]any{"type": "string", "description": "Where this schema is, for editors."}
	text, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		panic("config: the schema cannot be written: " + err.Error())
	}
	return append(text, '\n')
}

// describe is the schema of one key.
func describe(t reflect.Type, path string) map[string]any {
	s := shape(t, path)
	k := keyOf(path)
	if k.about != "" {
		s["description"] = k.about + "."
		if k.unset != "" {
			s["description"] = k.about + ". Defaults to " + strings.ReplaceAll(k.unset, "`", "") + "."
		}
	}
	if k.words != nil {
		s["enum"] = k.words
	}
	if k.value != nil {
		s["default"] = k.value
	}
	return s
}

// shape is the schema of a type.
func shape(t reflect.Type, path string) map[string]any {
	switch t {
	case typeValue:
		return value()
	case typeDuration:
		return map[string]any{"type": []string{"string", "number"}, "examples": []any{"90s", "5m", 60}}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return shape(t.Elem(), path)
	case reflect.Struct:
		return section(t, path)
	case reflect.Slice:
		s := map[string]any{"type": "array", "items": shape(t.Elem(), path)}
		if t.Elem().Kind() == reflect.String {
			s["minItems"] = 1
		}
		return s
	case reflect.Map:
		entry := value()
		if t.Elem().Kind() == reflect.String {
			entry = map[string]any{"type": []string{"string", "number", "boolean"}}
		}
		return map[string]any{
			"type": "object", "additionalProperties": entry,
			"propertyNames": map[string]any{"minLength": 1, "maxLength": maxKey},
		}
	case reflect.Int:
		s := map[string]any{"type": "integer", "minimum": keyOf(path).least, "maximum": 1<<31 - 1}
		if path == "version" {
			s["maximum"] = Version
		}
		return s
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.String:
		return text(path)
	default:
		panic(fmt.Sprintf("config: %s is of type %s", path, t))
	}
}

// text is the schema of a text, or of a number where one is written as such.
func text(path string) map[string]any {
	switch keyOf(path).form {
	case formCPUs, formSize, formDuration:
		return map[string]any{"type": []string{"string", "number"}}
	case formText:
	}
	return map[string]any{"type": "string", "minLength": 1}
}

// value is the schema of a Value.
func value() map[string]any {
	reference := func(name, about string) map[string]any {
		return map[string]any{
			"type": "object", "required": []string{name}, "additionalProperties": false,
			"properties": map[string]any{name: map[string]any{"type": "string", "minLength": 1, "description": about}},
		}
	}
	plain := map[string]any{"type": []string{"string", "number", "boolean"}}
	return map[string]any{"oneOf": []any{
		plain,
		reference("env", "A variable of whoever applies the file."),
		reference("file", "A file; a relative path begins at the directory of this one."),
	}}
}

func section(t reflect.Type, path string) map[string]any {
	properties, required := map[string]any{}, []string{}
	for _, f := range fieldsOf(t) {
		properties[f.name] = describe(t.Field(f.index).Type, below(path, f.name))
		if f.required {
			required = append(required, f.name)
		}
	}
	s := map[string]any{"type": "object", "additionalProperties": false, "properties": properties}
	if len(required) > 0 {
		s["required"] = required
	}
	if t == reflect.TypeFor[Workers]() {
		s["anyOf"] = []any{map[string]any{"required": []string{"count"}}, map[string]any{"required": []string{"autoscale"}}}
	}
	return s
}
