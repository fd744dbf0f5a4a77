package rest

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/navvy-run/navvy"
)

// object is a JSON object; its numbers are json.Number.
type object = map[string]any

// decodeObject reads one JSON object and nothing behind it. The error wraps navvy.ErrInvalid.
func decodeObject(b []byte) (object, error) {
	v, err := decodeJSON(b)
	if err != nil {
		return nil, err
	}
	o, ok := v.(object)
	if !ok {
		return nil, errNoObject
	}
	return o, nil
}

var errNoObject = invalid("want a JSON object, as in {\"spec\": …}")

// decodeBeside reads one JSON object, but for a field that may be large, which stays
// text; nil if it is not there. All others have a bound together: decoded they may take
// 60 times the memory.
func decodeBeside(b []byte, large string) (o object, text json.RawMessage, err error) {
	d := json.NewDecoder(bytes.NewReader(b))
	if start, err := d.Token(); err != nil {
		return nil, nil, noJSON(err)
	} else if start != json.Delim('{') {
		return nil, nil, errNoObject
	}
	o = object{}
	for size := 0; d.More(); {
		token, err := d.Token()
		var raw json.RawMessage
		if err == nil {
			err = d.Decode(&raw)
		}
		if err != nil {
			return nil, nil, noJSON(err)
		}
		key, _ := token.(string) // as all keys are
		if _, had := o[key]; had || key == large && text != nil {
			return nil, nil, errTwice(key)
		}
		if key == large {
			text = raw
			continue
		}
		if size += len(key) + len(raw); size > maxBody {
			return nil, nil, &httpError{http.StatusRequestEntityTooLarge, "too_large", fmt.Sprintf("there are more than %d bytes beside %s", maxBody, large)}
		}
		if o[key], err = decodeJSON(raw); err != nil {
			return nil, nil, err
		}
	}
	if _, err := d.Token(); err != nil {
		return nil, nil, noJSON(err)
	}
	if d.More() {
		return nil, nil, moreThan(d)
	}
	return o, text, nil
}

func noJSON(err error) error { return invalid("this is no JSON: %v", err) }

func errTwice(key string) error { return invalid("%s: it is there twice in one object", key) }

func moreThan(d *json.Decoder) error {
	return invalid("there is more behind the JSON value, at byte %d", d.InputOffset())
}

// decodeJSON reads one JSON value and nothing behind it.
func decodeJSON(b []byte) (any, error) {
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, noJSON(err)
	}
	if d.More() {
		return nil, moreThan(d)
	}
	if key := repeated(b); key != "" {
		return nil, errTwice(key)
	}
	return v, nil
}

// repeated is a key that an object of a JSON value has twice, of which a decoder drops
// one; empty if there is none. The value is known to be good.
func repeated(b []byte) string {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var open []map[string]bool // the keys so far of the objects around; nil for an array
	key := false               // what comes next is one, if it is not the end
	for {
		token, err := d.Token()
		if err != nil {
			return ""
		}
		switch token {
		case json.Delim('{'):
			open, key = append(open, map[string]bool{}), true
			continue
		case json.Delim('['):
			open, key = append(open, nil), false
			continue
		case json.Delim('}'), json.Delim(']'):
			open = open[:len(open)-1]
		default:
			if name, ok := token.(string); ok && key {
				keys := open[len(open)-1]
				if keys[name] {
					return name
				}
				keys[name], key = true, false
				continue
			}
		}
		key = len(open) > 0 && open[len(open)-1] != nil
	}
}

func invalid(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, navvy.ErrInvalid)...)
}

// fill sets the fields of a message from an object. path leads to the object, for errors;
// offers tells whether a field of the message itself may be set, nil for all.
func fill(m protoreflect.Message, o object, path string, offers func(protoreflect.FieldDescriptor) bool) error {
	fields := m.Descriptor().Fields()
	for key, v := range o {
		f := fields.ByName(protoreflect.Name(key))
		if f == nil || offers != nil && !offers(f) {
			return invalid("unknown field %s; there is %s", at(path, key), names(fields, offers))
		}
		if v == nil {
			continue // as if it were not there
		}
		if one := f.ContainingOneof(); one != nil && m.WhichOneof(one) != nil {
			return invalid("%s and %s: give one of them", at(path, string(m.WhichOneof(one).Name())), at(path, key))
		}
		if err := setField(m, f, v, at(path, key)); err != nil {
			return err
		}
	}
	return nil
}

// names are those of fields, for people.
func names(fields protoreflect.FieldDescriptors, offers func(protoreflect.FieldDescriptor) bool) string {
	var list []string
	for i := range fields.Len() {
		if f := fields.Get(i); offers == nil || offers(f) {
			list = append(list, string(f.Name()))
		}
	}
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, ", ")
}

func at(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func setField(m protoreflect.Message, f protoreflect.FieldDescriptor, v any, path string) error {
	switch {
	case f.IsList():
		items, ok := v.([]any)
		if !ok {
			return invalid("%s: want an array", path)
		}
		list := m.Mutable(f).List()
		for i, item := range items {
			value, err := readValue(f, list.NewElement, item, fmt.Sprintf("%s[%d]", path, i))
			if err != nil {
				return err
			}
			list.Append(value)
		}
		return nil
	case f.IsMap():
		o, ok := v.(object)
		if !ok {
			return invalid("%s: want an object", path)
		}
		all := m.Mutable(f).Map()
		for key, item := range o {
			value, err := readValue(f.MapValue(), all.NewValue, item, at(path, key))
			if err != nil {
				return err
			}
			all.Set(protoreflect.ValueOfString(key).MapKey(), value)
		}
		return nil
	}
	value, err := readValue(f, func() protoreflect.Value { return m.NewField(f) }, v, path)
	if err == nil {
		m.Set(f, value)
	}
	return err
}

// readValue reads one value of a field; empty makes one for a message.
func readValue(f protoreflect.FieldDescriptor, empty func() protoreflect.Value, v any, path string) (protoreflect.Value, error) {
	switch f.Kind() {
	case protoreflect.MessageKind:
		value := empty()
		return value, readMessage(value.Message(), v, path)
	case protoreflect.EnumKind:
		return readEnum(f.Enum(), v, path)
	case protoreflect.BytesKind:
		b, err := readBytes(v, path)
		return protoreflect.ValueOfBytes(b), err
	case protoreflect.StringKind:
		if s, ok := v.(string); ok {
			return protoreflect.ValueOfString(s), nil
		}
		return protoreflect.Value{}, invalid("%s: want a string", path)
	case protoreflect.BoolKind:
		if b, ok := v.(bool); ok {
			return protoreflect.ValueOfBool(b), nil
		}
		return protoreflect.Value{}, invalid("%s: want true or false", path)
	default:
		return readNumber(f.Kind(), v, path)
	}
}

func readMessage(m protoreflect.Message, v any, path string) error {
	switch x := m.Interface().(type) {
	case *timestamppb.Timestamp:
		s, _ := v.(string)
		t, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			return invalid("%s: want a time as in 2026-11-22T08:00:00Z", path)
		}
		x.Seconds, x.Nanos = t.Unix(), int32(t.Nanosecond())
		return nil
	case *durationpb.Duration:
		s, _ := v.(string)
		d, err := time.ParseDuration(s)
		if err != nil {
			return invalid("%s: want a duration as in \"90s\" or \"1.5h\"", path)
		}
		x.Seconds, x.Nanos = int64(d/time.Second), int32(d%time.Second)
		return nil
	}
	o, ok := v.(object)
	if !ok {
		return invalid("%s: want an object", path)
	}
	return fill(m, o, path, nil)
}

func readEnum(e protoreflect.EnumDescriptor, v any, path string) (protoreflect.Value, error) {
	var all []string
	for i := range e.Values().Len() {
		n := e.Values().Get(i).Number()
		text := enumText(e, n)
		if v == text {
			return protoreflect.ValueOfEnum(n), nil
		}
		all = append(all, text)
	}
	return protoreflect.Value{}, invalid("%s: want one of %s", path, strings.Join(all, ", "))
}

// readInput reads what readBytes does, of a JSON value that nothing else is made of.
func readInput(raw json.RawMessage, path string) ([]byte, error) {
	switch raw[0] {
	case '"':
		var text string
		err := json.Unmarshal(raw, &text)
		return []byte(text), err
	case '{':
		d := json.NewDecoder(bytes.NewReader(raw))
		var tokens [4]json.Token
		for i := range tokens {
			tokens[i], _ = d.Token() // it is JSON, and ends with the last one
		}
		if tokens[1] == base64Key && tokens[3] == json.Delim('}') {
			return readBytes(object{base64Key: tokens[2]}, path)
		}
	}
	return readBytes(nil, path)
}

// readBytes reads text or {"base64": …}.
func readBytes(v any, path string) ([]byte, error) {
	switch v := v.(type) {
	case string:
		return []byte(v), nil
	case object:
		if s, ok := v[base64Key].(string); ok && len(v) == 1 {
			if b, err := base64.StdEncoding.DecodeString(s); err == nil {
				return b, nil
			}
		}
	}
	return nil, invalid("%s: want a string, or {\"base64\": \"…\"} for bytes that are no text", path)
}

// readNumber reads a number, which may be in quotes: not all programs have integers of 64 bits.
func readNumber(kind protoreflect.Kind, v any, path string) (protoreflect.Value, error) {
	text := ""
	switch v := v.(type) {
	case json.Number:
		text = v.String()
	case string:
		text = v
	}
	value, err := parseNumber(kind, text)
	if err != nil {
		return value, invalid("%s: want %s", path, numberKinds[kind])
	}
	return value, nil
}

var numberKinds = map[protoreflect.Kind]string{
	protoreflect.DoubleKind: "a number",
	protoreflect.Int32Kind:  "an integer of 32 bits",
	protoreflect.Int64Kind:  "an integer",
	protoreflect.Uint32Kind: "an integer of 32 bits, not below 0",
	protoreflect.Uint64Kind: "an integer, not below 0",
}

func parseNumber(kind protoreflect.Kind, text string) (v protoreflect.Value, err error) {
	switch kind {
	case protoreflect.DoubleKind:
		var n float64
		if n, err = strconv.ParseFloat(text, 64); err == nil && (math.IsInf(n, 0) || math.IsNaN(n)) {
			err = strconv.ErrRange
		}
		v = protoreflect.ValueOfFloat64(n)
	case protoreflect.Int32Kind:
		var n int64
		n, err = strconv.ParseInt(text, 10, 32)
		v = protoreflect.ValueOfInt32(int32(n))
	case protoreflect.Int64Kind:
		var n int64
		n, err = strconv.ParseInt(text, 10, 64)
		v = protoreflect.ValueOfInt64(n)
	case protoreflect.Uint32Kind:
		var n uint64
		n, err = strconv.ParseUint(text, 10, 32)
		v = protoreflect.ValueOfUint32(uint32(n))
	case protoreflect.Uint64Kind:
		var n uint64
		n, err = strconv.ParseUint(text, 10, 64)
		v = protoreflect.ValueOfUint64(n)
	default:
		panic(fmt.Sprintf("rest: the schema has a %v", kind)) // a test walks all fields
	}
	return v, err
}

// limitParam is how much is asked for, of all calls that have it.
const limitParam = "limit"

// fillQuery sets the fields of a message from the parameters of a query.
func fillQuery(m protoreflect.Message, query map[string][]string, offers func(protoreflect.FieldDescriptor) bool) error {
	fields := m.Descriptor().Fields()
	for key, values := range query {
		f := fields.ByName(protoreflect.Name(key))
		if f == nil || !offers(f) {
			return invalid("unknown parameter %s; there is %s", key, names(fields, offers))
		}
		if len(values) > 1 {
			return invalid("parameter %s: give it once", key)
		}
		if err := setField(m, f, fromQuery(f, values[0]), "parameter "+key); err != nil {
			return err
		}
		if key == limitParam && m.Get(f).Int() < 0 {
			return invalid("parameter %s: want an integer, not below 0", key)
		}
	}
	return nil
}

// fromQuery is a parameter as JSON would have it. A flag without a value is set.
func fromQuery(f protoreflect.FieldDescriptor, text string) any {
	if f.Kind() != protoreflect.BoolKind {
		return text
	}
	return boolean(text)
}

func boolean(text string) any {
	switch {
	case slices.Contains([]string{"", "true", "1"}, text):
		return true
	case slices.Contains([]string{"false", "0"}, text):
		return false
	}
	return text
}
