package cli

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/navvy-run/navvy/queue/storagequeue/azuritetest"
	"github.com/navvy-run/navvy/share/versitygwtest"
)

// The scripts of testdata/stores run with each kind of store behind a server's share. They
// find its URL in the file store.url. What the server asks of the store goes into requests,
// a line each: the method, how many bytes come with it, and copy if the store is to copy
// what it has. While there is a file hold, such a copy waits, and there is a file held.

func TestStoreS3(t *testing.T) {
	t.Parallel()
	g := versitygwtest.Start(t)
	g.Bucket(t, "bucket")
	runScripts(t, "testdata/stores", func(env *testscript.Env) error {
		at := before(env, g.Address, "X-Amz-Copy-Source")
		return writeStore(env, strings.ReplaceAll(g.URL("bucket/srv"), g.Address, at))
	})
}

func TestStoreAzure(t *testing.T) {
	t.Parallel()
	a := azuritetest.StartBlob(t)
	c, err := container.NewClientFromConnectionString(a.ConnectionString(), "container", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Create(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	address := strings.TrimSuffix(strings.TrimPrefix(a.Endpoint(), "http://"), "/"+azuritetest.Account)
	runScripts(t, "testdata/stores", func(env *testscript.Env) error {
		at := before(env, address, "X-Ms-Copy-Source")
		env.Setenv("AZURE_STORAGE_CONNECTION_STRING", strings.ReplaceAll(a.ConnectionString(), address, at))
		return writeStore(env, "azblob://container/srv")
	})
}

func writeStore(env *testscript.Env, url string) error {
	return os.WriteFile(filepath.Join(env.WorkDir, "store.url"), []byte(url+"\n"), 0o600)
}

// before stands before a store, and gives its own address.
func before(env *testscript.Env, address, copying string) string {
	at := func(name string) string { return filepath.Join(env.WorkDir, name) }
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = "http", address
			r.Out.Host = r.In.Host // which is signed
		},
		Transport: &http.Transport{DisableKeepAlives: true},
	}
	log := &requestLog{path: at("requests")}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		duplicates := r.Header.Get(copying) != ""
		log.note(r, duplicates)
		for duplicates && exists(at("hold")) {
			_ = os.WriteFile(at("held"), nil, 0o600)
			select {
			case <-r.Context().Done():
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
		proxy.ServeHTTP(w, r)
	}))
	env.Defer(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

// requestLog notes requests in a file.
type requestLog struct {
	mu   sync.Mutex
	path string
}

func (l *requestLog) note(r *http.Request, duplicates bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f, err := os.OpenFile(l.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return // the script is over
	}
	what := ""
	if duplicates {
		what = " copy"
	}
	_, _ = fmt.Fprintf(f, "%s %d%s\n", r.Method, r.ContentLength, what) // as above
	_ = f.Close()
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
