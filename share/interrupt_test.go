package share

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/share/versitygwtest"
)

// zeros never ends.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// An upload that is interrupted says why, and leaves no parts behind.
func TestInterruptedUpload(t *testing.T) {
	t.Parallel()
	g := versitygwtest.Start(t)
	g.Bucket(t, "bucket")
	s := opened(t, g.URL("bucket"), nil)
	defer s.Close()
	put(t, s, "before", "before")
	for _, size := range []int64{1 << 20, 60 << 20} { // in one request, and in parts
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("enough")
		n := int64(0)
		o := &PutOptions{SHA256: strings.Repeat("0", 64), Progress: func(more int64) {
			if n += more; n > size {
				cancel(why)
			}
		}}
		if _, err := s.Put(ctx, "before", zeros{}, o); !errors.Is(err, why) || strings.Contains(err.Error(), "upload") || n > size+64<<20 {
			t.Errorf("%d: %v", n, err)
		}
		if got := string(get(t, s, "before")); got != "before" {
			t.Errorf("%.40q", got)
		}
	}
	var bytes int64
	err := filepath.WalkDir(g.Dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			bytes += info.Size()
		}
		return err
	})
	if err != nil || bytes > 1<<20 {
		t.Errorf("%d bytes are left, %v", bytes, err)
	}
}

// A store that does not answer holds nobody for long who does not want to wait.
func TestInterruptedSilence(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		cancel()
		<-r.Context().Done()
	}))
	defer server.Close()
	s := opened(t, "s3://k:s@bucket?use_path_style=true&endpoint="+server.URL, nil)
	defer s.Close()
	if _, err := s.Put(ctx, "x", strings.NewReader("x"), nil); !errors.Is(err, context.Canceled) || errors.Is(err, navvy.ErrUnavailable) {
		t.Error(err)
	}
}
