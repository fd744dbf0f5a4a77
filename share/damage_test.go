package share

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/navvy-run/navvy"
)

// What the store gives back and nobody has put is told at the end.
func testDamage(t *testing.T, s *Share, st store) {
	data := random(3 << 20)
	flipped := slices.Clone(data)
	flipped[1<<20] ^= 1
	for name, bad := range map[string][]byte{"flipped": flipped, "short": data[:len(data)-1], "empty": nil, "long": append(slices.Clone(data), 'x')} {
		if st.fixed && name == "long" {
			continue
		}
		if _, err := s.Put(t.Context(), name, bytes.NewReader(data), nil); err != nil {
			t.Fatal(err)
		}
		st.spoil(t, s, name, bad)
		if _, err := s.Copy(t.Context(), name, io.Discard, nil); !errors.Is(err, navvy.ErrCorrupt) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
		path := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(path, []byte("before"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Fetch(t.Context(), name, path, nil); !errors.Is(err, navvy.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
		if got, err := os.ReadFile(path); string(got) != "before" || err != nil {
			t.Errorf("%s: the old file is gone: %v", name, err)
		}
		put(t, s, name, "mended")
		if got := string(get(t, s, name)); got != "mended" {
			t.Errorf("%q", got)
		}
	}
}

// Files of others have no checksum, and are read all the same.
func testNoSum(t *testing.T, s *Share, st store) {
	if st.foreign == nil {
		t.Skip("has no files of others")
	}
	st.foreign(t, s, "theirs", "text")
	if f, err := s.Stat(t.Context(), "theirs"); err != nil || f.SHA256 != "" || f.Size != 4 {
		t.Errorf("%+v, %v", f, err)
	}
	if got := get(t, s, "theirs"); string(got) != "text" {
		t.Errorf("%q", got)
	}
}

func testWanted(t *testing.T, s *Share, _ store) {
	for _, r := range []io.Reader{strings.NewReader("x"), io.MultiReader(strings.NewReader("x"))} {
		if _, err := s.Put(t.Context(), "a", r, &PutOptions{SHA256: sumOf([]byte("y"))}); !errors.Is(err, navvy.ErrCorrupt) {
			t.Errorf("%v", err)
		}
	}
	if got := keys(t, s, ""); len(got) != 0 {
		t.Errorf("%q", got)
	}
	if f, err := s.Put(t.Context(), "a", io.MultiReader(strings.NewReader("x")), &PutOptions{SHA256: sumOf([]byte("x"))}); err != nil || f.SHA256 != sumOf([]byte("x")) {
		t.Errorf("%+v, %v", f, err)
	}
	get(t, s, "a")
}

// Who reads while others write gets one of the versions, or is told that it has changed.
func testAtOnce(t *testing.T, s *Share, _ store) {
	const size = 64 << 10
	version := func(i int) string { return strings.Repeat(fmt.Sprintf("%08d", i), size/8) }
	put(t, s, "f", version(0))
	var writers, readers sync.WaitGroup
	for w := range 3 {
		writers.Go(func() {
			for i := range 8 {
				put(t, s, "f", version(1+w*100+i))
			}
		})
	}
	done, reads := make(chan struct{}), 0
	readers.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			var b bytes.Buffer
			_, err := s.Copy(t.Context(), "f", &b, nil)
			if errors.Is(err, navvy.ErrConflict) {
				continue
			}
			if err != nil || b.Len() != size || strings.Count(b.String(), b.String()[:8]) != size/8 {
				t.Errorf("%d bytes, %v", b.Len(), err)
				return
			}
			reads++
		}
	})
	writers.Wait()
	close(done)
	readers.Wait()
	get(t, s, "f")
}

func testFetch(t *testing.T, s *Share, _ store) {
	put(t, s, "a/b", "text")
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	for range 2 {
		told := int64(0)
		if f, err := s.Fetch(t.Context(), "a/b", path, func(n int64) { told += n }); err != nil || f.SHA256 != sumOf([]byte("text")) || told != 4 {
			t.Errorf("%+v, %v, %d", f, err, told)
		}
	}
	if got, err := os.ReadFile(path); string(got) != "text" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	for _, to := range []string{filepath.Join(dir, "none", "f"), dir} {
		if _, err := s.Fetch(t.Context(), "a/b", to, nil); err == nil || !strings.Contains(err.Error(), to) {
			t.Errorf("%v", err)
		}
	}
	if _, err := s.Fetch(t.Context(), "a/none", filepath.Join(dir, "none"), nil); !errors.Is(err, navvy.ErrNotFound) {
		t.Errorf("%v", err)
	}
	if list, err := os.ReadDir(dir); len(list) != 1 || err != nil {
		t.Errorf("%v, %v", list, err)
	}
}
