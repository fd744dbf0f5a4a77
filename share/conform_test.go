package share

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"go.uber.org/goleak"
	"gocloud.dev/blob"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/queue/storagequeue/azuritetest"
	"github.com/navvy-run/navvy/share/dirbucket"
	"github.com/navvy-run/navvy/share/place"
	"github.com/navvy-run/navvy/share/versitygwtest"
)

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		child()
	}
	goleak.VerifyTestMain(m)
}

// The parser of places and the list of what is linked in name the same kinds.
func TestSchemes(t *testing.T) {
	t.Parallel()
	if got := slices.Sorted(maps.Keys(openers())); !slices.Equal(got, place.Schemes()) {
		t.Errorf("%q, and place has %q", got, place.Schemes())
	}
}

// store is a kind of share that the tests run on.
type store struct {
	open func(t *testing.T) *Share
	// spoil changes what the store keeps of a file, behind the share's back.
	spoil func(t *testing.T, s *Share, key string, data []byte)
	// foreign puts a file as others do, without a checksum; nil if nobody else can.
	foreign func(t *testing.T, s *Share, key, text string)
	// fixed says that the store notes lengths apart from contents: what stands behind the
	// end of one is not read.
	fixed bool
}

// stores are all kinds of shares, the real ones.
var stores = map[string]func(t *testing.T) store{
	"directory": directory, "memory": memory, "s3": s3Store, "azure": azureStore,
	"engine in memory": engineInMemory, "engine on pebble": engineOnPebble, "engine on postgres": engineOnPostgres,
}

func directory(t *testing.T) store {
	dirs := sync.Map{}
	return store{
		open: func(t *testing.T) *Share {
			dir := t.TempDir()
			s, err := Open(t.Context(), "file://"+dir, nil)
			if err != nil {
				t.Fatal(err)
			}
			dirs.Store(s, dir)
			return s
		},
		foreign: func(t *testing.T, s *Share, key, text string) {
			dir, _ := dirs.Load(s)
			if err := os.WriteFile(filepath.Join(dir.(string), key), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		},
		spoil: func(t *testing.T, s *Share, key string, data []byte) {
			dir, _ := dirs.Load(s)
			path := filepath.Join(dir.(string), key)
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			// As a disk does it: no time changes.
			if err := errors.Join(os.WriteFile(path, data, 0o600), os.Chtimes(path, info.ModTime(), info.ModTime())); err != nil {
				t.Fatal(err)
			}
		},
	}
}

// unlabelled puts a file into a bucket without the metadata that a share adds.
func unlabelled(t *testing.T, s *Share, key, text string) {
	if err := s.bucket.WriteAll(t.Context(), key, []byte(text), nil); err != nil {
		t.Fatal(err)
	}
}

// mislabel puts bytes with the checksum of others.
func mislabel(t *testing.T, s *Share, key string, data []byte) {
	old, err := s.Stat(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	o := &blob.WriterOptions{ContentType: "application/octet-stream", Metadata: map[string]string{dirbucket.MetadataSHA256: old.SHA256}}
	if err := s.bucket.WriteAll(t.Context(), key, data, o); err != nil {
		t.Fatal(err)
	}
}

func memory(*testing.T) store {
	return store{func(*testing.T) *Share { return OpenMemory() }, mislabel, unlabelled, false}
}

func s3Store(t *testing.T) store {
	g := versitygwtest.Start(t)
	g.Bucket(t, "bucket")
	return store{func(t *testing.T) *Share {
		// Below a folder, which the root has of its own in another test.
		return opened(t, g.URL("bucket/"+folderOf(t)), nil)
	}, mislabel, unlabelled, false}
}

func folderOf(t *testing.T) string { return strings.ReplaceAll(t.Name(), "/", "-") }

func azureStore(t *testing.T) store {
	a := azuritetest.StartBlob(t)
	makeContainer(t, a, "container")
	return store{func(t *testing.T) *Share {
		return opened(t, "azblob://container/"+folderOf(t), &Options{AzureConnection: a.ConnectionString()})
	}, mislabel, unlabelled, false}
}

func makeContainer(t *testing.T, a *azuritetest.Azurite, name string) {
	t.Helper()
	c, err := container.NewClientFromConnectionString(a.ConnectionString(), name, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Create(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
}

func opened(t *testing.T, url string, o *Options) *Share {
	t.Helper()
	s, err := Open(t.Context(), url, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestShares is what every kind of share promises.
func TestShares(t *testing.T) {
	t.Parallel()
	topics := map[string]func(*testing.T, *Share, store){
		"whole files": testWhole, "failures": testFailures, "cancelled": testCancelled, "if absent": testIfAbsent,
		"nothing there": testNothing, "keys": testKeys, "order": testOrder, "damage": testDamage,
		"no checksum": testNoSum, "wanted checksum": testWanted, "many at once": testAtOnce, "fetch": testFetch,
		"sync": testSync, "sync of trees": testSyncDelete, "changed file": testChanged,
	}
	for name, start := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			st := start(t)
			for topic, test := range topics {
				t.Run(topic, func(t *testing.T) {
					t.Parallel()
					s := st.open(t)
					t.Cleanup(func() {
						if err := s.Close(); err != nil {
							t.Error(err)
						}
					})
					test(t, s, st)
				})
			}
		})
	}
}

func random(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1, byte(n)})
	_, _ = r.Read(b)
	return b
}

func sumOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func put(t *testing.T, s *Share, key, text string) {
	t.Helper()
	if _, err := s.Put(t.Context(), key, strings.NewReader(text), nil); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, s *Share, key string) []byte {
	t.Helper()
	var b bytes.Buffer
	f, err := s.Copy(t.Context(), key, &b, nil)
	if err != nil {
		t.Fatal(err)
	}
	if f.SHA256 != sumOf(b.Bytes()) || f.Size != int64(b.Len()) {
		t.Fatalf("%+v is not what came: %d bytes", f, b.Len())
	}
	return b.Bytes()
}

func testWhole(t *testing.T, s *Share, _ store) {
	for _, size := range []int{0, 1, 300 << 10, maxInMemory, 20<<20 + 1} {
		data := random(size)
		for name, r := range map[string]io.Reader{"file": bytes.NewReader(data), "pipe": io.MultiReader(bytes.NewReader(data))} {
			key, told := fmt.Sprintf("dir/%s-%d", name, size), int64(0)
			began := time.Now()
			f, err := s.Put(t.Context(), key, r, &PutOptions{Progress: func(n int64) { told += n }})
			if err != nil || f.Size != int64(size) || f.SHA256 != sumOf(data) || f.Key != key || told != int64(size) {
				t.Fatalf("%s: %+v, %v, told of %d", key, f, err, told)
			}
			st, err := s.Stat(t.Context(), key)
			if err != nil || st.Size != int64(size) || st.SHA256 != f.SHA256 || st.Modified.Before(began.Add(-time.Hour)) {
				t.Errorf("%s: %+v, %v", key, st, err)
			}
			if !bytes.Equal(get(t, s, key), data) {
				t.Errorf("%s: other bytes", key)
			}
		}
	}
	put(t, s, "dir/pipe-1", "another")
	if got := get(t, s, "dir/pipe-1"); string(got) != "another" {
		t.Errorf("%q", got)
	}
}

// A reader that fails leaves what was there, or nothing.
func testFailures(t *testing.T, s *Share, _ store) {
	put(t, s, "old", "old")
	broken := errors.New("the tape is torn")
	for _, size := range []int{0, 10, 9 << 20} {
		for _, key := range []string{"old", "new"} {
			for name, r := range map[string]io.Reader{
				"pipe": io.MultiReader(bytes.NewReader(random(size)), iotest.ErrReader(broken)),
				"file": &failing{ReadSeeker: bytes.NewReader(random(size)), err: broken, times: 1},
			} {
				if _, err := s.Put(t.Context(), key, r, nil); !errors.Is(err, broken) {
					t.Fatalf("%s %s %d: %v", key, name, size, err)
				}
			}
		}
	}
	if got := get(t, s, "old"); string(got) != "old" {
		t.Errorf("%q", got)
	}
	if _, err := s.Stat(t.Context(), "new"); !errors.Is(err, navvy.ErrNotFound) {
		t.Errorf("%v", err)
	}
	if got := keys(t, s, ""); !slices.Equal(got, []string{"old"}) {
		t.Errorf("%q", got)
	}
}

// failing is a file whose end is an error when it is read for the second time, or, with
// times 0, the first.
type failing struct {
	io.ReadSeeker
	err   error
	times int
	first bool
}

func (f *failing) Seek(offset int64, whence int) (int64, error) {
	if whence == io.SeekCurrent {
		f.first = true // it will be read twice
	} else {
		f.times--
	}
	return f.ReadSeeker.Seek(offset, whence)
}

func (f *failing) Read(p []byte) (int, error) {
	n, err := f.ReadSeeker.Read(p)
	if errors.Is(err, io.EOF) && (!f.first || f.times == 0) {
		err = f.err
	}
	return n, err
}

// A file that grows between the two times that it is read is not put.
func testChanged(t *testing.T, s *Share, _ store) {
	if s.sums {
		t.Skip("is read once")
	}
	r := &growing{Reader: *bytes.NewReader([]byte("before"))}
	if _, err := s.Put(t.Context(), "a", r, nil); !errors.Is(err, navvy.ErrConflict) {
		t.Errorf("%v", err)
	}
	if got := keys(t, s, ""); len(got) != 0 {
		t.Errorf("%q", got)
	}
}

type growing struct{ bytes.Reader }

func (g *growing) Seek(offset int64, whence int) (int64, error) {
	if whence == io.SeekStart {
		g.Reset([]byte("after it"))
	}
	return g.Reader.Seek(offset, whence)
}

func testCancelled(t *testing.T, s *Share, _ store) {
	put(t, s, "old", "old")
	for _, key := range []string{"old", "new"} {
		ctx, cancel := context.WithCancel(t.Context())
		data := random(12 << 20)
		_, err := s.Put(ctx, key, bytes.NewReader(data), &PutOptions{SHA256: sumOf(data), Progress: func(int64) { cancel() }})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	}
	if got := keys(t, s, ""); !slices.Equal(got, []string{"old"}) || string(get(t, s, "old")) != "old" {
		t.Errorf("%q", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Copy(ctx, "old", io.Discard, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func testIfAbsent(t *testing.T, s *Share, _ store) {
	var wins sync.Map
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			_, err := s.Put(t.Context(), "a/one", strings.NewReader(fmt.Sprint(i)), &PutOptions{IfAbsent: true})
			if err == nil {
				wins.Store(i, true)
			} else if !errors.Is(err, navvy.ErrExists) && !errors.Is(err, navvy.ErrConflict) {
				t.Errorf("%v", err)
			}
		})
	}
	all.Wait()
	got := string(get(t, s, "a/one"))
	n := 0
	wins.Range(func(i, _ any) bool {
		n++
		return fmt.Sprint(i) == got || !t.Failed()
	})
	if n != 1 {
		t.Errorf("%d have put it", n)
	}
	if _, err := s.Put(t.Context(), "a/one", strings.NewReader("x"), &PutOptions{IfAbsent: true}); !errors.Is(err, navvy.ErrExists) {
		t.Errorf("%v", err)
	}
}

func testNothing(t *testing.T, s *Share, _ store) {
	put(t, s, "dir/file", "x")
	for _, key := range []string{"none", "dir", "dir/none", "dir/file/below", "none/at/all"} {
		_, errStat := s.Stat(t.Context(), key)
		_, errOpen := s.Open(t.Context(), key)
		for verb, err := range map[string]error{"stat": errStat, "open": errOpen, "remove": s.Remove(t.Context(), key)} {
			if !errors.Is(err, navvy.ErrNotFound) || !strings.Contains(err.Error(), key) {
				t.Errorf("%s %s: %v", verb, key, err)
			}
		}
	}
	for _, prefix := range []string{"none", "none/", "dir/file/", "dir/none"} {
		if got := keys(t, s, prefix); len(got) != 0 {
			t.Errorf("%s: %q", prefix, got)
		}
	}
	if err := s.Remove(t.Context(), "dir/file"); err != nil {
		t.Error(err)
	}
	if got := keys(t, s, ""); len(got) != 0 {
		t.Errorf("%q", got)
	}
	put(t, s, "dir", "now a file")
}

// oddKeys are all that is not forbidden.
var oddKeys = []string{
	"100% of a b+c&d=e?f#g", `back\slash "quoted" 'too'`, "ä/日本語/😀", "-", "a..b/...c", "~", "{}[]|^`<>:;,@!$*()", strings.Repeat("x", place.MaxPart),
	".hidden/.navvy", "%2F%00", "trailing space ", " leading",
}

func testKeys(t *testing.T, s *Share, _ store) {
	for _, key := range oddKeys {
		put(t, s, key, key)
	}
	want := slices.Sorted(slices.Values(oddKeys))
	if got := slices.Sorted(slices.Values(keys(t, s, ""))); !slices.Equal(got, want) { // Azure has an order of its own
		t.Errorf("got %q, want %q", got, want)
	}
	for _, key := range oddKeys {
		if got := string(get(t, s, key)); got != key {
			t.Errorf("%q holds %q", key, got)
		}
	}
	for _, key := range badKeys {
		_, errPut := s.Put(t.Context(), key, strings.NewReader("x"), nil)
		_, errStat := s.Stat(t.Context(), key)
		_, errOpen := s.Open(t.Context(), key)
		for verb, err := range map[string]error{"put": errPut, "stat": errStat, "open": errOpen, "remove": s.Remove(t.Context(), key)} {
			if !errors.Is(err, navvy.ErrInvalid) {
				t.Errorf("%s %q: %v", verb, key, err)
			}
		}
	}
}

var badKeys = []string{
	"", "/", "/abs", "a/", "a//b", ".", "..", "../up", "a/../b", "a/./b", "a/..", "dot./b", "zero\x00", "line\nfeed", "del\x7f", "\u0085", "bad\xff",
	strings.Repeat("x", place.MaxPart+1), strings.Repeat("x/", 512) + "y", ".navvy", ".navvy/sums/x", "a__0x41__",
}

func keys(t *testing.T, s *Share, prefix string) []string {
	t.Helper()
	var got []string
	for f, err := range s.List(t.Context(), prefix) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, f.Key)
	}
	return got
}

func testOrder(t *testing.T, s *Share, _ store) {
	list := []string{"a", "a b/c", "a-b", "a.txt", "b/c/d", "b/c/e", "b/c.txt", "b/d", "b0", "c/x"}
	for _, key := range list {
		put(t, s, key, "x")
	}
	for prefix, want := range map[string][]string{
		"": slices.Sorted(slices.Values(list)), "b/": {"b/c.txt", "b/c/d", "b/c/e", "b/d"}, "b/c": {"b/c.txt", "b/c/d", "b/c/e"},
		"a": {"a", "a b/c", "a-b", "a.txt"}, "b/c/d": {"b/c/d"}, "c/": {"c/x"},
	} {
		if got := keys(t, s, prefix); !slices.Equal(got, want) {
			t.Errorf("%q: got %q, want %q", prefix, got, want)
		}
	}
	for f, err := range s.List(t.Context(), "") { // who has seen enough stops
		if err != nil || f.Size != 1 || f.Modified.IsZero() {
			t.Errorf("%+v, %v", f, err)
		}
		break
	}
}
