package cli

import (
	"errors"
	"strings"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/share/staging"
)

// The S3 server is told by navvy's own names, or by those of older workers, and no error
// repeats a password.
func TestBucketServer(t *testing.T) {
	t.Parallel()
	type settings map[string]string
	for name, c := range map[string]struct {
		env    settings
		server staging.Server
		here   string
		wrong  string // in the error
	}{
		"nothing":     {settings{}, staging.Server{}, "", ""},
		"ours":        {settings{"NAVVY_BUCKETS": "https://s3.example?region=r", "NAVVY_BUCKETS_HERE": "http://127.0.0.1:1"}, staging.Server{Endpoint: "https://s3.example", Region: "r"}, "http://127.0.0.1:1", ""},
		"a service":   {settings{"MINIO_SERVICE_HOST": "10.0.0.9"}, staging.Server{Endpoint: "http://10.0.0.9:9000"}, "", ""},
		"its account": {settings{"MINIO_SERVICE_HOST": "::1", "MINIO_SERVICE_PORT": "1", "MINIO_ROOT_USER": "u", "MINIO_ROOT_PASSWORD": "p"}, staging.Server{Endpoint: "http://[::1]:1", Key: "u", Secret: "p"}, "", ""},
		"ours first":  {settings{"NAVVY_BUCKETS": "http://a", "MINIO_SERVICE_HOST": "b"}, staging.Server{Endpoint: "http://a"}, "", ""},
		"no server":   {settings{"NAVVY_BUCKETS": "http://u:s3cret@minio"}, staging.Server{}, "", "NAVVY_BUCKETS: want the URL"},
		"not here":    {settings{"NAVVY_BUCKETS_HERE": "minio:9000"}, staging.Server{}, "", "NAVVY_BUCKETS_HERE: want the URL"},
		"half":        {settings{"MINIO_ROOT_PASSWORD": "s3cret"}, staging.Server{}, "", "one is set without the other"},
	} {
		server, here, err := bucketServer(func(name string) string { return c.env[name] })
		switch {
		case c.wrong != "":
			if !errors.Is(err, navvy.ErrInvalid) || !strings.Contains(err.Error(), c.wrong) || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("%s: %v", name, err)
			}
		case err != nil || server != c.server || here != c.here:
			t.Errorf("%s: %+v, %q, %v", name, server, here, err)
		}
	}
}
