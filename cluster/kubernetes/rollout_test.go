package kubernetes

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/navvy-run/navvy"
)

// Workers that cannot be replaced are told, though those of before are ready still.
func TestRollout(t *testing.T) {
	t.Parallel()
	for _, workers := range []int{1, 4} {
		t.Run(fmt.Sprint(workers), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "runs")
			c := w.answering(t, fmt.Sprintf("rolls-%d", workers))
			c.Workers.Count = workers
			d := w.open(t)
			d.patience = time.Second
			if _, err := controller(d).Apply(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			// Workers of before keep the files that they have.
			files := w.files(t, c.Name)
			c.Share[0].From = filepath.Join("share", "sub")
			w.fate, c.Workers.Image = "image", "local.test/navvy:none"
			_, err := controller(d).Apply(t.Context(), c)
			wantError(t, "another image", err, navvy.ErrUnavailable, "ImagePullBackOff", "deployment "+c.Name+"-worker", "files /data.0@")
			both := w.files(t, c.Name)
			if len(files) != 1 || len(both) != 2 || !slices.Contains(both, files[0]) {
				t.Errorf("there are the files %q, and were %q", both, files)
			}
			w.fate = "runs"
			c.Workers.Image = "local.test/navvy:2"
			if _, err := controller(d).Apply(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			if l := w.files(t, c.Name); len(l) != 1 || l[0] == files[0] {
				t.Errorf("there are the files %q, and were %q", l, files)
			}
			if _, err := controller(d).Destroy(t.Context(), c.Name); err != nil {
				t.Error(err)
			}
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// files are the ConfigMaps of a cluster's shares.
func (w *world) files(t *testing.T, name string) (list []string) {
	t.Helper()
	for _, one := range left(t, w.c, w.namespace, name) {
		if strings.HasPrefix(one, "ConfigMap "+name+"-share-") {
			list = append(list, one)
		}
	}
	return list
}

// A ConfigMap of files has a name that no other one has: what a pod finds by it never changes.
func TestShareNames(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := &Driver{o: Options{CheckService: func(string) error { return nil }, CheckQueue: func(string, string) error { return nil }, Getenv: func(string) string { return "nats://h" }}}
	seen := map[string]string{}
	for _, file := range []string{"b", "a", "a"} { // the second comes before the first one
		if err := os.WriteFile(filepath.Join(dir, file), []byte(file+fmt.Sprint(len(seen))), 0o600); err != nil {
			t.Fatal(err)
		}
		c := (&world{namespace: "space"}).answering(t, "shares")
		c.Share[0].From = dir
		list, err := d.Compile(t.Context(), c, []byte("0123456789abcdef"))
		if err != nil {
			t.Fatal(err)
		}
		for i := range list {
			if list[i].Kind == kindFiles {
				u := list[i].Spec.(*part).object
				if was := seen[u.GetName()]; was != "" {
					t.Errorf("%s has other files than %s", u.GetName(), was)
				}
				seen[u.GetName()] = fmt.Sprint(u.Object["binaryData"])
			}
		}
	}
	if len(seen) != 3 {
		t.Errorf("there were %v", seen)
	}
}

// Links are followed, to files and to directories, in what is shared and out of it; not in a circle.
func TestShareLinks(t *testing.T) {
	t.Parallel()
	dir, outside := t.TempDir(), t.TempDir()
	write := func(at string) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o700), os.WriteFile(at, []byte(filepath.Base(at)), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	link := func(to, at string) {
		t.Helper()
		if err := os.Symlink(to, filepath.Join(dir, at)); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(dir, "sub", "deep", "a"))
	write(filepath.Join(outside, "b"))
	link("sub/deep/a", "file")
	link("sub", "dir")
	link(outside, "out")
	files, err := readShare(dir)
	var names []string
	for _, f := range files {
		names = append(names, f.name+"="+string(f.text))
	}
	if want := []string{"dir/deep/a=a", "file=a", "out/b=b", "sub/deep/a=a"}; err != nil || !slices.Equal(names, want) {
		t.Errorf("there are %q, want %q, %v", names, want, err)
	}
	link("..", "sub/deep/up")
	_, err = readShare(dir)
	wantError(t, "a circle", err, navvy.ErrInvalid, "a directory that it is in", filepath.Join("deep", "up"))
	if err := os.Remove(filepath.Join(dir, "sub", "deep", "up")); err != nil {
		t.Fatal(err)
	}
	link("nowhere", "dead")
	_, err = readShare(dir)
	wantError(t, "a link to nowhere", err, navvy.ErrInvalid, "dead")
	// Directories that link to the next one twice are as many as there is time for.
	many := t.TempDir()
	const steps = 40
	for i := range steps {
		at := filepath.Join(many, fmt.Sprintf("d%02d", i))
		next := filepath.Join(many, fmt.Sprintf("d%02d", i+1))
		if err := errors.Join(os.Mkdir(at, 0o700), os.Symlink(next, filepath.Join(at, "x")), os.Symlink(next, filepath.Join(at, "y"))); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(many, fmt.Sprintf("d%02d", steps)), 0o700); err != nil {
		t.Fatal(err)
	}
	_, err = readShare(many)
	wantError(t, "many directories", err, navvy.ErrUnsupported, "too much")
}
