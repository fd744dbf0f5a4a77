package staging

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/navvy-run/navvy/share/place"
)

// Whatever an object is called and whatever the prefix, no file of it is outside the directory.
func FuzzNames(f *testing.F) {
	for _, key := range []string{"a", "run/a", "../x", "run/../../x", "/etc/passwd", "run//a", "run/.", "a\x00b", `a\..\b`} {
		f.Add("run/", key)
	}
	f.Fuzz(func(t *testing.T, prefix, rest string) {
		name := Below(prefix, prefix+rest)
		if !strings.HasSuffix(prefix+rest, name) {
			t.Errorf("%q below %q is %q", prefix+rest, prefix, name)
		}
		if place.CheckKey(name) == nil && !filepath.IsLocal(filepath.FromSlash(name)) {
			t.Errorf("%q leads out of the directory", name)
		}
	})
}

// What is read as a server is written as the same, and holds no account.
func FuzzParseServer(f *testing.F) {
	for _, text := range []string{"http://minio:9000", "https://s3.example?region=eu", "http://k:s@h", "http://h/b", "http://[::1]:9", "http://h?region=%zz"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseServer(text)
		if err != nil {
			return
		}
		again, err := ParseServer(s.String())
		if err != nil || again != s || s.Key != "" || s.Secret != "" {
			t.Errorf("%q is %+v, and then %+v, %v", text, s, again, err)
		}
	})
}
