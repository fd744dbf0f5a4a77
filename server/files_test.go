package server_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/navvy-run/navvy"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/server/auth"
)

// Files come back as they were put, in pieces or not, and belong to their owner.
func TestFiles(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	ctx := t.Context()
	ann := w.as(t, "ann", auth.RoleUser).Files()
	large := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // more than a chunk
	for key, content := range map[string][]byte{"in/large": large, "in/empty": nil, "../x": nil, "a//b": nil, strings.Repeat("x/", 350) + "yy": nil} {
		f, err := ann.Put(ctx, key, bytes.NewReader(content), client.PutFileOptions{})
		if !strings.HasPrefix(key, "in/") {
			if !errors.Is(err, navvy.ErrInvalid) {
				t.Errorf("put %.20q: %v, want it refused", key, err)
			}
			continue
		}
		if err != nil || f.Size != int64(len(content)) {
			t.Fatalf("put %s: %+v, %v", key, f, err)
		}
		var got bytes.Buffer
		if g, err := ann.Get(ctx, key, &got); err != nil || !bytes.Equal(got.Bytes(), content) || g.SHA256 != f.SHA256 {
			t.Errorf("get %s: %d bytes, %+v, %v", key, got.Len(), g, err)
		}
	}
	if _, err := ann.Put(ctx, "in/empty", strings.NewReader("x"), client.PutFileOptions{IfAbsent: true}); !errors.Is(err, navvy.ErrExists) {
		t.Errorf("put what is there already: %v", err)
	}
	if got := fileNames(t, ann, "in/"); got != "in/empty in/large" {
		t.Errorf("list: %s", got)
	}
	if err := ann.Remove(ctx, "in/large"); err != nil {
		t.Error(err)
	}
	if _, err := ann.Get(ctx, "in/large", io.Discard); !errors.Is(err, navvy.ErrNotFound) {
		t.Errorf("get what was removed: %v", err)
	}
}

// fileNames are the files, in one line.
func fileNames(t *testing.T, f client.Files, prefix string) string {
	t.Helper()
	var list []string
	for file, err := range f.List(t.Context(), prefix) {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, file.Key)
	}
	return strings.Join(list, " ")
}

// Owners see their own files, and an admin those of an owner that it names.
func TestFilesOfOwners(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	ctx := t.Context()
	ann, bob, root := w.as(t, "ann", auth.RoleUser).Files(), w.as(t, "bob", auth.RoleUser), w.as(t, "root", auth.RoleAdmin)
	if _, err := ann.Put(ctx, "in/large", strings.NewReader("large"), client.PutFileOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := bob.Files().Stat(ctx, "in/large"); !errors.Is(err, navvy.ErrNotFound) {
		t.Errorf("bob's file of that name: %v", err)
	}
	if got := fileNames(t, bob.Files(), ""); got != "" {
		t.Errorf("bob sees %s", got)
	}
	if _, err := bob.FilesOf("ann").Stat(ctx, "in/large"); !errors.Is(err, navvy.ErrDenied) {
		t.Errorf("bob asks for ann's: %v", err)
	}
	for _, err := range bob.Files().List(ctx, "../ann/") {
		if !errors.Is(err, navvy.ErrInvalid) {
			t.Errorf("bob looks beside his folder: %v", err)
		}
	}
	if f, err := root.FilesOf("ann").Stat(ctx, "in/large"); err != nil || f.Size != 5 {
		t.Errorf("an admin asks for ann's: %+v, %v", f, err)
	}
}

// What is not whole, or not what was sent, is not there.
func TestFileInPart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	rpc, ann := navvyv1.NewFilesClient(w.conn(t, "ann", auth.RoleUser)), w.as(t, "ann", auth.RoleUser).Files()
	header := &navvyv1.FilesPutHeader{Key: "f"}
	for name, parts := range map[string][]*navvyv1.FilesPutRequest{
		"no header": {{Chunk: []byte("x")}},
		"no end":    {{Header: header, Chunk: []byte("x")}},
		"damaged":   {{Header: header, Chunk: []byte("x")}, {End: &navvyv1.FilesPutEnd{Sha256: strings.Repeat("0", 64)}}},
		"too large": {{Header: header, Chunk: make([]byte, 1<<20+1)}, {End: &navvyv1.FilesPutEnd{}}},
	} {
		stream, err := rpc.Put(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range parts {
			_ = stream.Send(p) // that it has ended is told by its end
		}
		if _, err := stream.CloseAndRecv(); err == nil {
			t.Errorf("%s: it is taken", name)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	broken := io.MultiReader(strings.NewReader("begin"), readerFunc(func([]byte) (int, error) { cancel(); return 0, errors.New("the disk is broken") }))
	if _, err := ann.Put(ctx, "f", broken, client.PutFileOptions{}); err == nil {
		t.Error("a file that could not be read is put")
	}
	// As the body of an HTTP message ends that breaks off.
	for _, cut := range []error{io.ErrUnexpectedEOF, fmt.Errorf("the body: %w", io.ErrUnexpectedEOF), fmt.Errorf("the body: %w", io.EOF)} {
		broken := io.MultiReader(strings.NewReader("begin"), readerFunc(func([]byte) (int, error) { return 0, cut }))
		if _, err := ann.Put(t.Context(), "f", broken, client.PutFileOptions{}); !errors.Is(err, cut) {
			t.Errorf("a file that breaks off: %v", err)
		}
	}
	if got := fileNames(t, ann, ""); got != "" {
		t.Errorf("there is %s", got)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
