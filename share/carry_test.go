package share

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"strings"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/share/versitygwtest"
)

// A file that S3 does not copy, since it is too large, is moved all the same, and checked.
// The store behind the proxy answers as Amazon's does; a file of 5 GiB is none for a test.
func TestMoveTooLargeToCopy(t *testing.T) {
	t.Parallel()
	g := versitygwtest.Start(t)
	g.Bucket(t, "bucket")
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = "http", g.Address, r.In.Host
	}, Transport: &http.Transport{DisableKeepAlives: true}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Amz-Copy-Source") == "" {
			proxy.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(http.StatusBadRequest)
		_, _ = w.Write([]byte(`<Error><Code>InvalidRequest</Code><Message>The specified copy source is larger than the maximum allowable size for a copy source: 5368709120</Message></Error>`))
	}))
	t.Cleanup(server.Close)
	s := opened(t, strings.ReplaceAll(g.URL("bucket/x"), "http://"+g.Address, server.URL), nil)
	t.Cleanup(func() { _ = s.Close() })
	ctx := t.Context()
	content := bytes.Repeat([]byte("0123456789abcdef"), 1<<20) // more than one part
	if _, err := s.Put(ctx, "from", bytes.NewReader(content), nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Move(ctx, "from", "to"); err == nil {
		t.Error("what the store refuses otherwise is moved")
	}
	s.maxCopy = int64(len(content)) - 1
	if err := s.Duplicate(ctx, "from", "second"); err != nil {
		t.Fatal(err)
	}
	if err := s.Move(ctx, "from", "to"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Stat(ctx, "from"); !errors.Is(err, navvy.ErrNotFound) {
		t.Errorf("it is there still: %v", err)
	}
	sum := sha256.Sum256(content)
	for _, key := range []string{"to", "second"} {
		var got bytes.Buffer
		if f, err := s.Copy(ctx, key, &got, nil); err != nil || !bytes.Equal(got.Bytes(), content) || f.SHA256 != hex.EncodeToString(sum[:]) {
			t.Errorf("%s: %d bytes, %+v, %v", key, got.Len(), f, err)
		}
	}
}
