package navvy

import (
	"errors"
	"strings"
	"testing"
)

// Buckets are names or URLs of them, and directories that do not meet; what is wrong is
// refused without a word of a password.
func TestBuckets(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		buckets Buckets
		literal bool
		words   string // of the error; empty for none
	}{
		"none":                {Buckets{}, false, ""},
		"a name":              {Buckets{Input: "data"}, false, ""},
		"only outputs":        {Buckets{Output: "data", OutputDir: "/out"}, false, ""},
		"URLs":                {Buckets{Input: "http://minio:9000/data", Output: "https://minio/other/"}, false, ""},
		"placeholders":        {Buckets{Input: "{1}", Prefix: "{2}/"}, false, ""},
		"in a URL":            {Buckets{Input: "http://minio:9000/{}"}, false, ""},
		"all":                 {Buckets{Input: "data", Output: "other", Prefix: "a/", InputDir: "/in", OutputDir: "/out"}, false, ""},
		"alike":               {Buckets{Input: "data", InputDir: "/in", OutputDir: "/in2"}, false, ""},
		"braces as they are":  {Buckets{Input: "{1}"}, true, "no name of a bucket"},
		"one of each":         {Buckets{Input: "http://minio:9000/data", Output: "data"}, false, "two names or two URLs"},
		"no name":             {Buckets{Input: "Data"}, false, "no name of a bucket"},
		"a short name":        {Buckets{Input: "ab"}, false, "no name of a bucket"},
		"a folder":            {Buckets{Input: "http://minio:9000/data/a"}, false, "as in http://host:9000/bucket"},
		"no bucket":           {Buckets{Input: "http://minio:9000"}, false, "as in http://host:9000/bucket"},
		"another scheme":      {Buckets{Input: "ftp://minio/data"}, false, "as in http://host:9000/bucket"},
		"a password":          {Buckets{Input: "http://k:s3cret@minio:9000/data"}, false, "without credentials"},
		"a signature":         {Buckets{Input: "http://minio:9000/data?X-Amz-Signature=s3cret"}, false, "without credentials"},
		"a prefix alone":      {Buckets{Prefix: "a"}, false, "go with a bucket"},
		"nothing to bring":    {Buckets{Output: "data", InputDir: "/in"}, false, "goes with a bucket of inputs"},
		"a line in a prefix":  {Buckets{Input: "data", Prefix: "a\nb"}, false, "no control characters"},
		"a long prefix":       {Buckets{Input: "data", Prefix: strings.Repeat("a", 901)}, false, "at most 900 bytes"},
		"a relative path":     {Buckets{Input: "data", InputDir: "in"}, false, "plain absolute path"},
		"the root":            {Buckets{Input: "data", InputDir: "/"}, false, "plain absolute path"},
		"a path with detours": {Buckets{Input: "data", OutputDir: "/a/../etc"}, false, "plain absolute path"},
		"one directory":       {Buckets{Input: "data", InputDir: "/d", OutputDir: "/d"}, false, "none in the other"},
		"one in the other":    {Buckets{Input: "data", InputDir: "/d", OutputDir: "/d/out"}, false, "none in the other"},
	} {
		s := Spec{Container: &Container{Image: "i", Buckets: c.buckets, Command: Command{Literal: c.literal}}}
		err := s.Validate()
		switch {
		case c.words == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.words != "" && (!errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), c.words)):
			t.Errorf("%s: %v, want %q", name, err, c.words)
		case err != nil && strings.Contains(err.Error(), "s3cret"):
			t.Errorf("%s: %v tells the password", name, err)
		}
	}
	s := Spec{Container: &Container{Image: "i", Entrypoint: []string{"p"}, Pack: 2, Buckets: Buckets{Input: "data"}}}
	if err := s.Validate(); err != nil {
		t.Errorf("buckets of a shared pod: %v", err)
	}
	s.Container.Buckets.InputDir = "/in"
	if err := s.Validate(); !errors.Is(err, ErrUnsupported) {
		t.Errorf("a directory of a bucket in a shared pod: %v", err)
	}
}

// What is read as the URL of a bucket names a server and a bucket, and holds no account.
func FuzzSplitBucket(f *testing.F) {
	for _, text := range []string{"http://minio:9000/data", "https://h/b/", "http://k:s@h/b", "http://h/a/b", "http://h/b?x", "//h/b", "http://[::1]/b", "http://h/%2e"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		server, name, err := SplitBucket(text)
		if err != nil {
			return
		}
		if strings.Contains(server, "@") || name == "" || strings.Contains(name, "/") {
			t.Errorf("%q is %q and %q", text, server, name)
		}
	})
}
