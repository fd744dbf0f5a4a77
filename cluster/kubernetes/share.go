package kubernetes

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/cluster/driver"
	"github.com/navvy-run/navvy/cluster/work"
)

// What is shared is kept in ConfigMaps, which pods mount: that needs no server, no volume and
// no program in the pod. So there is not much room: a ConfigMap has 1 MiB.
const (
	mostInMap   = 900 << 10 // bytes of files in a ConfigMap
	mostInShare = 16 << 20
	mostFiles   = 1000
)

// shared is a file of a share.
type shared struct {
	name string // with slashes
	text []byte
	mode int64
}

// shares adds what workers find in their file systems.
func (k *compiler) shares() error {
	for i := range k.c.Share {
		if err := k.share(i); err != nil {
			return fmt.Errorf("share[%d]: %w", i, err)
		}
	}
	return nil
}

func (k *compiler) share(i int) error {
	s := &k.c.Share[i]
	for _, own := range ownPaths {
		if at := path.Clean(s.At); at == own || strings.HasPrefix(at, own+"/") || strings.HasPrefix(own, at+"/") {
			return unsupported("at", "%s: workers have their own files in %s", s.At, own)
		}
	}
	from := work.Beside(k.c, s.From)
	info, err := os.Stat(from)
	if err != nil {
		return fmt.Errorf("from: %w: %w", err, navvy.ErrInvalid)
	}
	files, err := readShare(from)
	if err != nil {
		return fmt.Errorf("from: %w", err)
	}
	volume := fmt.Sprintf("share-%d", i)
	mount := map[string]any{"name": volume, "mountPath": path.Clean(s.At), "readOnly": true}
	if !info.IsDir() {
		mount["subPath"] = "."
		if len(files) == 1 {
			mount["subPath"] = files[0].name
		}
	}
	sources := []any{}
	for n := 0; len(files) > 0 || n == 0; n++ {
		var u *unstructured.Unstructured
		var items []any
		u, items, files = k.fill(fmt.Sprintf("%s-%s-%d", k.c.Name, volume, n), files)
		name := u.GetName()
		sources = append(sources, map[string]any{"configMap": map[string]any{"name": name, "items": items}})
		applied, err := sanitize(u, k.salt)
		if err != nil {
			return err
		}
		k.pods.note(applied)
		id := driver.ID{Kind: kindFiles, Name: fmt.Sprintf("%s.%d@%s", path.Clean(s.At), n, name[strings.LastIndexByte(name, '-')+1:])}
		if err := k.later(id, u); err != nil {
			return err
		}
	}
	k.pods.mount(map[string]any{"name": volume, "projected": map[string]any{"defaultMode": int64(0o444), "sources": sources}}, mount)
	return nil
}

// fill puts files into a ConfigMap, as many as it has room for, and returns the others. The name
// ends with a digest of what is in it, which never changes: pods that run have what they began
// with, until they are replaced.
func (k *compiler) fill(name string, files []shared) (u *unstructured.Unstructured, items []any, rest []shared) {
	data, room, n := map[string]any{}, mostInMap, 0
	items = []any{}
	sum := sha256.New()
	for ; n < len(files) && len(files[n].text) <= room; n++ {
		f, key := &files[n], fmt.Sprintf("f%d", n)
		data[key] = base64.StdEncoding.EncodeToString(f.text)
		items = append(items, map[string]any{"key": key, "path": f.name, "mode": f.mode})
		_, _ = fmt.Fprintf(sum, "%q %o %q\n", f.name, f.mode, f.text) // never fails
		room -= len(f.text)
	}
	u = k.object("ConfigMap", name+"-"+hex.EncodeToString(sum.Sum(nil)[:8]))
	u.Object["binaryData"], u.Object["immutable"] = data, true
	return u, items, files[n:]
}

// readShare reads what is in a file or a directory. Links are followed, wherever they lead, but not
// round in a circle.
func readShare(root string) ([]shared, error) {
	r := &shareReader{}
	info, err := os.Stat(root)
	if err != nil {
		return nil, err
	}
	name := "."
	if !info.IsDir() {
		name = filepath.Base(root)
	}
	err = r.read(root, name, nil)
	return r.files, err
}

type shareReader struct {
	files []shared
	bytes int
	dirs  int
}

// read reads what is at a path, which is of that name in the share. Inside are the directories that
// it is in, as they are called without links.
func (r *shareReader) read(at, name string, inside []string) error {
	info, err := os.Stat(at) // what a link names
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", err, navvy.ErrInvalid)
	case info.IsDir():
		return r.readDir(at, name, inside)
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is no file: %w", at, navvy.ErrUnsupported)
	case info.Size() > mostInMap: // nobody reads what is too large
		return tooMuch(at)
	}
	text, err := os.ReadFile(at)
	if err != nil {
		return err
	}
	if r.bytes += len(text); len(text) > mostInMap || r.bytes > mostInShare || len(r.files) == mostFiles {
		return tooMuch(at)
	}
	mode := int64(0o444)
	if info.Mode()&0o111 != 0 {
		mode = 0o555
	}
	r.files = append(r.files, shared{name: name, text: text, mode: mode})
	return nil
}

func (r *shareReader) readDir(at, name string, inside []string) error {
	self, err := filepath.EvalSymlinks(at)
	if err != nil {
		return err
	}
	if slices.Contains(inside, self) {
		return fmt.Errorf("%s is a link to a directory that it is in: %w", at, navvy.ErrInvalid)
	}
	if r.dirs++; r.dirs > mostFiles { // links to directories of links may be many
		return tooMuch(at)
	}
	entries, err := os.ReadDir(at)
	if err != nil {
		return err
	}
	inside = append(slices.Clone(inside), self)
	for _, e := range entries {
		if err := r.read(filepath.Join(at, e.Name()), path.Join(name, e.Name()), inside); err != nil {
			return err
		}
	}
	return nil
}

func tooMuch(at string) error {
	return fmt.Errorf("%s is too much: on kubernetes a share has %d files of %d KiB each, as many directories, and %d MiB in all; put it into the image: %w",
		at, mostFiles, mostInMap>>10, mostInShare>>20, navvy.ErrUnsupported)
}
