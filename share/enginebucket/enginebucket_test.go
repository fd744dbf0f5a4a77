package enginebucket_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"gocloud.dev/blob"
	"gocloud.dev/blob/driver"
	"gocloud.dev/blob/drivertest"
	"gocloud.dev/blob/memblob"
	"pgregory.net/rapid"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine"
	"github.com/navvy-run/navvy/engine/memory"
	"github.com/navvy-run/navvy/share/enginebucket"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func files(t testing.TB) engine.Files {
	t.Helper()
	store := memory.New()
	e, err := engine.Open(context.Background(), store, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return e.Files()
}

// harness is a bucket as the suite of gocloud.dev wants it.
type harness struct{ files engine.Files }

func (h *harness) MakeDriver(context.Context) (driver.Bucket, error) {
	return unsummed{enginebucket.NewDriver(h.files)}, nil
}

// unsummed leaves out the metadata that the suite does not expect, as it has not written it.
type unsummed struct{ driver.Bucket }

func (b unsummed) Attributes(ctx context.Context, key string) (*driver.Attributes, error) {
	a, err := b.Bucket.Attributes(ctx, key)
	if err != nil {
		return nil, err
	}
	if delete(a.Metadata, enginebucket.MetadataSHA256); len(a.Metadata) == 0 {
		a.Metadata = nil
	}
	return a, nil
}

func (h *harness) MakeDriverForNonexistentBucket(context.Context) (driver.Bucket, error) {
	return nil, nil
}
func (h *harness) HTTPClient() *http.Client         { return nil }
func (h *harness) SupportsCopy() bool               { return true }
func (h *harness) SupportsNonSlashDelimiters() bool { return true }
func (h *harness) Close()                           {}

// The suite that gocloud.dev has for its own buckets.
func TestConformance(t *testing.T) {
	t.Parallel()
	drivertest.RunConformanceTests(t, func(_ context.Context, t *testing.T) (drivertest.Harness, error) {
		t.Helper()
		return &harness{files(t)}, nil
	}, nil)
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
	rapid.Check(t, func(t *rapid.T) {
		store := memory.New()
		defer store.Close()
		e, err := engine.Open(t.Context(), store, nil)
		if err != nil {
			t.Fatal(err)
		}
		b, oracle := enginebucket.Open(e.Files()), memblob.OpenBucket(nil)
		defer oracle.Close()
		defer b.Close()
		// Characters below and above the slash.
		key := rapid.StringMatching(`[a.0-]{1,2}(/[ab!]{1,2}){0,2}`)
		for i := range rapid.IntRange(0, 12).Draw(t, "puts") {
			k, text := key.Draw(t, "key"), strings.Repeat("x", i)
			if err := errors.Join(b.WriteAll(t.Context(), k, []byte(text), nil), oracle.WriteAll(t.Context(), k, []byte(text), nil)); err != nil {
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

// Who reads a file reads it to its end, whatever becomes of its name.
func TestReplacedWhileRead(t *testing.T) {
	t.Parallel()
	b := enginebucket.Open(files(t))
	defer b.Close()
	for _, size := range []int{10, 1 << 20} {
		old := strings.Repeat("o", size)
		if err := b.WriteAll(t.Context(), "f", []byte(old), nil); err != nil {
			t.Fatal(err)
		}
		r, err := b.NewReader(t.Context(), "f", nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.WriteAll(t.Context(), "f", []byte("new"), nil); err != nil {
			t.Fatal(err)
		}
		if err := b.Delete(t.Context(), "f"); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); string(got) != old || err != nil {
			t.Errorf("%d bytes of %d, %v", len(got), size, err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Errors are those of package navvy, and of the kinds that gocloud.dev knows.
func TestErrors(t *testing.T) {
	t.Parallel()
	b := enginebucket.Open(files(t))
	defer b.Close()
	if err := b.Delete(t.Context(), "none"); !errors.Is(err, navvy.ErrNotFound) {
		t.Errorf("%v", err)
	}
	if err := b.WriteAll(t.Context(), strings.Repeat("x", engine.MaxFileName+1), nil, nil); !errors.Is(err, navvy.ErrInvalid) {
		t.Errorf("%v", err)
	}
	longest := strings.Repeat("x", engine.MaxFileName)
	if err := b.WriteAll(t.Context(), longest, []byte("x"), nil); err != nil {
		t.Errorf("%v", err)
	}
	if _, err := b.SignedURL(t.Context(), "f", nil); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("%v", err)
	}
	if err := b.WriteAll(t.Context(), longest, nil, &blob.WriterOptions{IfNotExist: true}); !errors.Is(err, navvy.ErrExists) {
		t.Errorf("%v", err)
	}
}
