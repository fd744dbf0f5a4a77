package kubernetes

import (
	"encoding/base64"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/navvy-run/navvy/cluster/config"
	"github.com/navvy-run/navvy/cluster/driver"
)

// What a file is compiled to is the same each time, also without a server; secrets are in
// Secrets, and in nothing that is compared or kept.
func TestCompile(t *testing.T) {
	t.Parallel()
	const secret, password = "of-a-service", "pass-of-the-broker"
	d := &Driver{o: Options{CheckService: func(string) error { return nil }, CheckQueue: func(string, string) error { return nil }, Getenv: func(name string) string {
		return map[string]string{"SECRET": secret, "BROKER": "nats://user:" + password + "@nats.queues:4222"}[name]
	}}}
	w := &world{namespace: "space"}
	autoscaled := w.described(t, "scaled", 0)
	autoscaled.Workers.Autoscale = &config.Autoscale{Min: 1, Max: 5}
	for _, c := range []*config.Cluster{w.described(t, "served", 2), w.answering(t, "answers"), parsed(t, autoscaled)} {
		var first string
		for range 10 {
			list, err := d.Compile(t.Context(), c, []byte("0123456789abcdef"))
			if err != nil {
				t.Fatal(err)
			}
			text := describe(t, list)
			if first == "" {
				first = text
			}
			if text != first {
				t.Fatalf("%s: compiled twice it differs:\n%s\n%s", c.Name, text, first)
			}
		}
		if strings.Contains(first, secret) || strings.Contains(first, password) || strings.Contains(first, base64.StdEncoding.EncodeToString([]byte(secret))) {
			t.Errorf("%s: a secret is in %s", c.Name, first)
		}
	}
}

// describe is all of resources that anybody but the cluster's Secrets has.
func describe(t *testing.T, list []driver.Resource) string {
	t.Helper()
	var b strings.Builder
	for i := range list {
		p := list[i].Spec.(*part)
		fmt.Fprintln(&b, list[i].ID, list[i].Needs, list[i].Properties, p.applied)
		if p.object.GetKind() == "Secret" {
			continue
		}
		text, err := p.object.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		b.Write(text)
	}
	return b.String()
}

// What somebody has changed is seen where it is; what was added beside it is not.
func TestDiffers(t *testing.T) {
	t.Parallel()
	object := func(args, volumes []any, more map[string]any) map[string]any {
		o := map[string]any{"args": args, "volumes": volumes, "empty": "", "none": map[string]any{}}
		maps.Copy(o, more)
		return o
	}
	volume := func(name, of string) map[string]any { return map[string]any{"name": name, "of": of} }
	want := object([]any{"a", "b"}, []any{volume("x", "1"), volume("y", "2")}, nil)
	for name, test := range map[string]struct {
		is    map[string]any
		where string
	}{
		"same":       {object([]any{"a", "b"}, []any{volume("x", "1"), volume("y", "2")}, nil), ""},
		"defaults":   {object([]any{"a", "b"}, []any{volume("y", "2"), volume("z", "3"), volume("x", "1")}, map[string]any{"more": true, "empty": nil, "none": nil}), ""},
		"a longer":   {object([]any{"a", "b", "c"}, []any{volume("x", "1"), volume("y", "2")}, nil), "args"},
		"an other":   {object([]any{"a", "c"}, []any{volume("x", "1"), volume("y", "2")}, nil), "args[1]"},
		"a field":    {object([]any{"a", "b"}, []any{volume("x", "1"), volume("y", "3")}, nil), "volumes[y].of"},
		"one gone":   {object([]any{"a", "b"}, []any{volume("x", "1")}, nil), "volumes[y]"},
		"not empty":  {object([]any{"a", "b"}, []any{volume("x", "1"), volume("y", "2")}, map[string]any{"empty": "text"}), "empty"},
		"other kind": {object([]any{"a", "b"}, []any{volume("x", "1"), volume("y", "2")}, map[string]any{"none": "text"}), "none"},
	} {
		if where := differs(want, test.is, ""); where != test.where {
			t.Errorf("%s: it differs at %q, want %q", name, where, test.where)
		}
	}
}
