package claims_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"go.uber.org/goleak"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/queue"
	"github.com/navvy-run/navvy/queue/driver"
	"github.com/navvy-run/navvy/queue/drivertest"
	"github.com/navvy-run/navvy/queue/storagequeue"
	"github.com/navvy-run/navvy/queue/storagequeue/azuritetest"
	"github.com/navvy-run/navvy/share"
	"github.com/navvy-run/navvy/share/claims"
	"github.com/navvy-run/navvy/share/versitygwtest"
)

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		child()
	}
	goleak.VerifyTestMain(m)
}

const name = "NAMEOFABODY000001"

func open(t *testing.T, at, folder string, o *share.Options) *claims.Place {
	t.Helper()
	s, err := share.Open(t.Context(), at, o)
	if err != nil {
		t.Fatal(err)
	}
	p, err := claims.Open(t.Context(), s, folder)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// files are what a directory has, but for what the share keeps for itself.
func files(t *testing.T, dir string) (list []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Name() == ".navvy" {
			return fs.SkipDir
		}
		if err == nil && !d.IsDir() {
			list = append(list, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// azurite is a container of Azure's Blob storage.
func azurite(t *testing.T) (at string, o *share.Options) {
	t.Helper()
	a := azuritetest.StartBlob(t)
	c, err := container.NewClientFromConnectionString(a.ConnectionString(), "large", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Create(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	return "azblob://large", &share.Options{AzureConnection: a.ConnectionString()}
}

// Bodies are kept in each kind of share.
func TestPlace(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for kind, make := range map[string]func(*testing.T) (string, *share.Options){
		"directory": func(*testing.T) (string, *share.Options) { return "file://" + dir, nil },
		"s3": func(t *testing.T) (string, *share.Options) {
			g := versitygwtest.Start(t)
			g.Bucket(t, "large")
			return g.URL("large"), nil
		},
		"azure": azurite,
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			at, o := make(t)
			testPlace(t, open(t, at, "team/bodies", o))
		})
	}
}

func testPlace(t *testing.T, p *claims.Place) {
	body := bytes.Repeat([]byte("body\x00"), 1<<18)
	if err := p.Put(t.Context(), name, body); err != nil {
		t.Fatal(err)
	}
	if got, err := p.Get(t.Context(), name, len(body)); err != nil || !bytes.Equal(got, body) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if _, err := p.Get(t.Context(), name, len(body)-1); !errors.Is(err, navvy.ErrCorrupt) {
		t.Errorf("one that is longer than it should be: %v", err)
	}
	if err := p.Put(t.Context(), name+"2", nil); err != nil {
		t.Error(err)
	}
	if got, err := p.Get(t.Context(), name+"2", 0); err != nil || len(got) != 0 {
		t.Errorf("%q, %v", got, err)
	}
	testRemove(t, p, name, name+"2")
	if _, err := p.Get(t.Context(), "../../x", 1); err == nil {
		t.Error("a name leads elsewhere")
	}
	if strings.Contains(p.Place(), "@") || !strings.Contains(p.Place(), "/team/bodies") {
		t.Error(p.Place())
	}
}

// testRemove removes bodies, which are not there any more then.
func testRemove(t *testing.T, p *claims.Place, names ...string) {
	t.Helper()
	for _, n := range names {
		if err := p.Remove(t.Context(), n); err != nil {
			t.Error(err)
		}
		if _, err := p.Get(t.Context(), n, 1); !errors.Is(err, navvy.ErrNotFound) || errors.Is(err, navvy.ErrUnavailable) {
			t.Errorf("one that is removed: %v", err)
		}
		if err := p.Remove(t.Context(), n); !errors.Is(err, navvy.ErrNotFound) {
			t.Errorf("removed twice: %v", err)
		}
	}
}

// A place that is not there, or not reached, is told at the start; one that goes away later
// is waited for, and what was in it is not said to be gone.
func TestAway(t *testing.T) {
	t.Parallel()
	g := versitygwtest.Start(t)
	s, err := share.Open(t.Context(), g.URL("nix"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := claims.Open(t.Context(), s, "x"); !errors.Is(err, navvy.ErrNotFound) || !strings.Contains(err.Error(), "there is no bucket nix") {
		t.Error(err)
	}
	u, err := url.Parse(g.URL("nix"))
	if err != nil {
		t.Fatal(err)
	}
	options := u.Query()
	options.Set("endpoint", "http://127.0.0.1:1")
	u.RawQuery = options.Encode()
	if s, err = share.Open(t.Context(), u.String(), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := claims.Open(t.Context(), s, "x"); !errors.Is(err, navvy.ErrUnavailable) {
		t.Error(err)
	}
	dir := t.TempDir()
	p := open(t, "file://"+dir, "x", nil)
	if err := os.WriteFile(filepath.Join(dir, "x"), nil, 0o600); err != nil { // in the place of the folder
		t.Fatal(err)
	}
	if err := p.Put(t.Context(), name, nil); !errors.Is(err, navvy.ErrUnavailable) {
		t.Error(err)
	}
}

// A place has one name for all who use it, whatever their credentials; directories of two
// machines have two.
func TestName(t *testing.T) {
	t.Parallel()
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, c := range []struct{ at, folder, want string }{
		{"file://" + dir, "", "file://" + host + dir},
		{"file://" + dir, "a/b c", "file://" + host + dir + "/a/b%20c"},
	} {
		if p := open(t, c.at, c.folder, nil); p.Place() != c.want {
			t.Errorf("%s, want %s", p.Place(), c.want)
		}
	}
	g := versitygwtest.Start(t)
	g.Bucket(t, "bucket")
	p, q := open(t, g.URL("bucket/a"), "b", nil), open(t, g.URL("bucket"), "a/b", nil)
	if p.Place() != q.Place() || !strings.HasPrefix(p.Place(), "s3://bucket/a/b?endpoint=http") {
		t.Errorf("%s, %s", p.Place(), q.Place())
	}
}

// A body of a megabyte goes through a queue of Azure's, whose messages have 64 KiB, by way
// of its blobs.
func TestAzure(t *testing.T) {
	t.Parallel()
	at, so := azurite(t)
	place := open(t, at, "bodies", so)
	a := azuritetest.Start(t)
	drivers := map[string]driver.Driver{"azqueue": storagequeue.Driver(&storagequeue.Options{ConnectionString: a.ConnectionString()})}
	o := &queue.Options{Claims: place}
	q, err := queue.Open(t.Context(), "azqueue:///large?envelope=json&interval=50ms", drivers, o)
	if err != nil {
		t.Fatal(err)
	}
	body := bytes.Repeat([]byte("\xff0123456\r\n"), 1<<17)
	ctx, cancel := context.WithTimeout(t.Context(), drivertest.Patience)
	defer cancel()
	if err := q.Send(ctx, queue.Message{ID: "large", Correlation: "request", Body: body}); err != nil {
		t.Fatal(err)
	}
	leases, err := q.Receive(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	l := leases[0]
	if got := drivertest.Body(t, l); !bytes.Equal(got, body) || l.Correlation() != "request" {
		t.Errorf("%d bytes came as %d", len(body), len(got))
	}
	if err := l.Ack(ctx); err != nil {
		t.Error(err)
	}
	if _, err := place.Get(ctx, l.Claim(), len(body)); !errors.Is(err, navvy.ErrNotFound) {
		t.Errorf("after the acknowledgement: %v", err)
	}
	if err := q.Close(ctx); err != nil {
		t.Error(err)
	}
}
