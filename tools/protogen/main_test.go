package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const schema = `syntax = "proto3";
package a.v1;
import "google/protobuf/duration.proto";
option go_package = "example.org/a/v1;av1";

// Diggers dig.
service Diggers {
  // Dig makes a hole.
  rpc Dig(Hole) returns (stream Hole);
}

// Hole is where nothing is.
message Hole {
  // How long it took.
  google.protobuf.Duration took = 1;
}
`

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestRun(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	proto, orphan := filepath.Join(root, "a/v1/hole.proto"), filepath.Join(root, "a/v1/gone.pb.go")
	write(t, proto, schema)
	if err := run(t.Context(), root, "a/comments.json", true); err == nil {
		t.Error("check passes though nothing was generated")
	}
	write(t, orphan, "package av1\n")
	if err := run(t.Context(), root, "a/comments.json", false); err != nil {
		t.Fatal(err)
	}
	if err := run(t.Context(), root, "a/comments.json", true); err != nil {
		t.Errorf("check after generate: %v", err)
	}
	if _, err := os.Stat(orphan); err == nil {
		t.Error("code without a .proto file is still there")
	}
	for name, want := range map[string]string{
		"a/v1/hole.pb.go":      "// Hole is where nothing is.\ntype Hole struct",
		"a/comments.json":      `"a.v1.Hole.took": "How long it took."`,
		"a/v1/hole_grpc.pb.go": "// Dig makes a hole.\n\tDig(ctx context.Context, in *Hole",
	} {
		code, err := os.ReadFile(filepath.Join(root, name))
		if err != nil || !strings.Contains(string(code), want) {
			t.Errorf("%s does not hold %q (%v)", name, want, err)
		}
	}

	write(t, proto, strings.Replace(schema, "took = 1", "took = 2", 1))
	if err := run(t.Context(), root, "a/comments.json", true); err == nil || !strings.Contains(err.Error(), "a/v1/hole.pb.go") {
		t.Errorf("check of stale code: %v", err)
	}
}

func TestRunErrors(t *testing.T) {
	t.Parallel()
	if err := run(t.Context(), filepath.Join(t.TempDir(), "none"), "", true); err != nil {
		t.Errorf("a root that does not exist: %v", err)
	}
	root := t.TempDir()
	write(t, filepath.Join(root, "bad.proto"), "syntax = \"proto3\";\nmessage {\n")
	if err := run(t.Context(), root, "a/comments.json", false); err == nil || !strings.Contains(err.Error(), "bad.proto:2:9") {
		t.Errorf("the error does not name the place: %v", err)
	}
}
