// Package staging copies objects of S3 into a directory, and files of a directory into
// S3, for programs that know nothing of it. What passes is tried again for a while; what
// does not is told apart by the exit code that Code gives.
package staging

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/share"
)

// Server is an S3 server, and who is its client. The zero value is Amazon's, with what its
// library finds in the environment.
type Server struct {
	// Endpoint is the server's URL, as in "http://minio:9000"; empty for Amazon's.
	Endpoint string
	// Region is what the server takes for one; empty for the usual.
	Region string
	// Key and Secret are the account; empty for what the library of S3 finds.
	Key, Secret string
}

// ParseServer reads the URL of a server, which may have the option region. The error wraps
// navvy.ErrInvalid, and does not repeat what may be a password.
func ParseServer(text string) (Server, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.Fragment != "" {
		return Server{}, invalid("want the URL of an S3 server such as http://minio:9000, without credentials")
	}
	values := u.Query()
	region := values.Get("region")
	if values.Del("region"); len(values) > 0 {
		return Server{}, invalid("the URL of an S3 server has the option region, and no other")
	}
	return Server{Endpoint: u.Scheme + "://" + u.Host, Region: region}, nil
}

// String is the server's URL as ParseServer reads it.
func (s Server) String() string {
	if s.Region == "" {
		return s.Endpoint
	}
	return s.Endpoint + "?" + url.Values{"region": {s.Region}}.Encode()
}

// Host gives name and port of the endpoint; empty if there is none.
func (s Server) Host() (name, port string) {
	u, err := url.Parse(s.Endpoint)
	if err != nil || u.Host == "" {
		return "", ""
	}
	if port = u.Port(); port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return u.Hostname(), port
}

// Open opens a bucket; nothing is asked yet.
func (s Server) Open(ctx context.Context, bucket string) (*share.Share, error) {
	u := &url.URL{Scheme: "s3", Host: bucket}
	if s.Key != "" {
		u.User = url.UserPassword(s.Key, s.Secret)
	}
	options := url.Values{}
	if s.Endpoint != "" {
		options.Set("endpoint", s.Endpoint)
		options.Set("use_path_style", "true")
	}
	if s.Region != "" {
		options.Set("region", s.Region)
	}
	u.RawQuery = options.Encode()
	return share.Open(ctx, u.String(), nil)
}

func invalid(format string, a ...any) error {
	return fmt.Errorf("%s: %w", fmt.Sprintf(format, a...), navvy.ErrInvalid)
}
