package cli

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"github.com/navvy-run/navvy/queue/storagequeue/azuritetest"
	"github.com/navvy-run/navvy/share/versitygwtest"
)

// shareUser runs command lines with a configuration of their own.
type shareUser struct {
	env map[string]string
}

func newShareUser(t *testing.T) *shareUser {
	t.Helper()
	return &shareUser{map[string]string{"NAVVY_DATA": t.TempDir() + "/data", "XDG_CONFIG_HOME": t.TempDir()}}
}

func (u *shareUser) run(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	return u.runContext(t.Context(), stdin, args...)
}

func (u *shareUser) runContext(ctx context.Context, stdin string, args ...string) result {
	var stdout, stderr bytes.Buffer
	a := &app{
		version: "test", in: strings.NewReader(stdin), err: &stderr, patience: 50 * time.Millisecond,
		env: func(name string) string { return u.env[name] }, environ: func() []string { return nil },
	}
	a.out = &counter{w: &stdout, n: &a.wrote}
	code := a.main(ctx, append([]string{"share"}, args...))
	return result{code, stdout.String(), stderr.String()}
}

// copies has files go to a place and come back.
func (u *shareUser) copies(t *testing.T, to string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"in/a": "one", "in/sub/b": strings.Repeat("two", 4<<20)} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	u.run(t, "piped", "put", "-", to+"/run/c").expect(t, 0)
	u.run(t, "", "put", "-r", dir+"/in/", to+"/run").expect(t, 0)
	u.run(t, "", "sync", "--progress", to+"/run", dir+"/out").expect(t, 0, "3/3 files")
	for name, want := range map[string]int{"a": 3, "sub/b": 12 << 20, "c": 5} {
		if info, err := os.Stat(filepath.Join(dir, "out", name)); err != nil || info.Size() != int64(want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	r := u.run(t, "", "sync", "-n", "--delete", dir+"/in", to+"/run")
	r.expect(t, 0)
	if r.stdout != "remove c\n" {
		t.Errorf("%q", r.stdout)
	}
	r = u.run(t, "", "ls", to+"/run", "--sums", "-o", "jsonl")
	r.expect(t, 0)
	if strings.Count(r.stdout, `"sha256":"`) != 3 {
		t.Errorf("%q", r.stdout)
	}
	u.run(t, "", "put", dir+"/in/a", to+"/run/c", "--if-absent").expect(t, 1, "without --if-absent it is replaced")
	u.run(t, "", "get", to+"/run/none", dir).expect(t, 1, `file "run/none" in share`)
	u.run(t, "", "rm", "-r", to+"/run").expect(t, 0)
	u.run(t, "", "ls", to).expect(t, 0, "there are no files")
}

// A share in S3, whose URL comes on standard input, and is never shown.
func TestShareS3(t *testing.T) {
	t.Parallel()
	g := versitygwtest.Start(t)
	g.Bucket(t, "bucket")
	u := newShareUser(t)
	u.run(t, g.URL("bucket/team")+"\n", "add", "lake", "--url-file", "-").expect(t, 0)
	u.copies(t, "share://lake")
	u.run(t, g.URLWith("other", "bucket"), "add", "denied", "--url-file", "-").expect(t, 0)
	u.run(t, "", "ls", "share://denied").expect(t, 77, "hint: see docs/share.md for whose credentials are used")
	u.run(t, g.URL("none"), "add", "none", "--url-file", "-").expect(t, 0)
	u.run(t, "x", "put", "-", "share://none/x").expect(t, 1, "there is no bucket none", "hint: make the bucket")
	for _, args := range [][]string{{"ls"}, {"ls", "-o", "json"}, {"ls", "share://denied"}} {
		r := u.run(t, "", args...)
		if strings.Contains(r.stdout+r.stderr, versitygwtest.Secret) || strings.Contains(r.stdout+r.stderr, "other@") {
			t.Errorf("%q shows a secret: %s%s", args, r.stdout, r.stderr)
		}
	}
}

// Ctrl-C during an upload in parts: nothing is said, and nothing is left.
func TestShareInterrupted(t *testing.T) {
	t.Parallel()
	g := versitygwtest.Start(t)
	g.Bucket(t, "bucket")
	ctx, cancel := context.WithCancel(t.Context())
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.Out.URL.Scheme, r.Out.URL.Host = "http", g.Address
		if r.In.URL.Query().Get("partNumber") == "3" {
			cancel()
		}
	}, Transport: &http.Transport{DisableKeepAlives: true}}
	server := httptest.NewServer(proxy)
	defer server.Close()
	u := newShareUser(t)
	u.run(t, strings.ReplaceAll(g.URL("bucket"), "http://"+g.Address, server.URL), "add", "lake", "--url-file", "-").expect(t, 0)
	file := filepath.Join(t.TempDir(), "file")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Truncate(file, 256<<20)); err != nil {
		t.Fatal(err)
	}
	if r := u.runContext(ctx, "", "put", file, "share://lake/x"); r.code != 130 || r.stderr != "" {
		t.Errorf("%d, %s", r.code, r.stderr)
	}
	u.run(t, "", "ls", "share://lake").expect(t, 0, "there are no files")
	_ = filepath.WalkDir(g.Dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			t.Errorf("%s is left", path)
		}
		return nil
	})
}

// A file that nobody may read is another thing than a mistake in the command line.
func TestShareUnreadable(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "closed")
	if err := errors.Join(os.WriteFile(file, nil, 0o000), os.Mkdir(dir+"/share", 0o700), os.Chmod(dir+"/share", 0o777)); err != nil {
		t.Fatal(err)
	}
	u := newShareUser(t)
	done := make(chan result)
	go func() {
		runtime.LockOSThread() // and it ends with the goroutine
		if os.Geteuid() == 0 {
			_, _, _ = syscall.RawSyscall(syscall.SYS_SETFSUID, 65534, 0, 0) // of this thread only
		}
		done <- u.runContext(t.Context(), "", "put", file, "file://"+dir+"/share#x")
	}()
	(<-done).expect(t, 77, "closed: permission denied\nhint: see who may read it: ls -ld "+file)
}

// A share in Azure, by its URL, with the connection string of the environment.
func TestShareAzure(t *testing.T) {
	t.Parallel()
	a := azuritetest.StartBlob(t)
	c, err := container.NewClientFromConnectionString(a.ConnectionString(), "container", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Create(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	u := newShareUser(t)
	u.run(t, "", "ls", "azblob://container").expect(t, 2, "which storage account")
	u.env["AZURE_STORAGE_CONNECTION_STRING"] = a.ConnectionString()
	u.copies(t, "azblob://container")
}

// A configuration that cannot be read is told, and what it says is checked.
func TestSharesFile(t *testing.T) {
	t.Parallel()
	u := newShareUser(t)
	dir := filepath.Join(u.env["XDG_CONFIG_HOME"], "navvy")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"shares: [": "yaml", "share: {}": "there is no key share", "shares: {x: {uri: y}}": "there is no key uri", "shares: {-x: {url: y}}": "no name of a share",
		`shares: {x: {"s3://k:hidden@b": y}}`: "of each share", `shares: {"s3://k:hidden@b": {url: y}}`: "of each share",
	} {
		if err := os.WriteFile(filepath.Join(dir, sharesName), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{{"ls"}, {"ls", "share://x"}, {"add", "y", "file:///"}, {"forget", "x"}} {
			r := u.run(t, "", args...)
			r.expect(t, 2, sharesName)
			if want != "yaml" {
				r.expect(t, 2, want)
			}
			if strings.Contains(r.stderr, "hidden") {
				t.Errorf("it shows a secret: %s", r.stderr)
			}
		}
	}
}
