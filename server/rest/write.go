package rest

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
	"github.com/navvy-run/navvy/output"
)

// A message in JSON is an object with the names of the schema. All fields are there,
// but messages and optional fields that are unset. Integers are numbers, also those of
// 64 bits; enums their names in lower case, without what all begin with; times are RFC
// 3339, durations as in "1.5s"; bytes are text, or, where they are no UTF-8,
// {"base64": …}. The frames of a result's short output are its stdout and stderr.

// base64Key is the key of the object that stands for bytes that are no text.
const base64Key = "base64"

// inlineField is the field of navvy.v1.Output that JSON shows as two texts of the result.
const inlineField = "inline"

// appendMessage appends a message in JSON.
func appendMessage(b []byte, m protoreflect.Message) []byte {
	switch x := m.Interface().(type) {
	case *timestamppb.Timestamp:
		return appendText(b, x.AsTime().Format(time.RFC3339Nano))
	case *durationpb.Duration:
		return appendText(b, durationText(x.AsDuration()))
	}
	name := m.Descriptor().FullName()
	b = append(b, '{')
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if f.HasPresence() && !m.Has(f) || name == outputName && f.Name() == inlineField {
			continue
		}
		b = append(appendText(comma(b), string(f.Name())), ':')
		b = appendField(b, f, m.Get(f))
	}
	if r, ok := m.Interface().(*navvyv1.Result); ok {
		b = appendShortOutput(b, r)
	}
	return append(b, '}')
}

var outputName = (*navvyv1.Output)(nil).ProtoReflect().Descriptor().FullName()

// comma separates what comes from what was before it in an object or array.
func comma(b []byte) []byte {
	if last := b[len(b)-1]; last != '{' && last != '[' {
		b = append(b, ',')
	}
	return b
}

// appendShortOutput adds what a task wrote, if that travels with its result.
func appendShortOutput(b []byte, r *navvyv1.Result) []byte {
	out := r.GetAttempt().GetOutput()
	if out.GetLogged() {
		return b
	}
	var parts [output.Value + 1][]byte
	for rest := out.GetInline(); len(rest) > 0; {
		s, payload, next, err := output.Next(rest)
		if err != nil {
			return b // damaged; who reads the output is told
		}
		rest = next
		parts[s] = append(parts[s], payload...)
	}
	b = appendBytes(append(b, `,"stdout":`...), parts[output.Stdout])
	b = appendBytes(append(b, `,"stderr":`...), parts[output.Stderr])
	if value := parts[output.Value]; value != nil {
		b = appendBytes(append(b, `,"value":`...), value)
	}
	return b
}

// appendField appends the value of a field.
func appendField(b []byte, f protoreflect.FieldDescriptor, v protoreflect.Value) []byte {
	switch {
	case f.IsList():
		b = append(b, '[')
		for i := range v.List().Len() {
			b = appendValue(comma(b), f, v.List().Get(i))
		}
		return append(b, ']')
	case f.IsMap():
		var keys []string
		v.Map().Range(func(k protoreflect.MapKey, _ protoreflect.Value) bool {
			keys = append(keys, k.String())
			return true
		})
		slices.Sort(keys)
		b = append(b, '{')
		for _, k := range keys {
			b = append(appendText(comma(b), k), ':')
			b = appendValue(b, f.MapValue(), v.Map().Get(protoreflect.ValueOfString(k).MapKey()))
		}
		return append(b, '}')
	}
	return appendValue(b, f, v)
}

// appendValue appends one value of a field.
func appendValue(b []byte, f protoreflect.FieldDescriptor, v protoreflect.Value) []byte {
	switch f.Kind() {
	case protoreflect.MessageKind:
		return appendMessage(b, v.Message())
	case protoreflect.EnumKind:
		return appendText(b, enumText(f.Enum(), v.Enum()))
	case protoreflect.BytesKind:
		return appendBytes(b, v.Bytes())
	case protoreflect.StringKind:
		return appendText(b, v.String())
	case protoreflect.BoolKind:
		return strconv.AppendBool(b, v.Bool())
	case protoreflect.DoubleKind:
		return strconv.AppendFloat(b, v.Float(), 'g', -1, 64)
	case protoreflect.Int32Kind, protoreflect.Int64Kind:
		return strconv.AppendInt(b, v.Int(), 10)
	case protoreflect.Uint32Kind, protoreflect.Uint64Kind:
		return strconv.AppendUint(b, v.Uint(), 10)
	default:
		panic(fmt.Sprintf("rest: the schema has a %v, %s", f.Kind(), f.FullName())) // a test walks all fields
	}
}

// appendBytes appends bytes: text, or base 64 (RFC 4648, section 4).
func appendBytes(b, value []byte) []byte {
	if utf8.Valid(value) {
		return appendText(b, string(value))
	}
	b = append(b, `{"`+base64Key+`":"`...)
	b = base64.StdEncoding.AppendEncode(b, value)
	return append(b, `"}`...)
}

// appendText appends a string in JSON (RFC 8259, section 7); what is no UTF-8 in it
// becomes U+FFFD.
func appendText(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for i, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r == '\n':
			b = append(b, '\\', 'n')
		case r == '\t':
			b = append(b, '\\', 't')
		case r < ' ' || r == 0x7f:
			b = append(b, '\\', 'u', '0', '0', hex[r>>4], hex[r&15])
		case r == utf8.RuneError && !strings.HasPrefix(s[i:], string(utf8.RuneError)):
			b = append(b, `\ufffd`...)
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return append(b, '"')
}

// enumText is the name of an enum's value: STATE_QUEUED is queued.
func enumText(e protoreflect.EnumDescriptor, n protoreflect.EnumNumber) string {
	v := e.Values().ByNumber(n)
	if v == nil {
		return strconv.Itoa(int(n))
	}
	return strings.ToLower(strings.TrimPrefix(string(v.Name()), enumPrefix(e)))
}

// enumPrefix is what the names of an enum's values begin with.
func enumPrefix(e protoreflect.EnumDescriptor) string {
	return strings.TrimSuffix(string(e.Values().ByNumber(0).Name()), "UNSPECIFIED")
}

// durationText is a duration in seconds, as in "1.5s".
func durationText(d time.Duration) string {
	return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) + "s"
}

// marshal is a message in JSON, and a line end.
func marshal(m proto.Message) []byte {
	return append(appendMessage(nil, m.ProtoReflect()), '\n')
}
