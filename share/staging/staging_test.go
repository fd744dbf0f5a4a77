package staging

import (
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/share"
	"github.com/navvy-run/navvy/share/versitygwtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func server(g *versitygwtest.Gateway) Server {
	return Server{Endpoint: "http://" + g.Address, Key: versitygwtest.Key, Secret: versitygwtest.Secret}
}

// options are of a bucket that is there.
func options(t *testing.T, bucket string) *Options {
	t.Helper()
	g := versitygwtest.Start(t)
	g.Bucket(t, bucket)
	return &Options{Server: server(g), Bucket: bucket, Patience: time.Second}
}

// fill makes objects.
func fill(t *testing.T, o *Options, objects map[string]string) {
	t.Helper()
	for key, text := range objects {
		if err := Put(t.Context(), o, key, strings.NewReader(text)); err != nil {
			t.Fatal(err)
		}
	}
}

// files are those of a directory.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	got := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		got[strings.TrimPrefix(path, dir+"/")] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// objects are those of a bucket, as a directory would have them.
func objects(t *testing.T, o *Options) map[string]string {
	t.Helper()
	all := *o
	all.Prefix = ""
	dir := t.TempDir()
	if _, err := In(t.Context(), &all, dir); err != nil {
		t.Fatal(err)
	}
	return files(t, dir)
}

// What begins with the prefix comes in, below the folder that this names, and what is made
// goes out under names that begin with it.
func TestCopy(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		prefix      string
		comes, goes map[string]string
	}{
		{"", map[string]string{"a": "1", "run/7-a": "2", "run/7-sub/b": "3", "run/8": ""}, map[string]string{"out": "x", "d/e/f": "y"}},
		{"run/", map[string]string{"7-a": "2", "7-sub/b": "3", "8": ""}, map[string]string{"run/out": "x", "run/d/e/f": "y"}},
		{"run/7-", map[string]string{"7-a": "2", "7-sub/b": "3"}, map[string]string{"run/7-out": "x", "run/7-d/e/f": "y"}},
		{"run/8", map[string]string{"8": ""}, map[string]string{"run/8-out": "x", "run/8-d/e/f": "y"}},
		{"a", map[string]string{"a": "1"}, map[string]string{"a-out": "x", "a-d/e/f": "y"}},
	} {
		t.Run("prefix "+c.prefix, func(t *testing.T) {
			t.Parallel()
			o := options(t, "data")
			fill(t, o, map[string]string{"a": "1", "run/7-a": "2", "run/7-sub/b": "3", "run/8": ""})
			o.Prefix = c.prefix
			dir := t.TempDir()
			n, err := In(t.Context(), o, dir)
			if err != nil || n.Files != int64(len(c.comes)) {
				t.Fatalf("%+v, %v", n, err)
			}
			if diff := cmp.Diff(c.comes, files(t, dir)); diff != "" {
				t.Error(diff)
			}
			if info, err := os.Stat(dir + "/7-sub"); err == nil && info.Mode().Perm() != anybodyDir {
				t.Errorf("a directory is %s", info.Mode())
			}
			out := t.TempDir()
			if err := os.MkdirAll(out+"/d/e", 0o700); err != nil {
				t.Fatal(err)
			}
			for name, text := range map[string]string{"out": "x", "d/e/f": "y"} {
				if err := os.WriteFile(out+"/"+name, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			to := *o
			to.Bucket = "made-by-out"
			if n, err := Out(t.Context(), &to, out); err != nil || n != (Count{2, 2}) {
				t.Fatalf("%+v, %v", n, err)
			}
			if diff := cmp.Diff(c.goes, objects(t, &to)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// More objects than a list tells at once.
func TestMany(t *testing.T) {
	t.Parallel()
	g := versitygwtest.Start(t)
	g.Bucket(t, "data")
	const many = 1100
	for i := range many { // as the server keeps them
		if err := os.WriteFile(filepath.Join(g.Dir, "data", strings.Repeat("x", i%7+1)+time.Duration(i).String()), []byte{byte(i)}, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	if n, err := In(t.Context(), &Options{Server: server(g), Bucket: "data", Parallel: 16}, dir); err != nil || n != (Count{many, many}) {
		t.Fatalf("%+v, %v", n, err)
	}
	if diff := cmp.Diff(files(t, filepath.Join(g.Dir, "data")), files(t, dir)); diff != "" {
		t.Error(diff)
	}
}

// No name of an object leads out of the directory, and none is bent into another.
func TestNames(t *testing.T) {
	t.Parallel()
	s := share.OpenMemory()
	defer s.Close()
	for _, key := range []string{"../x", "a/../../x", "/x", "a//x", ".", "..", "a\nb", "x/.", "a/"} {
		dir := t.TempDir()
		in := &incoming{share: s, o: &Options{Bucket: "data"}, dir: dir, tries: (&Options{}).tries()}
		if err := in.file(t.Context(), share.File{Key: key, Size: 1}); !errors.Is(err, navvy.ErrInvalid) || Code(err) != CodeFiles {
			t.Errorf("%q: %v", key, err)
		}
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("%q leaves %v", key, left)
		}
	}
}

// Folders that programs for S3 make are directories; what is a file and a folder is neither.
func TestFolders(t *testing.T) {
	t.Parallel()
	s := share.OpenMemory()
	defer s.Close()
	if _, err := s.Put(t.Context(), "a", strings.NewReader("1"), nil); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	in := &incoming{share: s, o: &Options{Bucket: "data", Prefix: "run/"}, dir: dir, tries: (&Options{}).tries()}
	for _, key := range []string{"run/", "run/empty/deep/"} {
		if err := in.file(t.Context(), share.File{Key: key}); err != nil {
			t.Error(err)
		}
	}
	if info, err := os.Stat(dir + "/empty/deep"); err != nil || !info.IsDir() {
		t.Error(err)
	}
	in.o.Prefix = ""
	if err := in.file(t.Context(), share.File{Key: "a", Size: 1}); err != nil {
		t.Fatal(err)
	}
	if err := in.file(t.Context(), share.File{Key: "a/b", Size: 1}); !errors.Is(err, navvy.ErrInvalid) || !strings.Contains(err.Error(), "hold both") {
		t.Errorf("a file and a folder: %v", err)
	}
}

// What cannot be an object keeps all others back.
func TestSpecial(t *testing.T) {
	t.Parallel()
	o := options(t, "data")
	for name, make := range map[string]func(dir string) error{
		"a link": func(dir string) error { return os.Symlink("/etc/passwd", dir+"/z") },
		"a giant": func(dir string) error {
			return errors.Join(os.WriteFile(dir+"/z", nil, 0o600), os.Truncate(dir+"/z", maxFile+1))
		},
		"a dot": func(dir string) error { return os.WriteFile(dir+"/z.", nil, 0o600) },
	} {
		dir := t.TempDir()
		if err := errors.Join(os.WriteFile(dir+"/a", nil, 0o600), make(dir)); err != nil {
			t.Fatal(err)
		}
		if n, err := Out(t.Context(), o, dir); Code(err) != CodeFiles || n.Files != 0 {
			t.Errorf("%s: %+v, %v", name, n, err)
		}
	}
	if got := objects(t, o); len(got) > 0 {
		t.Errorf("there are %v", got)
	}
}

// What fails for good does so at once, and says why without the password.
func TestRefused(t *testing.T) {
	t.Parallel()
	o := options(t, "data")
	o.Patience = time.Hour
	missing, denied, none, away := *o, *o, *o, *o
	missing.Bucket = "nowhere"
	denied.Server.Secret = "s3cret"
	none.Prefix = "none"
	away.Server.Endpoint, away.Patience = "http://127.0.0.1:9", time.Millisecond
	for name, c := range map[string]struct {
		o     *Options
		code  int
		words string
	}{
		"no bucket":    {&missing, CodeFiles, "there is no bucket nowhere"},
		"denied":       {&denied, CodeDenied, "SignatureDoesNotMatch"},
		"no object":    {&none, CodeFiles, `no object whose name begins with "none"`},
		"nobody there": {&away, CodeUnavailable, "connection refused"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := In(t.Context(), c.o, t.TempDir())
			if Code(err) != c.code || err == nil || !strings.Contains(err.Error(), c.words) || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("%d, %v, want %d, %q", Code(err), err, c.code, c.words)
			}
		})
	}
}

// A server that is away for a while, longer than its library waits, costs time only.
func TestAgain(t *testing.T) {
	t.Parallel()
	o := options(t, "data")
	o.Patience = time.Minute
	behind, err := url.Parse(o.Server.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	var left atomic.Int64
	pass := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { // the host is signed
		r.Out.URL.Scheme, r.Out.URL.Host = behind.Scheme, behind.Host
		r.Out.Host = r.In.Host
	}}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if left.Add(-1) >= 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		pass.ServeHTTP(w, r)
	}))
	defer front.Close()
	defer http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	o.Server.Endpoint = front.URL
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/a", []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	left.Store(4)
	if _, err := Out(t.Context(), o, dir); err != nil {
		t.Error(err)
	}
	left.Store(4)
	back := t.TempDir()
	if _, err := In(t.Context(), o, back); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(files(t, dir), files(t, back)); diff != "" {
		t.Error(diff)
	}
}

func TestServer(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"http://minio:9000", "https://s3.example", "http://[::1]:9000?region=eu-west-1"} {
		s, err := ParseServer(text)
		if err != nil || s.String() != text {
			t.Errorf("%s: %s, %v", text, s, err)
		}
	}
	for _, text := range []string{"", "minio:9000", "ftp://minio", "http://", "http://k:s3cret@minio", "http://minio/bucket", "http://minio?x=y", "http://minio#f"} {
		if s, err := ParseServer(text); !errors.Is(err, navvy.ErrInvalid) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %s, %v", text, s, err)
		}
	}
	for endpoint, want := range map[string]string{"http://minio:9000": "minio:9000", "https://s3.example": "s3.example:443", "": ":"} {
		if name, port := (Server{Endpoint: endpoint}).Host(); name+":"+port != want {
			t.Errorf("%s is %s:%s", endpoint, name, port)
		}
	}
}
