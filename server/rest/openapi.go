package rest

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/navvy-run/navvy/api"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
)

// Document is the OpenAPI document (version 3.1) of all routes, in JSON.
var Document = sync.OnceValue(func() []byte {
	text, err := json.MarshalIndent(document(), "", "\t")
	if err != nil {
		panic(fmt.Errorf("rest: the OpenAPI document: %w", err)) // it holds strings, numbers and maps
	}
	return append(text, '\n')
})

// operation is what the document says of a route.
type operation object

// overview begins the document.
const overview = `Jobs, their results and output, workers, queues, values and identities of a navvy server. ` +
	`Every field of an object is there, but objects and optional fields that are unset. ` +
	`Integers have up to 64 bits. Text that is no UTF-8 comes as {"base64": "…"}. ` +
	`What fails answers with {"error": {"code", "message"}}.`

func document() object {
	d := &documenter{schemas: object{}}
	paths := object{documentPath: object{"get": object{
		"operationId": "OpenAPI", "summary": "This document, for anybody.", "security": []any{},
		"responses": object{"200": object{"description": "The document.", "content": content(typeJSON, object{"type": "object"})}},
	}}}
	tags := map[string]string{}
	all := routes()
	for i := range all {
		r := &all[i]
		path := strings.ReplaceAll(r.path, "...}", "}")
		item, _ := paths[path].(object)
		if item == nil {
			item = object{}
			paths[path] = item
		}
		item[strings.ToLower(r.method)] = object(d.operation(r))
		service := r.desc.Parent()
		tags[string(service.Name())] = api.Comment(service.FullName())
	}
	var list []any
	for _, name := range slices.Sorted(maps.Keys(tags)) {
		list = append(list, object{"name": name, "description": tags[name]})
	}
	d.schemas["Error"], d.schemas["Bytes"] = errorSchema(), bytesSchema()
	d.prune(paths)
	return object{
		"openapi": "3.1.0",
		"info":    object{"title": "navvy", "version": "v1", "description": overview, "license": object{"name": "Apache-2.0"}},
		"servers": []any{object{"url": "/"}},
		"tags":    list, "paths": paths,
		"security": []any{object{"token": []any{}}, object{"certificate": []any{}}},
		"components": object{
			"schemas": d.schemas,
			"securitySchemes": object{
				"token":       object{"type": "http", "scheme": "bearer", "description": "Over plain HTTP on loopback: an API token, which navvy token create --api makes."},
				"certificate": object{"type": "mutualTLS", "description": "Over HTTPS: a client's certificate, which says who calls."},
			},
		},
	}
}

// documenter gathers the schemas of messages.
type documenter struct{ schemas object }

func ref(name string) object { return object{"$ref": "#/components/schemas/" + name} }

func content(media string, schema object) object { return object{media: object{"schema": schema}} }

// prune drops schemas that no path leads to.
func (d *documenter) prune(paths object) {
	used := map[string]bool{}
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case object:
			name, ok := v["$ref"].(string)
			if name = strings.TrimPrefix(name, ref("")["$ref"].(string)); ok && !used[name] {
				used[name] = true
				walk(d.schemas[name])
			}
			for _, inner := range v {
				walk(inner)
			}
		case []any:
			for _, inner := range v {
				walk(inner)
			}
		}
	}
	walk(paths)
	maps.DeleteFunc(d.schemas, func(name string, _ any) bool { return !used[name] })
}

// operation describes a route as the usual ones are, and then what it says itself.
func (d *documenter) operation(r *route) operation {
	comment := api.Comment(r.desc.FullName())
	op := operation{
		"operationId": r.name, "tags": []any{string(r.desc.Parent().Name())}, "summary": firstSentence(comment), "description": comment,
		"parameters": d.parameters(r),
		"responses": object{
			"200":     object{"description": api.Comment(r.desc.Output().FullName()), "content": content(d.answer(r), d.message(r.desc.Output()))},
			"default": object{"description": "What went wrong.", "content": content(typeJSON, ref("Error"))},
		},
	}
	if r.body {
		op["requestBody"] = object{"required": false, "content": content(typeJSON, d.object(r.desc.Input(), r.offers))}
	}
	if r.extra != nil {
		r.extra(d, op)
	}
	return op
}

// answer is the media type of the usual answer.
func (d *documenter) answer(r *route) string {
	if r.desc.IsStreamingServer() {
		return typeNDJSON
	}
	return typeJSON
}

func firstSentence(s string) string {
	first, _, _ := strings.Cut(s, ". ")
	return strings.TrimSuffix(first, ".") + "."
}

// parameters are those of the path and, without a body, of the query.
func (d *documenter) parameters(r *route) []any {
	list := []any{}
	fields := r.desc.Input().Fields()
	for _, name := range r.variables() {
		p := object{"name": name, "in": "path", "required": true, "schema": object{"type": "string"}}
		if f := fields.ByName(protoreflect.Name(name)); f != nil {
			p["schema"], p["description"] = d.value(f), api.Comment(f.FullName())
		}
		list = append(list, p)
	}
	if r.body || r.desc.IsStreamingClient() {
		return list
	}
	for i := range fields.Len() {
		if f := fields.Get(i); r.offers(f) {
			list = append(list, object{"name": string(f.Name()), "in": "query", "description": api.Comment(f.FullName()), "schema": d.value(f)})
		}
	}
	return list
}

// message is a reference to the schema of a message, which is made if it is not there.
func (d *documenter) message(m protoreflect.MessageDescriptor) object {
	switch m.FullName() {
	case "google.protobuf.Timestamp":
		return object{"type": "string", "format": "date-time"}
	case "google.protobuf.Duration":
		return object{"type": "string", "description": `A duration, as in "90s" or "1.5h"; answers are in seconds.`}
	}
	name := string(m.Name())
	if _, ok := d.schemas[name]; !ok {
		d.schemas[name] = nil // it may hold itself
		d.schemas[name] = d.object(m, nil)
	}
	return ref(name)
}

// object is the schema of a message, of the fields that are offered.
func (d *documenter) object(m protoreflect.MessageDescriptor, offers func(protoreflect.FieldDescriptor) bool) object {
	properties := object{}
	for i := range m.Fields().Len() {
		f := m.Fields().Get(i)
		if offers != nil && !offers(f) || m.FullName() == outputName && f.Name() == inlineField {
			continue
		}
		schema := d.field(f)
		if text := api.Comment(f.FullName()); text != "" {
			schema = described(schema, text)
		}
		properties[string(f.Name())] = schema
	}
	if m.FullName() == resultName {
		properties["stdout"] = described(ref("Bytes"), "What it wrote to standard output, unless attempt.output.logged says that the output is to be read by itself.")
		properties["stderr"] = described(ref("Bytes"), "What it wrote to standard error, likewise.")
		properties["value"] = described(ref("Bytes"), "What a function returned, or the exception that it raised, likewise.")
	}
	return object{"type": "object", "description": api.Comment(m.FullName()), "properties": properties, "additionalProperties": false}
}

var resultName = (*navvyv1.Result)(nil).ProtoReflect().Descriptor().FullName()

// described adds a description to a schema.
func described(schema object, text string) object {
	if _, ok := schema["$ref"]; ok {
		return object{"allOf": []any{schema}, "description": text}
	}
	schema = maps.Clone(schema)
	if more, ok := schema["description"].(string); ok {
		text += " " + more
	}
	schema["description"] = text
	return schema
}

// field is the schema of a field.
func (d *documenter) field(f protoreflect.FieldDescriptor) object {
	switch {
	case f.IsList():
		return object{"type": "array", "items": d.value(f)}
	case f.IsMap():
		return object{"type": "object", "additionalProperties": d.value(f.MapValue())}
	}
	return d.value(f)
}

// value is the schema of one value of a field.
func (d *documenter) value(f protoreflect.FieldDescriptor) object {
	switch f.Kind() {
	case protoreflect.MessageKind:
		return d.message(f.Message())
	case protoreflect.EnumKind:
		return enumSchema(f.Enum())
	case protoreflect.BytesKind:
		return ref("Bytes")
	case protoreflect.StringKind:
		return object{"type": "string"}
	case protoreflect.BoolKind:
		return object{"type": "boolean"}
	case protoreflect.DoubleKind:
		return object{"type": "number"}
	case protoreflect.Int32Kind:
		return object{"type": "integer", "format": "int32"}
	case protoreflect.Int64Kind:
		return object{"type": "integer", "format": "int64"}
	case protoreflect.Uint32Kind, protoreflect.Uint64Kind:
		return object{"type": "integer", "minimum": 0}
	default:
		panic(fmt.Sprintf("rest: the schema has a %v, %s", f.Kind(), f.FullName())) // a test walks all fields
	}
}

func enumSchema(e protoreflect.EnumDescriptor) object {
	var names []any
	var texts []string
	for i := range e.Values().Len() {
		v := e.Values().Get(i)
		name := enumText(e, v.Number())
		names = append(names, name)
		texts = append(texts, name+": "+api.Comment(v.FullName()))
	}
	return object{"type": "string", "enum": names, "description": strings.Join(texts, " ")}
}

func bytesSchema() object {
	return object{
		"description": "Bytes: text, or an object with them in base 64 where they are no UTF-8.",
		"oneOf": []any{
			object{"type": "string"},
			object{
				"type": "object", "required": []any{base64Key}, "additionalProperties": false,
				"properties": object{base64Key: object{"type": "string", "contentEncoding": "base64"}},
			},
		},
	}
}

func errorSchema() object {
	all := api.ErrorCodes()
	maps.Copy(all, httpErrors)
	var names []any
	var texts []string
	for _, code := range slices.Sorted(maps.Keys(all)) {
		names = append(names, code)
		texts = append(texts, code+": "+strconv.Itoa(all[code])+".")
	}
	return object{
		"type": "object", "description": "What went wrong. Behind lines that have come already, it is the last line of a stream.",
		"required": []any{"error"}, "additionalProperties": false,
		"properties": object{"error": object{
			"type": "object", "description": "The error.", "required": []any{"code", "message"}, "additionalProperties": false,
			"properties": object{
				"code":    object{"type": "string", "enum": names, "description": "Which error, and its status: " + strings.Join(texts, " ")},
				"message": object{"type": "string", "description": "What happened, to what, and what to do, for people."},
			},
		}},
	}
}
