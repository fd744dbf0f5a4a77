package rest_test

import (
	"encoding/json"
	"flag"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/navvy-run/navvy/server/auth"
	"github.com/navvy-run/navvy/server/rest"
)

var update = flag.Bool("update", false, "write testdata/openapi.json")

// parsed is the document, as somebody else reads it.
var parsed = sync.OnceValues(func() (*openapi3.T, error) {
	loader := openapi3.NewLoader()
	doc, err := loader.LoadFromData(rest.Document())
	if err == nil {
		err = doc.Validate(loader.Context)
	}
	return doc, err
})

func document(t *testing.T) *openapi3.T {
	t.Helper()
	doc, err := parsed()
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// operationOf finds what the document says of a call; nil if nothing.
func operationOf(t *testing.T, method, path string) *openapi3.Operation {
	t.Helper()
	path, _, _ = strings.Cut(path, "?")
	var found *openapi3.Operation
	for template, item := range document(t).Paths.Map() {
		op := item.GetOperation(method)
		if op != nil && fits(template, path) && (found == nil || !strings.Contains(template, "{")) {
			found = op
		}
	}
	return found
}

// fits tells whether a path is one of a template; the key of a value or a file has slashes.
func fits(template, path string) bool {
	for _, folder := range []string{"/v1/kv/", "/v1/files/"} {
		if rest, ok := strings.CutPrefix(path, folder); ok && template == folder+"{key}" {
			return rest != ""
		}
	}
	a, b := strings.Split(template, "/"), strings.Split(path, "/")
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] && !strings.HasPrefix(a[i], "{") {
			return false
		}
	}
	return true
}

// checkAnswer sees that an answer is as the document says: its status, its type, and
// each JSON value in it.
func checkAnswer(t *testing.T, method, path string, r *reply) {
	t.Helper()
	schemas := document(t).Components.Schemas
	media, _, _ := strings.Cut(r.header.Get("Content-Type"), ";")
	schema := schemas["Error"]
	if op := operationOf(t, method, path); op != nil {
		ref := op.Responses.Value(strconv.Itoa(r.status))
		if ref == nil && r.status >= 400 {
			ref = op.Responses.Default()
		}
		if ref == nil {
			t.Fatalf("%s %s: the document knows no status %d", method, path, r.status)
		}
		if r.body == "" && media != "application/x-ndjson" {
			return
		}
		content := ref.Value.Content.Get(media)
		if content == nil {
			t.Fatalf("%s %s: the document knows no %s of status %d", method, path, media, r.status)
		}
		schema = content.Schema
	} else if r.status != http.StatusNotFound && r.status != http.StatusMethodNotAllowed {
		t.Fatalf("%s %s: the document does not know it, and it answers %d", method, path, r.status)
	}
	switch media {
	case "application/json":
		checkValue(t, schema.Value, r.body)
	case "application/x-ndjson":
		for line := range strings.Lines(r.body) {
			checkValue(t, schema.Value, line)
		}
	}
}

func checkValue(t *testing.T, schema *openapi3.Schema, text string) {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	if err := schema.VisitJSON(v, openapi3.MultiErrors()); err != nil {
		t.Errorf("%s\nis not as the document says: %v", text, err)
	}
}

// The document is served to anybody, and is the one that was looked at.
func TestDocument(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	r := newCaller(t, w.base, "", &http.Transport{}).do(http.MethodGet, "/v1/openapi.json", "")
	if r.want(http.StatusOK); r.body != string(rest.Document()) {
		t.Error("another document is served")
	}
	const golden = "testdata/openapi.json"
	if *update {
		if err := os.WriteFile(golden, rest.Document(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(golden); err != nil || string(want) != string(rest.Document()) {
		t.Errorf("the document has changed (%v); see that clients can live with it, and run go test ./server/rest -run Document -update", err)
	}
	for name, schema := range document(t).Components.Schemas {
		for field, p := range schema.Value.Properties {
			if p.Value.Description == "" {
				t.Errorf("%s.%s has no description", name, field)
			}
		}
	}
}

// without are the calls that have no route, and why.
var without = map[string]string{
	"Jobs.Printed":            "for a client that prints, and knows bitmaps",
	"Workers.Closed":          "for workers",
	"Workers.Work":            "for workers",
	"Workers.WriteOutput":     "for workers",
	"Workers.Function":        "for workers",
	"Files.PutKnown":          "for who has many files, and their checksums",
	"TaskFiles.Put":           "for workers",
	"TaskFiles.Get":           "for workers",
	"TaskFiles.Stat":          "for workers",
	"TaskFiles.List":          "for workers",
	"TaskFiles.GetPackage":    "for workers",
	"TaskKV.Put":              "for workers",
	"TaskKV.Get":              "for workers",
	"TaskKV.List":             "for workers",
	"TaskKV.Delete":           "for workers",
	"TaskKV.Watch":            "for workers",
	"Identity.Join":           "for workers",
	"Identity.Issue":          "a certificate is no use over HTTP without its key",
	"Identity.Renew":          "likewise",
	"Identity.CreateToken":    "a token is made with a certificate",
	"Identity.CreateAPIToken": "likewise",
}

// Each call of the API has a route or a reason, and each route of the document is served.
func TestRoutes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	admin := w.as(t, "root", auth.RoleAdmin)
	called := map[string]bool{}
	for path, item := range document(t).Paths.Map() {
		for method, op := range item.Operations() {
			called[op.OperationID] = true
			if op.OperationID == "KV.Watch" {
				continue // which has no end
			}
			for _, name := range []string{"id", "prefix"} {
				path = strings.ReplaceAll(path, "{"+name+"}", "000000000000")
			}
			path = strings.NewReplacer("{index}", "0", "{key}", "k", "{name}", "nobody").Replace(path)
			r := admin.do(method, path, "")
			if r.status == http.StatusMethodNotAllowed || strings.Contains(r.body, "no such route") {
				t.Errorf("%s %s is not served: %s", method, path, r.body)
			}
		}
	}
	protoregistry.GlobalFiles.RangeFilesByPackage("navvy.v1", func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			s := f.Services().Get(i)
			for j := range s.Methods().Len() {
				name := string(s.Name()) + "." + string(s.Methods().Get(j).Name())
				if called[name] == (without[name] != "") {
					t.Errorf("%s has a route: %t; and a reason for none: %q", name, called[name], without[name])
				}
			}
		}
		return true
	})
}
