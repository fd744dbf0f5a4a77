package rest_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/navvy-run/navvy/engine"
	"github.com/navvy-run/navvy/internal/holder"
	"github.com/navvy-run/navvy/server/auth"
	"github.com/navvy-run/navvy/share"
)

func digestOf(text string) (digest, etag string) {
	sum := sha256.Sum256([]byte(text))
	return "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":", `"` + hex.EncodeToString(sum[:]) + `"`
}

// Files go as their bytes, with their checksums.
func TestFiles(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	ann := w.as(t, "ann", auth.RoleUser)
	const path, text = "/v1/files/in/a%20b%25.bin", "\xff\x00 0123456789"
	digest, etag := digestOf(text)
	put := ann.do(http.MethodPut, path, text, "Content-Type: application/octet-stream", "Repr-Digest: md5=:AA==:, "+digest)
	if o := put.want(http.StatusOK)["file"].(map[string]any); o["key"] != "in/a b%.bin" || put.header.Get("ETag") != etag || put.header.Get("Repr-Digest") != digest {
		t.Errorf("%v, %v", o, put.header)
	}
	got := ann.do(http.MethodGet, path, "")
	if got.want(http.StatusOK); got.body != text || got.header.Get("ETag") != etag || got.header.Get("Repr-Digest") != digest || got.header.Get("Content-Type") != "application/octet-stream" {
		t.Errorf("%q, %v", got.body, got.header)
	}
	ann.do(http.MethodGet, path, "", "If-None-Match: "+etag).want(http.StatusNotModified)
	head := ann.do(http.MethodHead, path, "")
	if head.want(http.StatusOK); head.header.Get("Content-Length") != "13" || head.header.Get("ETag") != etag {
		t.Errorf("%v", head.header)
	}
	if none := ann.do(http.MethodHead, "/v1/files/none", ""); none.status != http.StatusNotFound {
		t.Errorf("what is not there: %d", none.status)
	}
	ann.do(http.MethodPut, path, "x", "If-None-Match: *").fails(http.StatusPreconditionFailed, "precondition_failed")
	ann.do(http.MethodPut, "/v1/files/empty", "").want(http.StatusOK)
	if got := ann.do(http.MethodGet, "/v1/files/empty", ""); got.status != http.StatusOK || got.body != "" {
		t.Errorf("%d %q", got.status, got.body)
	}

	ann.do(http.MethodDelete, path, "").want(http.StatusOK)
	ann.do(http.MethodGet, path, "").fails(http.StatusNotFound, "not_found")
}

// Files belong to their owners, and an admin names one.
func TestFilesOfOwners(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	ann, bob, root := w.as(t, "ann", auth.RoleUser), w.as(t, "bob", auth.RoleUser), w.as(t, "root", auth.RoleAdmin)
	const path, text = "/v1/files/in/a%20b%25.bin", "\xff\x00 0123456789"
	ann.do(http.MethodPut, path, text).want(http.StatusOK)
	ann.do(http.MethodPut, "/v1/files/out", text).want(http.StatusOK)
	list := ann.do(http.MethodGet, "/v1/files?prefix=in/", "").lines()
	if len(list) != 1 || list[0]["key"] != "in/a b%.bin" || list[0]["size"] != float64(13) {
		t.Errorf("%v", list)
	}
	if list := bob.do(http.MethodGet, "/v1/files", "").lines(); len(list) != 0 {
		t.Errorf("bob sees %v", list)
	}
	bob.do(http.MethodGet, path, "").fails(http.StatusNotFound, "not_found")
	for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodDelete} {
		bob.do(method, path+"?owner=ann", "").fails(http.StatusForbidden, "denied")
	}
	w.as(t, "eve", auth.RoleViewer).do(http.MethodGet, path, "").fails(http.StatusForbidden, "denied")
	if got := root.do(http.MethodGet, path+"?owner=ann", ""); got.body != text {
		t.Errorf("an admin reads %q", got.body)
	}
	root.do(http.MethodPut, "/v1/files/given?owner=bob", "yours").want(http.StatusOK)
	if got := bob.do(http.MethodGet, "/v1/files/given", ""); got.body != "yours" {
		t.Errorf("bob reads %q", got.body)
	}
}

// What makes no sense is refused, and leaves what was there as it was.
func TestFilesRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	ann := w.as(t, "ann", auth.RoleUser)
	ann.do(http.MethodPut, "/v1/files/f", "before").want(http.StatusOK)
	other, _ := digestOf("other")
	for _, c := range []struct{ path, header string }{
		{"f", "Repr-Digest: " + other},
		{"f", "Repr-Digest: sha-256=:AA==:"},
		{"f", "Repr-Digest: sha-512=:AA==:"},
		{"f", "Content-Range: bytes 0-3/10"},
		{"f", `If-Match: "x"`},
		{"f", "If-None-Match: x"},
		{"f", "If-Unmodified-Since: Mon, 02 Jan 2006 15:04:05 GMT"},
		{"f?size=3", ""},
		{"a%2F..%2Fb", ""},
		{"%2Fetc", ""},
		{"a%00b", ""},
		{strings.Repeat("x/", 351) + "x", ""},
	} {
		headers := []string{c.header}
		if c.header == "" {
			headers = nil
		}
		ann.do(http.MethodPut, "/v1/files/"+c.path, "text", headers...).fails(http.StatusBadRequest, "invalid")
	}
	for _, header := range []string{`If-Match: "x"`, "If-None-Match: *", "If-Unmodified-Since: Mon, 02 Jan 2006 15:04:05 GMT"} {
		ann.do(http.MethodDelete, "/v1/files/f", "", header).fails(http.StatusBadRequest, "invalid")
	}
	w.full(true)
	ann.do(http.MethodPut, "/v1/files/f", "text").fails(http.StatusInsufficientStorage, "exhausted")
	w.full(false)
	ann.do(http.MethodPost, "/v1/files/f", "text").fails(http.StatusMethodNotAllowed, "method_not_allowed")
	if got := ann.do(http.MethodGet, "/v1/files/f", ""); got.body != "before" {
		t.Errorf("it holds %q", got.body)
	}
	if list := ann.do(http.MethodGet, "/v1/files", "").lines(); len(list) != 1 {
		t.Errorf("%v", list)
	}
}

// Parts of a file, as curl -r and download managers ask for them.
func TestFileRanges(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	ann := w.as(t, "ann", auth.RoleUser)
	const text = "0123456789"
	digest, etag := digestOf(text)
	ann.do(http.MethodPut, "/v1/files/f", text).want(http.StatusOK)
	for _, c := range []struct {
		ask    string
		status int
		want   string
		from   string
	}{
		{"Range: bytes=2-4", http.StatusPartialContent, "234", "bytes 2-4/10"},
		{"Range: bytes=7-", http.StatusPartialContent, "789", "bytes 7-9/10"},
		{"Range: bytes=-2", http.StatusPartialContent, "89", "bytes 8-9/10"},
		{"Range: bytes=0-99", http.StatusPartialContent, text, "bytes 0-9/10"},
		{"Range: lines=1-2", http.StatusRequestedRangeNotSatisfiable, "", ""},
		{"Range: bytes=10-", http.StatusRequestedRangeNotSatisfiable, "", "bytes */10"},
	} {
		got := ann.do(http.MethodGet, "/v1/files/f", "", c.ask)
		if c.status != http.StatusPartialContent {
			got.fails(c.status, "range_not_satisfiable")
		} else if got.want(c.status); got.body != c.want || got.header.Get("Repr-Digest") != digest {
			t.Errorf("%s: %q, %v", c.ask, got.body, got.header)
		}
		if from := got.header.Get("Content-Range"); from != c.from {
			t.Errorf("%s: Content-Range %q, want %q", c.ask, from, c.from)
		}
	}
	if got := ann.do(http.MethodGet, "/v1/files/f", "", "Range: bytes=2-4", "If-Range: "+etag); got.body != "234" {
		t.Errorf("unchanged: %q", got.body)
	}
	ann.do(http.MethodPut, "/v1/files/f", "abcdefghij").want(http.StatusOK)
	if got := ann.do(http.MethodGet, "/v1/files/f", "", "Range: bytes=2-4", "If-Range: "+etag); got.status != http.StatusOK || got.body != "abcdefghij" {
		t.Errorf("changed: %d %q", got.status, got.body)
	}
	for _, ask := range []string{"bytes=0-1,8-9", "bytes=0-0, 2-2", "bytes=0-1,90-99"} { // more than one is as none
		got := ann.do(http.MethodGet, "/v1/files/f", "", "Range: "+ask)
		if got.want(http.StatusOK); got.body != "abcdefghij" || got.header.Get("Content-Range") != "" || got.header.Get("Content-Type") != "application/octet-stream" {
			t.Errorf("%s: %q, %v", ask, got.body, got.header)
		}
	}
	ann.do(http.MethodGet, "/v1/files/f", "", "If-Match: "+etag).fails(http.StatusPreconditionFailed, "precondition_failed")
}

// Parts come also from the server's store, small files and such as lie in its logs.
func TestFileRangesOfStore(t *testing.T) {
	t.Parallel()
	w := newWorldWith(t, false, func(cfg *holder.Config) {
		cfg.OpenFiles = func(_ context.Context, eng *engine.Engine) (*share.Share, error) { return holder.EngineShare(eng), nil }
	})
	ann := w.as(t, "ann", auth.RoleUser)
	for name, text := range map[string]string{"small": "0123456789", "large": strings.Repeat("0123456789abcdef", 1<<18)} {
		ann.do(http.MethodPut, "/v1/files/"+name, text).want(http.StatusOK)
		size := len(text)
		for _, c := range [][2]int{{0, 1}, {2, 5}, {size / 2, size - 3}, {size - 4, size}} {
			got := ann.do(http.MethodGet, "/v1/files/"+name, "", fmt.Sprintf("Range: bytes=%d-%d", c[0], c[1]-1))
			if got.want(http.StatusPartialContent); got.body != text[c[0]:c[1]] || got.header.Get("Content-Range") != fmt.Sprintf("bytes %d-%d/%d", c[0], c[1]-1, size) {
				t.Errorf("%s from %d to %d: %d bytes, %v", name, c[0], c[1], len(got.body), got.header)
			}
		}
		if got := ann.do(http.MethodGet, "/v1/files/"+name, "", "Range: bytes=-3"); got.body != text[size-3:] {
			t.Errorf("the end of %s: %.20q", name, got.body)
		}
		ann.do(http.MethodGet, "/v1/files/"+name, "", fmt.Sprintf("Range: bytes=%d-", size)).fails(http.StatusRequestedRangeNotSatisfiable, "range_not_satisfiable")
	}
}

// Who leaves in the midst of what he asked for ends the reading, and nothing of it goes on
// beside the server: the race detector and goleak are the judges.
func TestFileRangesBrokenOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	ann := w.as(t, "ann", auth.RoleUser)
	resp := ann.send(t.Context(), http.MethodPut, "/v1/files/f", noise(32<<20))
	if _ = resp.Body.Close(); resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Status)
	}
	host := strings.TrimPrefix(w.base, "http://")
	for i := range 40 {
		ask := []string{"1000000-", "0-0,1000-20000000,20000002-30000000"}[i%2]
		conn, err := net.Dial("tcp", host)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(patience))
		_, err = fmt.Fprintf(conn, "GET /v1/files/f HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nRange: bytes=%s\r\n\r\n", host, ann.token, ask)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyN(io.Discard, conn, int64(1+i)*40_000); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(conn.(*net.TCPConn).SetLinger(0), conn.Close()); err != nil { // a reset
			t.Fatal(err)
		}
	}
	if got := ann.do(http.MethodGet, "/v1/files/f", "", "Range: bytes=0-99"); got.status != http.StatusPartialContent || len(got.body) != 100 {
		t.Errorf("afterwards: %d with %d bytes", got.status, len(got.body))
	}
}

// noise gives bytes that no zero could stand for.
func noise(n int64) io.Reader { return io.LimitReader(rand.NewChaCha8([32]byte{7}), n) }

// A large file goes up and down in pieces, with a length and without one.
func TestFileLarge(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	ann := w.as(t, "ann", auth.RoleUser)
	const size = 64 << 20
	want := sha256.New()
	if _, err := io.Copy(want, noise(size)); err != nil {
		t.Fatal(err)
	}
	resp := ann.send(t.Context(), http.MethodPut, "/v1/files/large", noise(size)) // in chunks
	if _ = resp.Body.Close(); resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Status)
	}
	for from := range int64(2) {
		from *= size - 1000
		resp := ann.send(t.Context(), http.MethodGet, "/v1/files/large", nil, fmt.Sprintf("Range: bytes=%d-", from))
		got := sha256.New()
		if _, err := io.CopyN(got, noise(size), from); err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(got, resp.Body)
		if _ = resp.Body.Close(); err != nil || n != size-from || hex.EncodeToString(got.Sum(nil)) != hex.EncodeToString(want.Sum(nil)) {
			t.Errorf("from %d: %d bytes, %v", from, n, err)
		}
	}
	// Who leaves in the middle ends the sending.
	resp = ann.send(t.Context(), http.MethodGet, "/v1/files/large", nil)
	if _, err := io.CopyN(io.Discard, resp.Body, 1<<20); err != nil {
		t.Error(err)
	}
	_ = resp.Body.Close()
}

// breaksOff puts a file over a connection that ends in the middle, and gives the status of the answer.
func (c *caller) breaksOff(name string, chunked bool) int {
	c.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(c.base, "http://"))
	if err != nil {
		c.t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	length, piece := "Content-Length: 10000000", strings.Repeat("x", 1<<20)
	if chunked {
		length, piece = "Transfer-Encoding: chunked", "100000\r\n"+piece+"\r\n"
	}
	_, err = fmt.Fprintf(conn, "PUT /v1/files/%s HTTP/1.1\r\n%s\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n\r\n%s%s%s", name, length, c.token, piece, piece, piece[:1000])
	if err = errors.Join(err, conn.(*net.TCPConn).CloseWrite()); err != nil {
		c.t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

// A client that breaks off in the middle leaves nothing, and what was there.
func TestFileBrokenOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	ann := w.as(t, "ann", auth.RoleUser)
	ann.do(http.MethodPut, "/v1/files/old", "before").want(http.StatusOK)
	for _, name := range []string{"old", "new"} {
		for _, chunked := range []bool{false, true} {
			if status := ann.breaksOff(name, chunked); status != http.StatusBadRequest {
				t.Errorf("%s, in chunks %t: %d", name, chunked, status)
			}
		}
	}
	ann.do(http.MethodGet, "/v1/files/new", "").fails(http.StatusNotFound, "not_found")
	if got := ann.do(http.MethodGet, "/v1/files/old", ""); got.body != "before" {
		t.Errorf("it holds %d bytes", len(got.body))
	}
	if list := ann.do(http.MethodGet, "/v1/files", "").lines(); len(list) != 1 {
		t.Errorf("%v", list)
	}
	eventually(t, "what was broken off is removed", func() bool {
		left := 0
		_ = filepath.WalkDir(w.files+"/.navvy/tmp", func(_ string, e fs.DirEntry, err error) error {
			if err == nil && e.Type().IsRegular() {
				left++
			}
			return nil
		})
		return left == 0
	})
}

// Who reads a file that is damaged in the share does not get all of it.
func TestFileDamaged(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	ann := w.as(t, "ann", auth.RoleUser)
	text := strings.Repeat("0123456789abcdef", 1<<16)
	ann.do(http.MethodPut, "/v1/files/f", text).want(http.StatusOK)
	path := w.files + "/files/ann/f"
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	// As a disk does it: no time changes.
	if err := errors.Join(os.WriteFile(path, []byte("x"+text[1:]), 0o600), os.Chtimes(path, info.ModTime(), info.ModTime())); err != nil {
		t.Fatal(err)
	}
	resp := ann.send(t.Context(), http.MethodGet, "/v1/files/f", nil)
	n, err := io.Copy(io.Discard, resp.Body)
	if _ = resp.Body.Close(); err == nil || n >= int64(len(text)) {
		t.Errorf("%d of %d bytes came, %v", n, len(text), err)
	}
}

// What is wrong with a name is told under that name, and not where the server keeps it.
func TestFilesTellNoPaths(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	ann := w.as(t, "ann", auth.RoleUser)
	ann.do(http.MethodPut, "/v1/files/in/numbers", "text").want(http.StatusOK)
	if err := os.Symlink("numbers", filepath.Join(w.files, "files", "ann", "in", "link")); err != nil {
		t.Fatal(err)
	}
	other, _ := digestOf("other")
	for _, c := range []struct {
		method, name, header string
		status               int
		code                 string
	}{
		{http.MethodPut, "in/numbers", "If-None-Match: *", http.StatusPreconditionFailed, "precondition_failed"},
		{http.MethodPut, "in/numbers/sub", "", http.StatusConflict, "conflict"},
		{http.MethodPut, "in/numbers/sub", "If-None-Match: *", http.StatusConflict, "conflict"},
		{http.MethodPut, "in", "", http.StatusConflict, "conflict"},
		{http.MethodPut, "in", "If-None-Match: *", http.StatusConflict, "conflict"},
		{http.MethodGet, "in/link", "", http.StatusNotImplemented, "unsupported"},
		{http.MethodDelete, "in/link", "", http.StatusNotImplemented, "unsupported"},
		{http.MethodPut, "in/numbers", "Repr-Digest: " + other, http.StatusBadRequest, "invalid"},
		{http.MethodGet, "in", "", http.StatusNotFound, "not_found"},
	} {
		var headers []string
		if c.header != "" {
			headers = append(headers, c.header)
		}
		body := ""
		if c.method == http.MethodPut {
			body = "text"
		}
		told := ann.do(c.method, "/v1/files/"+c.name, body, headers...).fails(c.status, c.code)
		if strings.Contains(told, w.files) || strings.Contains(told, ".navvy") || strings.Contains(told, "files/ann") || strings.Contains(told, strconv.Itoa(os.Getpid())) ||
			!strings.Contains(told, strconv.Quote(c.name)) && c.code != "invalid" {
			t.Errorf("%s %s tells %s", c.method, c.name, told)
		}
	}
}
