package config

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/navvy-run/navvy/internal/nearest"
	"github.com/navvy-run/navvy/quantity"
)

// maxKey bounds a name that the file chooses itself, such as that of a variable, in bytes.
const maxKey = 128

// decoder puts what YAML has read into the types of a file, and notes each mistake.
type decoder struct {
	mistakes Mistakes
	lines    map[string]int // where each key is
	// nulls says that a key without a value is one that is not there.
	nulls bool
	// older are the keys of a configuration of CloudWorker, by ours that they stand for.
	older map[string]string
	// meant are keys that stand under a wrong name: they are not missing as well.
	meant map[string]bool
	// others are the paths of all keys, for who writes one in the wrong place.
	others []string
}

var (
	typeValue    = reflect.TypeFor[Value]()
	typeDuration = reflect.TypeFor[Duration]()
)

func (d *decoder) wrong(n *yaml.Node, path, format string, args ...any) {
	d.mistakes.add(n.Line, path, format, args...)
}

// into puts a node into a variable of the type of its key.
func (d *decoder) into(n *yaml.Node, v reflect.Value, path string) {
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		d.wrong(n, path, "want the value itself, without & or *")
		return
	case n.Style&yaml.TaggedStyle != 0:
		d.wrong(n, path, "want the value alone, without %s", short(n.Tag))
		return
	case isNull(n):
		d.wrong(n, path, "it has no value; write one, or take the key out")
		return
	}
	switch v.Type() {
	case typeValue:
		d.value(n, v, path)
		return
	case typeDuration:
		d.duration(n, v, path)
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		inner := reflect.New(v.Type().Elem())
		v.Set(inner)
		d.into(n, inner.Elem(), path)
	case reflect.Struct:
		d.section(n, v, path)
	case reflect.Slice:
		d.list(n, v, path)
	case reflect.Map:
		d.names(n, v, path)
	case reflect.String:
		d.text(n, v, path)
	case reflect.Int:
		d.number(n, v, path)
	case reflect.Bool:
		d.flag(n, v, path)
	default:
		panic("config: a field of type " + v.Type().String())
	}
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// section reads keys with their values.
func (d *decoder) section(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		d.wrong(n, path, "want keys with values, each on a line of its own, not %s", what(n))
		return
	}
	fields := fieldsOf(v.Type())
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		at := slices.IndexFunc(fields, func(f field) bool { return f.name == name.Value })
		switch {
		case name.Kind != yaml.ScalarNode || at < 0:
			d.unknown(name, path, fields)
			continue
		case seen[name.Value] > 0:
			d.wrong(name, below(path, name.Value), "the key is there twice, also in line %d", seen[name.Value])
			continue
		}
		seen[name.Value] = name.Line
		if d.nulls && isNull(value) {
			continue
		}
		own := below(path, name.Value)
		d.lines[own] = name.Line
		d.into(value, v.Field(fields[at].index), own)
	}
	d.missing(n, path, fields, seen)
}

func (d *decoder) missing(n *yaml.Node, path string, fields []field, seen map[string]int) {
	for _, f := range fields {
		own := below(path, f.name)
		if !f.required || seen[f.name] > 0 || d.meant[own] {
			continue
		}
		if choice := keyOf(own).words; choice != nil {
			d.wrong(n, own, "it is missing; want one of %s", strings.Join(choice, ", "))
			continue
		}
		d.wrong(n, own, "it is missing")
	}
}

// unknown tells of a key that there is not, and which one may have been meant.
func (d *decoder) unknown(n *yaml.Node, path string, fields []field) {
	if n.Kind != yaml.ScalarNode {
		d.wrong(n, path, "want a word as a key, not %s", what(n))
		return
	}
	var names []string
	for _, f := range fields {
		names = append(names, f.name)
	}
	own := below(path, short(n.Value))
	if near := nearest.To(n.Value, names); near != "" {
		d.meant[below(path, near)] = true
		d.wrong(n, own, "there is no such key; did you mean %s?", below(path, near))
		return
	}
	if at := slices.IndexFunc(d.others, func(other string) bool { return last(other) == n.Value }); at >= 0 {
		d.wrong(n, own, "there is no such key here; did you mean %s?", d.others[at])
		return
	}
	d.wrong(n, own, "there is no such key, only %s", strings.Join(names, ", "))
}

func last(path string) string { return path[strings.LastIndexByte(path, '.')+1:] }

// what says what a node is, for people.
func what(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "keys with values"
	case yaml.SequenceNode:
		return "a list"
	case yaml.ScalarNode, yaml.AliasNode, yaml.DocumentNode:
		if isNull(n) {
			return "nothing"
		}
	}
	return strconv.Quote(short(n.Value))
}

func (d *decoder) list(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.SequenceNode {
		d.wrong(n, path, "want a list, each entry on a line with - before it, not %s", what(n))
		return
	}
	if len(n.Content) == 0 {
		if v.Type().Elem().Kind() == reflect.String {
			d.wrong(n, path, "there is nothing in it")
		}
		return
	}
	list := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
	for i, entry := range n.Content {
		own := fmt.Sprintf("%s[%d]", path, i)
		d.lines[own] = entry.Line
		d.into(entry, list.Index(i), own)
	}
	v.Set(list)
}

// names reads a section whose keys the file chooses.
func (d *decoder) names(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		d.wrong(n, path, "want names with values, each on a line of its own, not %s", what(n))
		return
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		own := below(path, short(name.Value))
		switch {
		case name.Kind != yaml.ScalarNode || isNull(name) || name.Value == "" || len(name.Value) > maxKey:
			d.wrong(name, own, "want a name of 1 to %d bytes before the colon", maxKey)
			continue
		case seen[name.Value] > 0:
			d.wrong(name, own, "the name is there twice, also in line %d", seen[name.Value])
			continue
		}
		seen[name.Value] = name.Line
		d.lines[own] = name.Line
		entry := reflect.New(v.Type().Elem()).Elem()
		if entry.Kind() == reflect.String {
			if text, ok := d.scalar(value, own, "!!str", "!!int", "!!float", "!!bool"); ok {
				entry.SetString(text)
			}
		} else {
			d.into(value, entry, own)
		}
		if v.IsNil() {
			v.Set(reflect.MakeMap(v.Type()))
		}
		v.SetMapIndex(reflect.ValueOf(name.Value), entry)
	}
}

// scalar is the text of a value that is written as one of the types that are named.
func (d *decoder) scalar(n *yaml.Node, path string, tags ...string) (string, bool) {
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "" || n.Style&yaml.TaggedStyle != 0:
		d.wrong(n, path, "want the value itself, without &, * or !")
	case n.Kind != yaml.ScalarNode:
		d.wrong(n, path, "want one value, not %s", what(n))
	case isNull(n):
		d.wrong(n, path, "it has no value; write one, or take the key out")
	case n.ShortTag() == "!!timestamp" && slices.Contains(tags, "!!str"):
		return n.Value, true // a text that looks like a date is one
	case !slices.Contains(tags, n.ShortTag()):
		d.wrong(n, path, "%s", wanted(n, tags[0]))
	default:
		return n.Value, true
	}
	return "", false
}

// wanted says what a value of another type would have to be.
func wanted(n *yaml.Node, tag string) string {
	switch tag {
	case "!!int":
		return fmt.Sprintf("want a whole number, not %s", what(n))
	case "!!bool":
		return fmt.Sprintf("want true or false, not %s", what(n))
	default:
		return fmt.Sprintf("want a text; in quotes it is one: %s", what(n))
	}
}

func (d *decoder) text(n *yaml.Node, v reflect.Value, path string) {
	k := keyOf(path)
	tags := []string{"!!str"}
	if k.form != formText {
		tags = append(tags, "!!int", "!!float")
	}
	text, ok := d.scalar(n, path, tags...)
	if !ok {
		return
	}
	var err error
	switch k.form {
	case formCPUs:
		_, err = quantity.ParseCPUs(text)
	case formSize:
		_, err = quantity.ParseSize(text)
	case formText, formDuration:
		if text == "" && !d.nulls {
			d.wrong(n, path, "it has no value; write one, or take the key out")
			return
		}
	}
	switch {
	case err != nil:
		d.wrong(n, path, "%s", why(err))
	case k.words != nil && !slices.Contains(k.words, text):
		d.wrong(n, path, "%s", choose(text, k.words))
	default:
		v.SetString(text)
	}
}

// choose says that a word is none of those that there are.
func choose(text string, among words) string {
	if near := nearest.To(text, among); near != "" {
		return fmt.Sprintf("%q is none of %s; did you mean %s?", short(text), strings.Join(among, ", "), near)
	}
	return fmt.Sprintf("%q is none of %s", short(text), strings.Join(among, ", "))
}

func (d *decoder) number(n *yaml.Node, v reflect.Value, path string) {
	text, ok := d.scalar(n, path, "!!int")
	if !ok {
		return
	}
	least := keyOf(path).least
	switch number, err := quantity.ParseCount(strings.TrimPrefix(text, "-")); {
	case err != nil || number > 1<<31-1:
		d.wrong(n, path, "%s: want a whole number in plain digits, below 2^31", short(text))
	case strings.HasPrefix(text, "-") || number < int64(least):
		d.wrong(n, path, "%s is too few, %d is the least", short(text), least)
	default:
		v.SetInt(number)
	}
}

func (d *decoder) flag(n *yaml.Node, v reflect.Value, path string) {
	if text, ok := d.scalar(n, path, "!!bool"); ok {
		v.SetBool(strings.EqualFold(text, "true"))
	}
}

func (d *decoder) duration(n *yaml.Node, v reflect.Value, path string) {
	text, ok := d.scalar(n, path, "!!str", "!!int", "!!float")
	if !ok {
		return
	}
	switch span, err := quantity.ParseDuration(text); {
	case err != nil:
		d.wrong(n, path, "%s", why(err))
	case span <= 0:
		d.wrong(n, path, "%s: want more than nothing; take the key out for what holds without it", short(text))
	default:
		v.SetInt(int64(span))
	}
}

// value reads a text, {env: NAME} or {file: PATH}.
func (d *decoder) value(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		if n.Kind == yaml.SequenceNode {
			d.wrong(n, path, "want a text, {env: NAME} or {file: PATH}, not a list")
			return
		}
		if text, ok := d.scalar(n, path, "!!str", "!!int", "!!float", "!!bool"); ok {
			v.Set(reflect.ValueOf(Value{Text: text}))
		}
		return
	}
	var r reference
	before := len(d.mistakes.List)
	d.section(n, reflect.ValueOf(&r).Elem(), path)
	switch {
	case len(d.mistakes.List) > before:
	case (r.Env == "") == (r.File == ""):
		d.wrong(n, path, "want either {env: NAME} or {file: PATH}")
	default:
		v.Set(reflect.ValueOf(Value{Env: r.Env, File: r.File}))
	}
}
