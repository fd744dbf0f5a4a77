package kubernetes

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"maps"
	"reflect"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utiljson "k8s.io/apimachinery/pkg/util/json"

	"github.com/navvy-run/navvy/cluster/driver"
)

// Properties of objects.
const (
	propertyObject   = "object" // a digest of what it was made as
	propertyImage    = "image"
	propertyReplicas = "replicas"
	propertyCPUs     = "cpus"
	propertyMemory   = "memory"
)

func shortSum(text []byte) string {
	sum := sha256.Sum256(text)
	return "sha256:" + hex.EncodeToString(sum[:8])
}

// shortName is what a name is called where there is no room for all letters.
func shortName(name string) string {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:5])
}

// properties are what of an object people look at: as it is to be, and as it is.
func properties(u *unstructured.Unstructured) driver.Properties {
	p := driver.Properties{}
	if n, ok, _ := unstructured.NestedInt64(u.Object, "spec", "replicas"); ok {
		p[propertyReplicas] = fmt.Sprint(n)
	}
	containers, _, _ := unstructured.NestedSlice(u.Object, "spec", "template", "spec", "containers")
	if len(containers) == 0 {
		return p
	}
	container, _ := containers[0].(map[string]any)
	p[propertyImage], _, _ = unstructured.NestedString(container, "image")
	for key, name := range map[string]string{propertyCPUs: "cpu", propertyMemory: "memory"} {
		if p[key], _, _ = unstructured.NestedString(container, "resources", "limits", name); p[key] == "" {
			p[key] = "any"
		}
	}
	return p
}

// sanitize is what of an object is kept, or compared with that: all of it, but of contents of
// Secrets and ConfigMaps a digest, and nothing that the API server adds.
func sanitize(u *unstructured.Unstructured, salt []byte) (string, error) {
	text, err := utiljson.Marshal(comparable(u, salt))
	return string(text), err
}

func comparable(u *unstructured.Unstructured, salt []byte) map[string]any {
	o := map[string]any{}
	for key, v := range u.Object {
		if key != "metadata" && key != "status" {
			o[key] = v
		}
	}
	annotations := map[string]any{}
	for key, v := range u.GetAnnotations() {
		if key != annotationApplied {
			annotations[key] = v
		}
	}
	labels := map[string]any{}
	for key, v := range u.GetLabels() {
		labels[key] = v
	}
	o["metadata"] = map[string]any{"name": u.GetName(), "namespace": u.GetNamespace(), "labels": labels, "annotations": annotations}
	for _, key := range []string{"data", "binaryData"} {
		data, ok := o[key].(map[string]any)
		if !ok {
			continue
		}
		digests := make(map[string]any, len(data))
		for name, v := range data {
			digests[name] = digest(u.GetKind(), fmt.Sprint(v), salt)
		}
		o[key] = digests
	}
	return o
}

func digest(kind, text string, salt []byte) string {
	if kind != "Secret" {
		return shortSum([]byte(text))
	}
	if plain, err := base64.StdEncoding.DecodeString(text); err == nil {
		text = string(plain)
	}
	return driver.Secret(salt, []byte(text))
}

// drift tells where an object is not what was applied; empty if it is. What the API server and
// others have added to it is no matter.
func drift(u *unstructured.Unstructured, salt []byte) (applied, where string) {
	applied = u.GetAnnotations()[annotationApplied]
	var want map[string]any
	if utiljson.Unmarshal([]byte(applied), &want) != nil {
		return applied, "the annotation " + annotationApplied
	}
	if u.GetKind() == "PersistentVolumeClaim" {
		keepRoom(want, u)
	}
	is := comparable(u, salt)
	if where := differs(want, is, ""); where != "" {
		return applied, where
	}
	return applied, differsWhole(u.GetKind(), want, is)
}

// whole are the places of objects where the API server keeps what one side says, and merges
// nothing: what others have added changes what ours means.
var whole = map[string][]string{"Service": {"spec", "selector"}, "RoleBinding": {"subjects"}, "Role": {"rules"}}

// differsWhole is a place of those where there is more than is wanted, whose rest is the same.
func differsWhole(kind string, want, is map[string]any) string {
	fields := whole[kind]
	if len(fields) == 0 {
		return ""
	}
	wanted, _, _ := unstructured.NestedFieldNoCopy(want, fields...)
	there, _, _ := unstructured.NestedFieldNoCopy(is, fields...)
	if size(wanted) != size(there) {
		return strings.Join(fields, ".")
	}
	return ""
}

func size(v any) int {
	switch v := v.(type) {
	case map[string]any:
		return len(v)
	case []any:
		return len(v)
	}
	return 0
}

// keepRoom has a claim want what it asks for by now, if that is more: nobody can make it smaller.
func keepRoom(want map[string]any, live *unstructured.Unstructured) {
	fields := []string{"spec", "resources", "requests", "storage"}
	wanted, _, _ := unstructured.NestedString(want, fields...)
	is, _, _ := unstructured.NestedString(live.Object, fields...)
	a, errA := resource.ParseQuantity(wanted)
	b, errB := resource.ParseQuantity(is)
	if errA == nil && errB == nil && b.Cmp(a) > 0 {
		_ = unstructured.SetNestedField(want, is, fields...) // it is there
	}
}

// setsReplicas tells whether what was applied says how many pods there are to be.
func setsReplicas(applied string) bool {
	var o struct {
		Spec struct {
			Replicas *int64 `json:"replicas"`
		} `json:"spec"`
	}
	return utiljson.Unmarshal([]byte(applied), &o) == nil && o.Spec.Replicas != nil
}

// differs is the first place where something is not as it is wanted; empty for none.
func differs(want, is any, at string) string {
	switch want := want.(type) {
	case map[string]any:
		there, ok := is.(map[string]any)
		if !ok && (is != nil || len(want) > 0) {
			return at
		}
		for key, v := range want {
			if d := differs(v, there[key], strings.TrimPrefix(at+"."+key, ".")); d != "" {
				return d
			}
		}
		return ""
	case []any:
		return differsList(want, is, at)
	}
	if is == nil && (want == nil || reflect.ValueOf(want).IsZero()) || reflect.DeepEqual(want, is) {
		return ""
	}
	return at
}

func differsList(want []any, is any, at string) string {
	there, _ := is.([]any)
	names, merged := byName(there), len(byName(want)) == len(want)
	for i, v := range want {
		place := fmt.Sprintf("%s[%d]", at, i)
		if name := nameOf(v); merged { // others may have put some beside ours
			if names[name] == nil {
				return fmt.Sprintf("%s[%s]", at, name)
			}
			if d := differs(v, names[name], fmt.Sprintf("%s[%s]", at, name)); d != "" {
				return d
			}
			continue
		}
		if len(there) != len(want) {
			return at
		}
		if d := differs(v, there[i], place); d != "" {
			return d
		}
	}
	return ""
}

func byName(list []any) map[string]any {
	m := map[string]any{}
	for _, v := range list {
		if name := nameOf(v); name != "" {
			m[name] = v
		}
	}
	return m
}

// nameOf is the name of an element of a list; a list is merged by names if all have one of their own.
func nameOf(v any) string {
	m, _ := v.(map[string]any)
	name, _ := m["name"].(string)
	return name
}

func setLabels(u *unstructured.Unstructured, more map[string]string) {
	all := u.GetLabels()
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, more)
	u.SetLabels(all)
}

func setAnnotations(u *unstructured.Unstructured, more map[string]string) {
	all := u.GetAnnotations()
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, more)
	u.SetAnnotations(all)
}
