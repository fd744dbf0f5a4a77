package parcel_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/parcel"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func check(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// sample makes a directory with all that a package can have.
func sample(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	check(t,
		os.MkdirAll(filepath.Join(dir, "lib/empty"), 0o755),
		os.WriteFile(filepath.Join(dir, "run"), []byte("#!/bin/sh\necho hi\n"), 0o700),
		os.WriteFile(filepath.Join(dir, "lib/größe"), []byte("x"), 0o600),
		os.WriteFile(filepath.Join(dir, "zero"), nil, 0o644),
		os.Symlink("größe", filepath.Join(dir, "lib/link")),
		os.Symlink("../run", filepath.Join(dir, "lib/up")))
	return dir
}

// tree tells what is in a directory.
func tree(t testing.TB, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	check(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		text := info.Mode().String()
		switch {
		case info.Mode()&fs.ModeSymlink != 0:
			text, _ = os.Readlink(path)
			text = "-> " + text
		case info.Mode().IsRegular():
			content, _ := os.ReadFile(path)
			text += " " + string(content)
		}
		found[name] = text
		return err
	}))
	return found
}

func packed(t testing.TB, dir string) []byte {
	t.Helper()
	var b bytes.Buffer
	_, err := parcel.Pack(t.Context(), &b, dir, nil)
	check(t, err)
	return b.Bytes()
}

// unpack unpacks bytes into a new directory.
func unpack(t testing.TB, archive []byte, o *parcel.Options) (string, parcel.Contents, error) {
	t.Helper()
	parent := t.TempDir()
	f, err := os.Create(filepath.Join(parent, "archive"))
	check(t, err)
	defer f.Close()
	_, err = f.Write(archive)
	check(t, err)
	dir := filepath.Join(parent, "tree")
	t.Cleanup(func() { check(t, parcel.Remove(dir)) })
	c, err := parcel.Unpack(t.Context(), f, dir, o)
	if _, statErr := os.Lstat(dir); err != nil && !errors.Is(statErr, fs.ErrNotExist) {
		t.Errorf("something is left of it: %v", statErr)
	}
	return dir, c, err
}

// What was packed comes out again, for reading only or not; what is alike is packed alike.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	dir := sample(t)
	archive := packed(t, dir)
	if again := packed(t, sample(t)); !bytes.Equal(again, archive) {
		t.Error("what is alike is not packed alike")
	}
	for writable, want := range map[bool]map[string]string{
		false: {
			".": "dr-xr-xr-x", "lib": "dr-xr-xr-x", "lib/empty": "dr-xr-xr-x", "run": "-r-xr-xr-x #!/bin/sh\necho hi\n", "zero": "-r--r--r-- ",
			"lib/größe": "-r--r--r-- x", "lib/link": "-> größe", "lib/up": "-> ../run",
		},
		true: {
			".": "drwxr-xr-x", "lib": "drwxr-xr-x", "lib/empty": "drwxr-xr-x", "run": "-rwxr-xr-x #!/bin/sh\necho hi\n", "zero": "-rw-r--r-- ",
			"lib/größe": "-rw-r--r-- x", "lib/link": "-> größe", "lib/up": "-> ../run",
		},
	} {
		out, contents, err := unpack(t, archive, &parcel.Options{Writable: writable})
		check(t, err)
		if diff := cmp.Diff(want, tree(t, out)); diff != "" {
			t.Error(diff)
		}
		if contents != (parcel.Contents{Entries: 7, Bytes: 19}) {
			t.Errorf("it says that there are %+v", contents)
		}
		if again := packed(t, out); !bytes.Equal(again, archive) {
			t.Error("what comes out is not packed as what went in")
		}
	}
}

func TestPackRefuses(t *testing.T) {
	t.Parallel()
	for name, make := range map[string]func(dir string) error{
		"pipe":         func(dir string) error { return unix.Mkfifo(filepath.Join(dir, "x"), 0o600) },
		"out":          func(dir string) error { return os.Symlink("../y", filepath.Join(dir, "x")) },
		"absolute":     func(dir string) error { return os.Symlink("/etc", filepath.Join(dir, "x")) },
		"no UTF-8":     func(dir string) error { return os.WriteFile(filepath.Join(dir, "x\xff"), nil, 0o600) },
		"control":      func(dir string) error { return os.WriteFile(filepath.Join(dir, "x\n"), nil, 0o600) },
		"empty":        func(string) error { return nil },
		"too large":    func(dir string) error { return os.WriteFile(filepath.Join(dir, "x"), make([]byte, 11), 0o600) },
		"too many":     func(dir string) error { return os.MkdirAll(filepath.Join(dir, "x/1/2/3"), 0o700) },
		"dangling":     func(dir string) error { return os.Symlink("nothing", filepath.Join(dir, "x")) },
		"to itself":    func(dir string) error { return os.Symlink("x", filepath.Join(dir, "x")) },
		"there and up": func(dir string) error { return os.Symlink("a/../../x", filepath.Join(dir, "x")) },
	} {
		dir := t.TempDir()
		check(t, make(dir))
		_, err := parcel.Pack(t.Context(), io.Discard, dir, &parcel.Options{MaxBytes: 10, MaxEntries: 3})
		if !errors.Is(err, navvy.ErrInvalid) || !strings.Contains(err.Error(), "x") && name != "empty" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// tarOf makes a tar archive of headers, with the names as contents of files.
func tarOf(t testing.TB, headers ...*tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		content := h.Name
		if h.Typeflag == tar.TypeReg || h.Typeflag == 0 {
			h.Size = int64(len(content))
		} else {
			content = ""
		}
		if h.Typeflag != tar.TypeXGlobalHeader {
			h.ModTime = time.Unix(0, 0)
		}
		check(t, w.WriteHeader(h))
		_, err := io.WriteString(w, content)
		check(t, err)
	}
	check(t, w.Close())
	return b.Bytes()
}

func zipOf(t testing.TB, modes map[string]fs.FileMode, content string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for name, mode := range modes {
		h := &zip.FileHeader{Name: name, Method: zip.Deflate}
		h.SetMode(mode)
		f, err := w.CreateHeader(h)
		check(t, err)
		_, err = io.WriteString(f, content)
		check(t, err)
	}
	check(t, w.Close())
	return b.Bytes()
}

// Archives of others are read.
func TestForeign(t *testing.T) {
	t.Parallel()
	plain := tarOf(t,
		&tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "x"}},
		&tar.Header{Name: "./", Typeflag: tar.TypeDir}, &tar.Header{Name: "./a/run", Mode: 0o4755},
		&tar.Header{Name: "a/same", Typeflag: tar.TypeLink, Linkname: "./a/run"}, &tar.Header{Name: "a/", Typeflag: tar.TypeDir})
	want := map[string]string{".": "dr-xr-xr-x", "a": "dr-xr-xr-x", "a/run": "-r-xr-xr-x ./a/run", "a/same": "-r-xr-xr-x ./a/run"}
	out, _, err := unpack(t, plain, nil)
	check(t, err)
	if diff := cmp.Diff(want, tree(t, out)); diff != "" {
		t.Error(diff)
	}
	zipped := zipOf(t, map[string]fs.FileMode{"b/run": 0o755, "b/link": 0o777 | fs.ModeSymlink}, "run")
	out, _, err = unpack(t, zipped, nil)
	check(t, err)
	want = map[string]string{".": "dr-xr-xr-x", "b": "dr-xr-xr-x", "b/run": "-r-xr-xr-x run", "b/link": "-> run"}
	if diff := cmp.Diff(want, tree(t, out)); diff != "" {
		t.Error(diff)
	}
}

// What an archive must not hold is refused, with the name, and nothing is left of it.
func TestHostile(t *testing.T) {
	t.Parallel()
	dir := func(name string) *tar.Header { return &tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o755} }
	link := func(name, to string) *tar.Header {
		return &tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: to}
	}
	file := func(name string) *tar.Header { return &tar.Header{Name: name, Mode: 0o644} }
	many := make([]*tar.Header, 0, 6)
	for _, name := range []string{"1", "2", "3", "4", "5", "evil"} {
		many = append(many, file(name))
	}
	for name, archive := range map[string][]byte{
		"out":                   tarOf(t, file("../evil")),
		"out within":            tarOf(t, file("a/../../evil")),
		"absolute":              tarOf(t, file("/tmp/evil")),
		"twice":                 tarOf(t, file("evil"), file("evil")),
		"a file as a directory": tarOf(t, file("evil"), file("evil/x")),
		"control":               tarOf(t, file("evil\n")),
		"no UTF-8":              tarOf(t, file("evil\xff")),
		"link out":              tarOf(t, link("evil", "../x")),
		"link absolute":         tarOf(t, link("evil", "/etc/passwd")),
		"link nowhere":          tarOf(t, &tar.Header{Name: "evil", Typeflag: tar.TypeSymlink}),
		"link to nothing":       tarOf(t, link("evil", "x")),
		"link to itself":        tarOf(t, link("evil", "./evil")),
		"links round":           tarOf(t, link("evil", "evil2"), link("evil2", "evil")),
		"link through a file":   tarOf(t, file("f"), link("evil", "f/x")),
		"link within and out":   tarOf(t, dir("d/e"), link("d/e/up", "../.."), link("evil", "d/e/up/../x")),
		"through a link":        tarOf(t, dir("d"), link("evil", "d"), file("evil/x")),
		"over a link":           tarOf(t, dir("d"), link("evil", "d/x"), file("evil")),
		"a link to what is out": tarOf(t, &tar.Header{Name: "evil", Typeflag: tar.TypeLink, Linkname: "../../etc/passwd"}),
		"a link to a link":      tarOf(t, link("l", "x"), &tar.Header{Name: "evil", Typeflag: tar.TypeLink, Linkname: "l"}),
		"a device":              tarOf(t, &tar.Header{Name: "evil", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}),
		"a pipe":                tarOf(t, &tar.Header{Name: "evil", Typeflag: tar.TypeFifo}),
		"too many":              tarOf(t, many...),
		"too large":             tarOf(t, file("evil"+strings.Repeat("x", 60))),
		"zip out":               zipOf(t, map[string]fs.FileMode{"../evil": 0o644}, ""),
		"zip link":              zipOf(t, map[string]fs.FileMode{"evil": 0o777 | fs.ModeSymlink}, "../x"),
		"zip link to nothing":   zipOf(t, map[string]fs.FileMode{"evil": 0o777 | fs.ModeSymlink}, "x"),
		"zip device":            zipOf(t, map[string]fs.FileMode{"evil": 0o644 | fs.ModeDevice}, ""),
		"zip too large":         zipOf(t, map[string]fs.FileMode{"evil": 0o644}, strings.Repeat("x", 1<<20)),
	} {
		_, _, err := unpack(t, archive, &parcel.Options{MaxEntries: 5, MaxBytes: 50})
		if !errors.Is(err, navvy.ErrInvalid) || !strings.Contains(err.Error(), "evil") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := unpack(t, tarOf(t), nil); !errors.Is(err, navvy.ErrInvalid) {
		t.Errorf("an archive of nothing: %v", err)
	}
}

// Damage is noticed wherever it is.
func TestDamaged(t *testing.T) {
	t.Parallel()
	whole := packed(t, sample(t))
	for n := range len(whole) {
		if _, _, err := unpack(t, whole[:n], nil); n > 0 && !errors.Is(err, navvy.ErrCorrupt) {
			t.Fatalf("of %d bytes the first %d: %v", len(whole), n, err)
		}
	}
	spoilt := bytes.Clone(whole)
	spoilt[len(spoilt)-6] ^= 1 // of the checksum
	if _, _, err := unpack(t, spoilt, nil); !errors.Is(err, navvy.ErrCorrupt) {
		t.Errorf("with another checksum: %v", err)
	}
	if _, _, err := unpack(t, []byte(strings.Repeat("no archive ", 100)), nil); !errors.Is(err, navvy.ErrCorrupt) {
		t.Errorf("what is no archive: %v", err)
	}
}

// A context ends both, and nothing is left.
func TestCancelled(t *testing.T) {
	t.Parallel()
	dir := sample(t)
	archive := filepath.Join(t.TempDir(), "a")
	check(t, os.WriteFile(archive, packed(t, dir), 0o600))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := parcel.Pack(ctx, io.Discard, dir, nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	f, err := os.Open(archive)
	check(t, err)
	defer f.Close()
	to := filepath.Join(t.TempDir(), "tree")
	if _, err := parcel.Unpack(ctx, f, to, nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := os.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// confined counts what is in a directory, and finds what must not be there.
func confined(t *testing.T, dir string) (entries int, sum int64) {
	t.Helper()
	entries = -1 // not the directory itself
	check(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		entries++
		info, err := d.Info()
		if err != nil {
			return err
		}
		switch {
		case info.Mode().IsRegular():
			sum += info.Size()
		case info.Mode()&fs.ModeSymlink != 0:
			if real, err := filepath.EvalSymlinks(path); err == nil && real != dir && !strings.HasPrefix(real, dir+"/") {
				t.Errorf("%s leads to %s", path, real)
			}
		case !info.IsDir():
			t.Errorf("%s is %s", path, info.Mode())
		}
		return nil
	}))
	return entries, sum
}

// Whatever bytes come, nothing is made outside, no link leads there, and the bounds hold.
func FuzzUnpack(f *testing.F) {
	f.Add(packed(f, sample(f)))
	f.Add(tarOf(f, &tar.Header{Name: "a/b"}, &tar.Header{Name: "a/c", Typeflag: tar.TypeSymlink, Linkname: "../a/b"}))
	f.Add(tarOf(f, &tar.Header{Name: "../x"}))
	f.Add(zipOf(f, map[string]fs.FileMode{"b/run": 0o755}, "run"))
	var gz bytes.Buffer
	w := gzip.NewWriter(&gz)
	_, err := w.Write(tarOf(f, &tar.Header{Name: "l", Typeflag: tar.TypeLink, Linkname: "m"}))
	check(f, err, w.Close())
	f.Add(gz.Bytes())
	f.Fuzz(func(t *testing.T, archive []byte) {
		o := &parcel.Options{MaxEntries: 20, MaxBytes: 4096}
		dir, contents, err := unpack(t, archive, o)
		if err != nil {
			return
		}
		entries, sum := confined(t, dir)
		if entries != contents.Entries || sum != contents.Bytes || entries > o.MaxEntries || sum > o.MaxBytes {
			t.Errorf("%d entries with %d bytes, and it says %+v", entries, sum, contents)
		}
		if beside, err := os.ReadDir(filepath.Dir(dir)); err != nil || len(beside) != 2 {
			t.Errorf("beside the directory there are %v, %v", beside, err)
		}
	})
}
