package kubernetes

import (
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/navvy-run/navvy"
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

// Whatever a cluster and its namespace are called, also what YAML has another meaning for: all that
// the chart has in it of a name is a text.
func TestNames(t *testing.T) {
	t.Parallel()
	d := &Driver{o: Options{CheckService: func(string) error { return nil }, CheckQueue: func(string, string) error { return nil }, Getenv: func(string) string { return "nats://h" }}}
	for _, name := range []string{"on", "yes", "null", "y", "true", "n"} {
		for _, space := range []string{name, "1e3", "1", "0x1f"} {
			autoscaled := (&world{namespace: space}).described(t, name, 0)
			autoscaled.Workers.Autoscale = &config.Autoscale{Min: 1, Max: 5}
			for _, c := range []*config.Cluster{(&world{namespace: space}).answering(t, name), parsed(t, autoscaled)} {
				list, err := d.Compile(t.Context(), c, []byte("0123456789abcdef"))
				if err != nil {
					t.Fatal(err)
				}
				for i := range list {
					wantNamed(t, list[i].Spec.(*part).object, name, space)
				}
			}
		}
	}
	wantError(t, "1e3", config.ValidateName("1e3"), navvy.ErrInvalid, "a letter first")
}

// wantNamed checks that an object is named after a cluster, in its namespace, and that all that
// Kubernetes wants to be texts are.
func wantNamed(t *testing.T, u *unstructured.Unstructured, name, space string) {
	t.Helper()
	if is := u.GetName(); is != name && !strings.HasPrefix(is, name+"-") || u.GetNamespace() != space {
		t.Errorf("%s of the cluster %s in %s is %q in %q", u.GetKind(), name, space, is, u.GetNamespace())
	}
	if is := u.GetLabels()[labelInstance]; is != name {
		t.Errorf("%s of the cluster %s has the label %q", u.GetKind(), name, is)
	}
	var texts func(at string, v any)
	texts = func(at string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for key, v := range v {
				texts(at+"."+key, v)
			}
		case []any:
			for _, v := range v {
				texts(at, v)
			}
		case string:
		default:
			if last := at[strings.LastIndexByte(at, '.')+1:]; slices.Contains([]string{"name", "namespace", "value", "serviceAccountName", "secretName", "claimName", "serviceName", "args", "resourceNames"}, last) || strings.Contains(at, "abels.") {
				t.Errorf("%s %s: %s is %v", u.GetKind(), u.GetName(), at, v)
			}
		}
	}
	texts("", u.Object)
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
	} // Of one name several may be there, as of KEDA's parameters: then their places count.
	twins := []any{volume("x", "1"), volume("x", "2")}
	if where := differs(twins, []any{volume("x", "1"), volume("x", "2")}, "v"); where != "" {
		t.Errorf("twins differ at %q", where)
	}
	if where := differs(twins, []any{volume("x", "1"), volume("x", "3")}, "v"); where != "v[1].of" {
		t.Errorf("other twins differ at %q", where)
	}
}
