package dirbucket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"gocloud.dev/blob"
	"gocloud.dev/blob/memblob"
	"pgregory.net/rapid"

	"github.com/navvy-run/navvy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t testing.TB, dir string) *blob.Bucket {
	t.Helper()
	b, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// pages are the keys of a listing, page by page.
func pages(t *rapid.T, b *blob.Bucket, o *blob.ListOptions, size int) [][]string {
	var all [][]string
	for token := blob.FirstPageToken; len(token) > 0; {
		list, next, err := b.ListPage(t.Context(), token, size, o)
		if err != nil {
			t.Fatal(err)
		}
		var page []string
		for _, object := range list {
			page = append(page, fmt.Sprint(object.Key, object.IsDir, object.Size))
		}
		all, token = append(all, page), next
	}
	return all
}

// It lists as a bucket in memory does: any prefix, any size of pages, folders or not, after
// any puts and deletes.
func TestListsLikeMemory(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp(base, "") //nolint:usetesting // one for each case
		if err != nil {
			t.Fatal(err)
		}
		b, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		oracle := memblob.OpenBucket(nil)
		defer oracle.Close()
		defer b.Close()
		// Characters below and above the slash: the order of names is not that of keys.
		key := rapid.StringMatching(`[a.0-]{1,2}(/[ab!]{1,2}){0,2}`)
		for i := range rapid.IntRange(0, 12).Draw(t, "puts") {
			k, text := key.Draw(t, "key"), strings.Repeat("x", i)
			if strings.HasPrefix(k, ".") {
				continue
			}
			if err := b.WriteAll(t.Context(), k, []byte(text), nil); errors.Is(err, navvy.ErrConflict) {
				continue // a file where a folder is to be
			} else if err != nil {
				t.Fatal(err)
			}
			if err := oracle.WriteAll(t.Context(), k, []byte(text), nil); err != nil {
				t.Fatal(err)
			}
			if i%3 == 2 {
				if err := errors.Join(b.Delete(t.Context(), k), oracle.Delete(t.Context(), k)); err != nil {
					t.Fatal(err)
				}
			}
		}
		o := &blob.ListOptions{Prefix: rapid.StringMatching(`([a0-]{1,2}/?[ab]?)?`).Draw(t, "prefix")}
		if rapid.Bool().Draw(t, "folders") {
			o.Delimiter = "/"
		}
		size := rapid.IntRange(1, 4).Draw(t, "size")
		if diff := cmp.Diff(slices.Concat(pages(t, oracle, o, size)...), slices.Concat(pages(t, b, o, size)...)); diff != "" {
			t.Fatalf("%+v by %d: %s", o, size, diff)
		}
	})
}

// summed is a bucket with one file, f.
type summed struct {
	*blob.Bucket
	t   *testing.T
	dir string
}

func (b *summed) write(text string) {
	b.t.Helper()
	if err := b.WriteAll(b.t.Context(), "f", []byte(text), nil); err != nil {
		b.t.Fatal(err)
	}
}

func (b *summed) sum() (string, error) {
	a, err := b.Attributes(b.t.Context(), "f")
	if err != nil {
		return "", err
	}
	return a.Metadata[MetadataSHA256], nil
}

func (b *summed) files() []string {
	b.t.Helper()
	list, err := filepath.Glob(filepath.Join(b.dir, ".navvy", "sums", "*", "*"))
	if err != nil {
		b.t.Fatal(err)
	}
	return list
}

// A checksum counts for the very file that it was made of.
func TestSums(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := &summed{open(t, dir), t, dir}
	for _, text := range []string{"one", "two", "two"} {
		b.write(text)
		if got, err := b.sum(); len(got) != 64 || err != nil || len(b.files()) != 1 {
			t.Errorf("%q, %v, %q", got, err, b.files())
		}
	}
	// Somebody else's file has none.
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := b.sum(); got != "" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// What is cut off, or a checksum that nobody understands, is told.
func TestBadSums(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := &summed{open(t, dir), t, dir}
	b.write("three")
	path := filepath.Join(dir, "f")
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Truncate(path, 3), os.Chtimes(path, info.ModTime(), info.ModTime())); err != nil {
		t.Fatal(err)
	}
	if _, err := b.sum(); !errors.Is(err, navvy.ErrCorrupt) {
		t.Errorf("%v", err)
	}
	b.write("four")
	if err := b.Delete(t.Context(), "f"); err != nil || len(b.files()) != 0 {
		t.Errorf("%v, %q", err, b.files())
	}
	b.write("five")
	for _, name := range b.files() {
		if err := os.WriteFile(name, []byte("navvy-sum-2 x 4\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.sum(); !errors.Is(err, navvy.ErrCorrupt) {
		t.Errorf("%v", err)
	}
}

// A checksum that was written, and whose file did not come to appear, harms nobody: a crash
// between the two leaves the old file with its own.
func TestCrashBetween(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := open(t, dir)
	if err := b.WriteAll(t.Context(), "f", []byte("old"), nil); err != nil {
		t.Fatal(err)
	}
	before, err := b.Attributes(t.Context(), "f")
	if err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	raw := &bucket{root: root}
	f, name, err := raw.temporary()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	now := time.Now()
	if err := root.Chtimes(name, now, now); err != nil {
		t.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.writeSum("f", info, strings.Repeat("0", 64)); err != nil {
		t.Fatal(err)
	}
	after, err := b.Attributes(t.Context(), "f")
	if err != nil || after.Metadata[MetadataSHA256] != before.Metadata[MetadataSHA256] || before.Metadata[MetadataSHA256] == "" {
		t.Errorf("%+v, %v", after.Metadata, err)
	}
}

// Folders come and go with their files, whoever else is at them.
func TestFolders(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := open(t, dir)
	done := make(chan error)
	const rounds = 50
	for worker := range 4 {
		go func() {
			var err error
			for i := range rounds {
				key := fmt.Sprintf("a/b/c/%d-%d", worker, i)
				err = errors.Join(err, b.WriteAll(context.Background(), key, []byte("x"), nil), b.Delete(context.Background(), key))
			}
			done <- err
		}()
	}
	for range 4 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "a")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

// A part of a file, a copy, and what is not offered.
func TestRanges(t *testing.T) {
	t.Parallel()
	b := open(t, t.TempDir())
	if err := b.WriteAll(t.Context(), "f", []byte("0123456789"), nil); err != nil {
		t.Fatal(err)
	}
	for want, at := range map[string][2]int64{"345": {3, 3}, "89": {8, 5}, "": {10, -1}, "0123456789": {0, -1}} {
		r, err := b.NewRangeReader(t.Context(), "f", at[0], at[1], nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if !bytes.Equal(got, []byte(want)) || err != nil || r.Close() != nil {
			t.Errorf("%q, %v", got, err)
		}
	}
	if err := b.Copy(t.Context(), "g", "f", nil); err != nil {
		t.Error(err)
	}
	if got, err := b.ReadAll(t.Context(), "g"); string(got) != "0123456789" || err != nil {
		t.Errorf("the copy is %q, %v", got, err)
	}
	if _, err := b.SignedURL(t.Context(), "f", nil); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("%v", err)
	}
}

// Nothing is listed, read, written or removed through a folder that is a symbolic link.
func TestLinkedFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := open(t, dir)
	for _, key := range []string{"alice/own", "bob/in/secret"} {
		if err := b.WriteAll(t.Context(), key, []byte(key), nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../bob", filepath.Join(dir, "alice", "tobob")); err != nil {
		t.Fatal(err)
	}
	for _, prefix := range []string{"alice/tobob", "alice/tobob/", "alice/tobob/in/", "alice/tobob/in/s"} {
		if list, _, err := b.ListPage(t.Context(), blob.FirstPageToken, 10, &blob.ListOptions{Prefix: prefix}); err != nil || len(list) != 0 {
			t.Errorf("below %s: %v, %v", prefix, list, err)
		}
	}
	const through = "alice/tobob/in/secret"
	_, readErr := b.ReadAll(t.Context(), through)
	_, statErr := b.Attributes(t.Context(), through)
	for name, err := range map[string]error{
		"read": readErr, "stat": statErr, "write": b.WriteAll(t.Context(), through, nil, nil), "new": b.WriteAll(t.Context(), "alice/tobob/new", nil, nil),
		"from": b.Copy(t.Context(), "alice/copy", through, nil), "to": b.Copy(t.Context(), "alice/tobob/copy", "alice/own", nil), "delete": b.Delete(t.Context(), through),
	} {
		if !errors.Is(err, navvy.ErrUnsupported) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got, err := b.ReadAll(t.Context(), "bob/in/secret"); string(got) != "bob/in/secret" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// What is read as a checksum is written as it was.
func FuzzParseSum(f *testing.F) {
	f.Add(fmt.Sprintf(sumFormat, strings.Repeat("0a", 32), 12))
	f.Add("navvy-sum-1  x -1")
	f.Fuzz(func(t *testing.T, text string) {
		if sum, size, ok := parseSum(text); ok && (fmt.Sprintf(sumFormat, sum, size) != text || size < 0 || len(sum) != 64) {
			t.Errorf("%q is read as %s %d", text, sum, size)
		}
	})
}
