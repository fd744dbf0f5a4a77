package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const schema = `syntax = "proto3";

package mine.v1;

// Diggers dig.
service Diggers {
  // Dig makes a hole.
  rpc Dig(DigRequest) returns (DigResponse);
  // Watch tells of holes.
  rpc Watch(WatchRequest) returns (stream WatchResponse);
}

// DigRequest says where.
message DigRequest {
  // Where to dig.
  string where = 1;
  // How deep.
  int64 depth = 2;
  // With what.
  Tool tool = 3;
  // What is kept of the earth.
  repeated string heaps = 4;
}

// DigResponse is empty.
message DigResponse {}

// WatchRequest is empty.
message WatchRequest {}

// WatchResponse is empty.
message WatchResponse {}

// Tool is what digs.
enum Tool {
  // Whatever is there.
  TOOL_UNSPECIFIED = 0;
  // A spade.
  TOOL_SPADE = 1;
}
`

// site is a folder as api is, with the same rules.
type site struct {
	*testing.T
	buf  tool
	root string
}

func newSite(t *testing.T, buf tool) *site {
	t.Helper()
	s := &site{T: t, buf: buf, root: t.TempDir()}
	rules, err := os.ReadFile("../../api/buf.yaml")
	if err != nil {
		t.Fatal(err)
	}
	s.write("buf.yaml", string(rules))
	s.write("mine/v1/dig.proto", schema)
	return s
}

func (s *site) write(name, content string) {
	s.Helper()
	path := filepath.Join(s.root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		s.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		s.Fatal(err)
	}
}

// change replaces what the file says.
func (s *site) change(from, to string) {
	s.Helper()
	changed := strings.Replace(schema, from, to, 1)
	if changed == schema {
		s.Fatalf("the file does not say %q", from)
	}
	s.write("mine/v1/dig.proto", changed)
}

// check wants a complaint with the text, or none if it is empty.
func (s *site) check(want string) {
	s.Helper()
	err := s.buf.run(s.Context(), s.root, false)
	switch {
	case want == "" && err != nil:
		s.Errorf("it is refused: %v", err)
	case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
		s.Errorf("the answer is %v, want %q in it", err, want)
	}
}

func findBuf(t *testing.T) tool {
	t.Helper()
	buf, err := find(t.Context(), "../buf/go.mod")
	if err != nil {
		t.Fatal(err)
	}
	return buf
}

// What breaks who speaks the released schema is refused; what does not, is not.
func TestBreakage(t *testing.T) {
	t.Parallel()
	buf := findBuf(t)
	for name, c := range map[string]struct{ from, to, want string }{
		"nothing":               {"Where to dig", "Where to dig it", ""},
		"a field more":          {"int64 depth = 2;", "int64 depth = 2;\n  // In what.\n  string earth = 5;", ""},
		"a value more":          {"TOOL_SPADE = 1;", "TOOL_SPADE = 1;\n  // Its kin.\n  TOOL_SHOVEL = 2;", ""},
		"a field reserved":      {"  // How deep.\n  int64 depth = 2;", `  reserved 2; reserved "depth";`, ""},
		"a field gone":          {"  // How deep.\n  int64 depth = 2;\n", "", `field "2" with name "depth"`},
		"only the number":       {"  // How deep.\n  int64 depth = 2;", "  reserved 2;", "without reserving the name"},
		"another number":        {"depth = 2", "depth = 5", `field "2" with name "depth"`},
		"another type":          {"int64 depth", "int32 depth", "changed type"},
		"another name":          {"int64 depth", "int64 deep", "changed name"},
		"another label":         {"repeated string heaps", "string heaps", "cardinality"},
		"a value gone":          {"  // A spade.\n  TOOL_SPADE = 1;\n", "", `enum value "1"`},
		"a value called anew":   {"TOOL_SPADE", "TOOL_SHOVEL", "changed name"},
		"a call gone":           {"  // Dig makes a hole.\n  rpc Dig(DigRequest) returns (DigResponse);\n", "", `RPC "Dig"`},
		"a service gone":        {schema[strings.Index(schema, "// Diggers"):strings.Index(schema, "// DigRequest")], "", `service "Diggers"`},
		"another request":       {"Watch(WatchRequest)", "Watch(DigResponse)", "request type"},
		"another response":      {"stream WatchResponse", "stream DigResponse", "response type"},
		"an answer, no stream":  {"returns (stream Watch", "returns (Watch", "server streaming"},
		"a stream of requests":  {"Dig(DigRequest)", "Dig(stream DigRequest)", "client streaming"},
		"into a choice of some": {"  string where = 1;", "  // Which.\n  oneof which { string where = 1; }", "oneof"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, buf)
			if err := buf.run(t.Context(), s.root, true); err != nil {
				t.Fatal(err)
			}
			s.change(c.from, c.to)
			s.check(c.want)
		})
	}
}

// What is not written in the manner of the rest is refused, and not released.
func TestManner(t *testing.T) {
	t.Parallel()
	buf := findBuf(t)
	for name, c := range map[string]struct{ from, to, want string }{
		"no comment":         {"  // How deep.\n", "", "dig.proto:17:3:Field \"depth\" should have a non-empty comment"},
		"a field's name":     {"int64 depth", "int64 Depth", "lower_snake_case"},
		"a message's name":   {"message WatchResponse {}", "message WatchResponse {}\n\n// nothing is nothing.\nmessage nothing {}", "PascalCase"},
		"a call's name":      {"rpc Dig(", "rpc dig(", "PascalCase"},
		"a request's name":   {"Dig(DigRequest)", "Dig(WatchRequest)", "DigRequest"},
		"the zero value":     {"TOOL_UNSPECIFIED = 0", "TOOL_ANY = 0", "_UNSPECIFIED"},
		"a value's name":     {"TOOL_SPADE", "SPADE", "TOOL_"},
		"an import too many": {"package mine.v1;", "package mine.v1;\nimport \"google/protobuf/empty.proto\";", "unused"},
		"another directory":  {"package mine.v1;", "package yours.v1;", "directory"},
		"no version":         {"package mine.v1;", "package mine;", "version"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, buf)
			s.change(c.from, c.to)
			s.check(c.want)
			if err := buf.run(t.Context(), s.root, true); err == nil {
				t.Error("it is released")
			}
		})
	}
}

// Without a released schema there is nothing to compare with, which is no success.
func TestNothingReleased(t *testing.T) {
	t.Parallel()
	newSite(t, findBuf(t)).check("-release makes it")
}
