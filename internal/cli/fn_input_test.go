package cli

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/navvy-run/navvy"
)

func TestCallFromArgs(t *testing.T) {
	t.Parallel()
	stdin := func() ([]byte, error) { return []byte(" [1,\n 2]\n"), nil }
	for _, c := range []struct {
		args   []string
		kwargs string
		want   string
	}{
		{nil, "", `{"args":[]}`},
		{[]string{"3", `"a=b"`, "-1", "null"}, "", `{"args":[3,"a=b",-1,null]}`},
		{[]string{"-", "low=-"}, "", `{"args":[[1,2]],"kwargs":{"low":[1,2]}}`},
		{[]string{"1", `größe="<ü>"`}, `{"b": {"c": 1e400}}`, `{"args":[1],"kwargs":{"b":{"c":1e400},"größe":"<ü>"}}`},
	} {
		got, err := callFromArgs(c.args, c.kwargs, stdin)
		if diff := cmp.Diff(c.want, string(got)); err != nil || diff != "" {
			t.Errorf("%q, %s: %v; want -, got +:\n%s", c.args, c.kwargs, err, diff)
		}
	}
	for _, c := range []struct {
		args   []string
		kwargs string
	}{
		{[]string{"a"}, ""}, {[]string{"1 2"}, ""}, {[]string{""}, ""}, {[]string{"x="}, ""}, {[]string{"\"\xff\""}, ""}, {[]string{"1=2"}, ""},
		{[]string{"a=1", "2"}, ""}, {[]string{"a=1"}, `{"a":1}`}, {nil, "null"}, {nil, "{"}, {nil, "[]"},
	} {
		got, err := callFromArgs(c.args, c.kwargs, stdin)
		if _, usage := errors.AsType[*usageError](err); !usage {
			t.Errorf("%q, %s: %s, %v", c.args, c.kwargs, got, err)
		}
	}
}

func TestFunctionArg(t *testing.T) {
	t.Parallel()
	for arg, want := range map[string]navvy.Function{
		"f": {Name: "f"}, "f@2": {Name: "f", Version: 2}, "a@b@3": {Name: "a@b", Version: 3}, "f@": {Name: "f@"}, "f@x": {Name: "f@x"},
		"@2": {Name: "@2"}, "<lambda>@1": {Name: "<lambda>", Version: 1}, "f@99999999999": {Name: "f@99999999999"},
	} {
		name, version, err := functionArg(arg)
		if err != nil || name != want.Name || version != want.Version {
			t.Errorf("%s is %q, %d, %v", arg, name, version, err)
		}
	}
	for _, arg := range []string{"", "f@0", "a b", "a\x00"} {
		if _, _, err := functionArg(arg); err == nil {
			t.Errorf("%q is a function", arg)
		}
	}
}

// FuzzAppendCall gives foreign text to what makes inputs of calls: what comes out is the
// input of a call, behind what was there.
func FuzzAppendCall(f *testing.F) {
	for _, text := range []string{"1", " [1, 2] ", `{"a": "\ud800"}`, "", "[", "1 2", "\"\xff\"", "\u2028"} {
		f.Add([]byte(text), true)
		f.Add([]byte(text), false)
	}
	f.Fuzz(func(t *testing.T, text []byte, spread bool) {
		b, err := appendCall([]byte("x"), text, spread)
		if err != nil {
			if !errors.Is(err, navvy.ErrInvalid) {
				t.Fatal(err)
			}
			return
		}
		var call callInput
		if err := json.Unmarshal(b[1:], &call); err != nil || b[0] != 'x' || !spread && len(call.Args) != 1 || call.Args == nil {
			t.Fatalf("%q becomes %q: %v", text, b, err)
		}
	})
}
