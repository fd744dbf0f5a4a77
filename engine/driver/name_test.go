package driver

import (
	"path"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// FuzzLogName checks that no name which is accepted leaves the directory that it
// is put into, or names another log's place.
func FuzzLogName(f *testing.F) {
	for _, name := range []string{"output/j1/0/1", "a", "..", "../a", "a/../b", "a//b", "/a", "a/", "A", "a\x00b", ".a", "a..", "a_log"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if CheckLogName(name) != nil {
			return
		}
		if path.Clean(name) != name || strings.HasPrefix(path.Join("logs", name), "..") || strings.ContainsAny(name, "_\\:\x00 ") {
			t.Errorf("%q was accepted", name)
		}
	})
}
