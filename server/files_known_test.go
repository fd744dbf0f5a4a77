package server_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/server/auth"
)

func sumOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// putKnown puts a file without sending it, with that error or none.
func putKnown(t *testing.T, f client.Files, key, content string, want error) {
	t.Helper()
	got, err := f.PutKnown(t.Context(), key, sumOf(content))
	if !errors.Is(err, want) || err == nil && (got.Key != key || got.Size != int64(len(content)) || got.SHA256 != sumOf(content)) {
		t.Fatalf("%s: %+v, %v, want %v", key, got, err, want)
	}
	if want != nil {
		return
	}
	var b bytes.Buffer
	if _, err := f.Get(t.Context(), key, &b); err != nil || b.String() != content {
		t.Fatalf("%s holds %q, %v", key, b.String(), err)
	}
}

// What an owner has put need not be sent again, as long as it is there, and to nobody else.
func TestPutKnown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	ctx := t.Context()
	ann, bob, root := w.as(t, "ann", auth.RoleUser).Files(), w.as(t, "bob", auth.RoleUser).Files(), w.as(t, "root", auth.RoleAdmin)
	const one, two = "the first content", "the second content"
	put := func(key, content string) {
		t.Helper()
		if _, err := ann.Put(ctx, key, strings.NewReader(content), client.PutFileOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	known := func(f client.Files, key, content string, want error) {
		t.Helper()
		putKnown(t, f, key, content, want)
	}
	known(ann, "b", one, navvy.ErrNotFound)
	put("a", one)
	known(ann, "b", one, nil)
	known(ann, "b", one, nil) // what is there is as good
	known(bob, "b", one, navvy.ErrNotFound)
	known(root.Files(), "b", one, navvy.ErrNotFound)
	known(root.FilesOf("ann"), "c", one, nil)
	if got := fileNames(t, bob, ""); got != "" {
		t.Errorf("bob has %s", got)
	}
	if _, err := w.as(t, "bob", auth.RoleUser).FilesOf("ann").PutKnown(ctx, "x", sumOf(one)); !errors.Is(err, navvy.ErrDenied) {
		t.Errorf("bob among ann's: %v", err)
	}
	for _, bad := range []string{"", "abc", strings.Repeat("A", 64), strings.Repeat("../", 22)[:64]} {
		if _, err := ann.PutKnown(ctx, "x", bad); !errors.Is(err, navvy.ErrInvalid) {
			t.Errorf("checksum %q: %v", bad, err)
		}
	}
	if _, err := ann.PutKnown(ctx, "../bob/x", sumOf(one)); !errors.Is(err, navvy.ErrInvalid) {
		t.Errorf("outside: %v", err)
	}

	// Each name goes by itself, and with the last one the content is not known any more.
	put("a", two)
	known(ann, "d", two, nil)
	for _, key := range []string{"b", "c"} {
		known(ann, "e", one, nil)
		if err := errors.Join(ann.Remove(ctx, key), ann.Remove(ctx, "e")); err != nil {
			t.Fatal(err)
		}
	}
	known(ann, "e", one, navvy.ErrNotFound)
	known(ann, "d", two, nil)
}

// A file that somebody has changed in the share, or removed, is not taken for another.
func TestPutKnownBehindItsBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	ctx := t.Context()
	ann := w.as(t, "ann", auth.RoleUser).Files()
	for _, key := range []string{"changed", "removed"} {
		if _, err := ann.Put(ctx, key, strings.NewReader(key), client.PutFileOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.files.Put(ctx, "files/ann/changed", strings.NewReader("another"), nil); err != nil {
		t.Fatal(err)
	}
	if err := w.files.Remove(ctx, "files/ann/removed"); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"changed", "removed"} {
		if _, err := ann.PutKnown(ctx, "copy", sumOf(key)); !errors.Is(err, navvy.ErrNotFound) {
			t.Errorf("%s: %v", key, err)
		}
	}
	if got := fileNames(t, ann, ""); got != "changed" {
		t.Errorf("there is %s", got)
	}
}
