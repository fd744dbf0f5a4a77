package rest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	"github.com/navvy-run/navvy"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
	"github.com/navvy-run/navvy/output"
)

// messages are all kinds of the schema that have no form of their own in JSON.
func messages() (list []protoreflect.MessageType) {
	protoregistry.GlobalTypes.RangeMessages(func(m protoreflect.MessageType) bool {
		name := string(m.Descriptor().FullName())
		if strings.HasPrefix(name, "navvy.v1.") && !m.Descriptor().IsMapEntry() {
			list = append(list, m)
		}
		return true
	})
	return list
}

// draw fills a message with anything.
func draw(t *rapid.T, m protoreflect.Message, depth int) {
	switch x := m.Interface().(type) {
	case *timestamppb.Timestamp:
		x.Seconds, x.Nanos = rapid.Int64Range(0, 4e9).Draw(t, "seconds"), rapid.Int32Range(0, 999_999_999).Draw(t, "nanos")
		return
	case *durationpb.Duration:
		x.Seconds = rapid.Int64Range(-1e6, 1e6).Draw(t, "seconds")
		return
	}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if depth == 0 && f.Message() != nil || rapid.Bool().Draw(t, "skip") ||
			f.ContainingOneof() != nil && m.WhichOneof(f.ContainingOneof()) != nil || m.Descriptor().FullName() == outputName && f.Name() == inlineField {
			continue
		}
		switch {
		case f.IsList():
			list := m.Mutable(f).List()
			for range rapid.IntRange(0, 3).Draw(t, "length") {
				list.Append(drawValue(t, f, list.NewElement, depth))
			}
		case f.IsMap():
			all := m.Mutable(f).Map()
			for range rapid.IntRange(0, 3).Draw(t, "length") {
				all.Set(protoreflect.ValueOfString(rapid.String().Draw(t, "key")).MapKey(), drawValue(t, f.MapValue(), all.NewValue, depth))
			}
		default:
			m.Set(f, drawValue(t, f, func() protoreflect.Value { return m.NewField(f) }, depth))
		}
	}
}

func drawValue(t *rapid.T, f protoreflect.FieldDescriptor, empty func() protoreflect.Value, depth int) protoreflect.Value {
	switch f.Kind() {
	case protoreflect.MessageKind:
		v := empty()
		draw(t, v.Message(), depth-1)
		return v
	case protoreflect.EnumKind:
		values := f.Enum().Values()
		return protoreflect.ValueOfEnum(values.Get(rapid.IntRange(0, values.Len()-1).Draw(t, "enum")).Number())
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes"))
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(rapid.String().Draw(t, "string"))
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(rapid.Bool().Draw(t, "bool"))
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(rapid.Float64().Filter(func(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }).Draw(t, "double"))
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(rapid.Int32().Draw(t, "int32"))
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(rapid.Int64().Draw(t, "int64"))
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(rapid.Uint32().Draw(t, "uint32"))
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(rapid.Uint64().Draw(t, "uint64"))
	default:
		t.Fatalf("the schema has a %v: %s", f.Kind(), f.FullName())
		return protoreflect.Value{}
	}
}

// Any message is JSON, and comes back as it was.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	kinds := messages()
	if len(kinds) < 50 {
		t.Fatalf("only %d kinds of messages", len(kinds))
	}
	rapid.Check(t, func(t *rapid.T) {
		kind := kinds[rapid.IntRange(0, len(kinds)-1).Draw(t, "kind")]
		m := kind.New()
		draw(t, m, 3)
		text := marshal(m.Interface())
		if !json.Valid(text) {
			t.Fatalf("no JSON: %s", text)
		}
		o, err := decodeObject(text)
		if err != nil {
			t.Fatal(err)
		}
		if kind.Descriptor().FullName() == resultName {
			delete(o, "stdout")
			delete(o, "stderr")
		}
		if strings.Contains(string(text), `,"stdout":"","stderr":""`) {
			return // a result within
		}
		got := kind.New()
		if err := fill(got, o, "", nil); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if !proto.Equal(m.Interface(), got.Interface()) {
			t.Fatalf("%s\ncame back as\n%s", text, marshal(got.Interface()))
		}
	})
}

// What a task wrote is text; what is in a log is read there; what is no text is bytes.
func TestShortOutput(t *testing.T) {
	t.Parallel()
	frames := output.AppendFrame(nil, output.Stdout, []byte("a\"\n"))
	frames = output.AppendFrame(frames, output.Stderr, []byte{0xff})
	frames = output.AppendFrame(frames, output.Stdout, []byte("\x01\u2028é"))
	r := &navvyv1.Result{Attempt: &navvyv1.Attempt{Output: &navvyv1.Output{Inline: frames}}}
	if got := string(marshal(r)); !strings.HasSuffix(got, `,"stdout":"a\"\n\u0001`+"\u2028é"+`","stderr":{"base64":"/w=="}}`+"\n") || strings.Contains(got, "inline") {
		t.Errorf("it is %s", got)
	}
	r.Attempt.Output.Logged = true
	if got := string(marshal(r)); strings.Contains(got, `"a\"`) {
		t.Errorf("of a log there is %s", got)
	}
	r.Attempt.Output = &navvyv1.Output{Inline: []byte("no frames")}
	if got := marshal(r); !json.Valid(got) {
		t.Errorf("of what is damaged there is %s", got)
	}
}

// What is not a job takes little more memory than it is large. It runs
// alone, since it looks at the memory of the process.
func TestNoJob(t *testing.T) {
	const size, bound = 2 << 20, 30 << 20 // decoded it would be 120 MiB
	e := &exchange{Handler: New(nil, nil, nil), r: &http.Request{}, ctx: t.Context(), control: http.NewResponseController(httptest.NewRecorder())}
	reads := map[string]func([]byte) error{
		`{"spec":{"noop":{}},"inputs":[%s]}`: func(text []byte) error {
			_, inputs, err := e.job(text)
			if err != nil {
				return err
			}
			next, err := fromList(inputs)
			if err == nil {
				_, err = next()
			}
			return err
		},
		`{"spec":[%s]}`: func(text []byte) error {
			_, _, err := e.job(text)
			return err
		},
		`{"spec":{"noop":{}},"input":[%s]}`: func(text []byte) error {
			_, err := e.runCall(text)
			return err
		},
		`[%s]`: func(text []byte) error {
			lines := &inLines{exchange: e, r: bufio.NewReader(bytes.NewReader(text))}
			_, err := fromLines(lines, typeNDJSON)()
			lines.done()
			return err
		},
	}
	for _, one := range []string{"[]", `{"":0}`} {
		many := strings.Repeat(one+",", size/(len(one)+1)) + one
		for form, read := range reads {
			text := []byte(strings.ReplaceAll(form, "%s", many))
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			err := read(text)
			runtime.ReadMemStats(&after)
			if _, ok := errors.AsType[*httpError](err); !ok && !errors.Is(err, navvy.ErrInvalid) {
				t.Errorf("%s of %s: %v", form, one, err)
			}
			if n := after.TotalAlloc - before.TotalAlloc; n > bound {
				t.Errorf("%s of %s takes %d MiB", form, one, n>>20)
			}
		}
	}
}

// An input is text or bytes, and nothing else.
func TestReadInput(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{`"a\n"`: "a\n", `{"base64":"YQ=="}`: "a", `{ "base64" : "" }`: ""} {
		if b, err := readInput(json.RawMessage(text), "it"); err != nil || string(b) != want {
			t.Errorf("%s is %q, %v", text, b, err)
		}
	}
	next, err := fromList(json.RawMessage("[ \"a\" ,\n {\"base64\": \"Yg==\"}\t]"))
	for _, want := range []string{"a", "b"} {
		if b, err := next(); err != nil || string(b) != want {
			t.Errorf("in the list is %q, %v, want %s", b, err, want)
		}
	}
	if _, end := next(); err != nil || !errors.Is(end, io.EOF) {
		t.Errorf("the list ends with %v, %v", err, end)
	}
	for _, text := range []string{"1", "null", "[]", "{}", `{"base64":1}`, `{"base64":"?"}`, `{"base64":"YQ==","more":1}`, `{"more":"YQ=="}`, `{"base64":{}}`, `{"base64":[]}`} {
		if b, err := readInput(json.RawMessage(text), "it"); !errors.Is(err, navvy.ErrInvalid) {
			t.Errorf("%s is %q, %v", text, b, err)
		}
	}
}

// FuzzFill gives foreign JSON to the reader of a job.
func FuzzFill(f *testing.F) {
	for _, text := range []string{
		`{"spec":{"command":{"args":["echo",{"base64":"/w=="}]},"timeout":"1.5s","labels":{"a":"b"},"limits":{"memory":"5"}},"priority":-1}`,
		`{"max_fails":{"percent":1e308},"format":"fields","accepted":"2026-11-22T08:00:00Z"}`, `{"spec":{"noop":null}}`, `[]`, `{"a":1}{`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := decodeObject(b)
		m := &navvyv1.Job{}
		if err == nil {
			err = fill(m.ProtoReflect(), o, "", nil)
		}
		if err != nil {
			if !errors.Is(err, navvy.ErrInvalid) {
				t.Fatal(err)
			}
			return
		}
		if text := marshal(m); !json.Valid(text) {
			t.Fatalf("%s became %s", b, text)
		}
	})
}

// FuzzFind gives foreign paths to the router.
func FuzzFind(f *testing.F) {
	for _, path := range []string{"/v1/jobs/x/tasks/1/output", "/v1/kv/a%2Fb//c", "/v1/kv/%zz", "/v1//", ""} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		r, vars, _ := find("GET", path)
		if r != nil && len(vars) != len(r.variables()) {
			t.Fatalf("%q is %s with %v", path, r.path, vars)
		}
	})
}
