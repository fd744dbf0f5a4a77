package parcel_test

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/parcel"
)

// listing is a zip archive that lists a directory so many times, and says that it does so
// said times; with a long end also beyond what the short one can say.
func listing(t testing.TB, n int, comment string, long bool, said uint64) []byte {
	t.Helper()
	var b bytes.Buffer
	put := func(parts ...any) {
		for _, p := range parts {
			if text, ok := p.(string); ok {
				b.WriteString(text)
				continue
			}
			check(t, binary.Write(&b, binary.LittleEndian, p))
		}
	}
	put("PK\x03\x04", [22]byte{}, uint16(2), uint16(0), "a/")
	start := b.Len()
	for range n {
		put("PK\x01\x02", [24]byte{}, uint16(2), uint16(0), uint16(len(comment)), [12]byte{}, "a/", comment)
	}
	end := b.Len()
	if long {
		put("PK\x06\x06", uint64(44), [12]byte{}, said, said, uint64(end-start), uint64(start))
		put("PK\x06\x07", uint32(0), uint64(end), uint32(1))
	}
	short := [2]uint16{uint16(said), uint16(said)}
	if long {
		short = [2]uint16{0xffff, 0xffff}
	}
	put("PK\x05\x06", uint32(0), short, uint32(end-start), uint32(start), uint16(0))
	return b.Bytes()
}

// What a zip archive lists is bounded before it is in memory, whatever it says of itself.
func TestZipListBounded(t *testing.T) {
	t.Parallel()
	const most = 3000
	o := &parcel.Options{MaxEntries: most}
	for name, c := range map[string]struct {
		archive []byte
		words   string
	}{
		"just as many":              {listing(t, most, "", false, most), ""},
		"just as many, in long":     {listing(t, most, "", true, most), ""},
		"one more":                  {listing(t, most+1, "", false, most+1), "more than 3000 files"},
		"more, and says few":        {listing(t, 1<<16+1, "", false, 1), "more than 3000 files"},
		"more, in long":             {listing(t, 1<<16+1, "", true, 1<<16+1), "more than 3000 files"},
		"few, and says many":        {listing(t, 1, "", true, 1<<16*9+1), "more than 3000 files"},
		"much said of each":         {listing(t, most-1, strings.Repeat("x", 60_000), false, most-1), "its list of files is too long"},
		"something said of each":    {listing(t, most-1, strings.Repeat("x", 400), false, most-1), ""},
		"much said of few, as long": {listing(t, 10, strings.Repeat("x", 60_000), true, 10), ""},
	} {
		_, contents, err := unpack(t, c.archive, o)
		switch {
		case c.words == "" && (err != nil || contents.Entries != 1):
			t.Errorf("%s: %+v, %v", name, contents, err)
		case c.words != "" && (!errors.Is(err, navvy.ErrInvalid) || !strings.Contains(err.Error(), c.words)):
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Files of an ordinary archive are no part of its list, even where they look like one.
func TestZipWithListsInFiles(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for i := range 20 {
		f, err := w.CreateHeader(&zip.FileHeader{Name: fmt.Sprint("f", i), Method: zip.Store})
		check(t, err)
		_, err = f.Write(listing(t, 1000, "", false, 1000))
		check(t, err)
	}
	check(t, w.Close())
	if _, contents, err := unpack(t, b.Bytes(), &parcel.Options{MaxEntries: 20}); err != nil || contents.Entries != 20 {
		t.Errorf("%+v, %v", contents, err)
	}
}

// An archive is no larger than what may be in it, and some more.
func TestLongArchive(t *testing.T) {
	t.Parallel()
	for _, begin := range []string{"PK\x03\x04", "\x1f\x8b", ""} {
		dir := t.TempDir()
		f, err := os.Create(filepath.Join(dir, "archive"))
		check(t, err)
		_, err = f.WriteString(begin)
		check(t, err, f.Truncate(1<<30+11)) // without blocks
		_, err = parcel.Unpack(t.Context(), f, filepath.Join(dir, "tree"), &parcel.Options{MaxBytes: 10})
		if !errors.Is(err, navvy.ErrInvalid) || !strings.Contains(err.Error(), "the archive has 1073741835 bytes") {
			t.Errorf("%q: %v", begin, err)
		}
		check(t, f.Close())
	}
}
