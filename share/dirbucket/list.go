package dirbucket

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"

	"gocloud.dev/blob/driver"
)

// pageSize is how many files are listed at once if nobody says how many. Each page walks
// down again to where the one before ended, so that it is large.
const pageSize = 50_000

// errFull ends a walk whose page is full.
var errFull = errors.New("the page is full")

// ListPaged lists files in the order of their keys. Symbolic links, and what else is no
// file, are none.
func (b *bucket) ListPaged(ctx context.Context, o *driver.ListOptions) (*driver.ListPage, error) {
	if o.BeforeList != nil {
		if err := o.BeforeList(b.As); err != nil {
			return nil, err
		}
	}
	w := &walk{ctx: ctx, bucket: b, o: o, after: string(o.PageToken), size: o.PageSize}
	if w.size == 0 {
		w.size = pageSize
	}
	// Nothing outside of the folder that the prefix names can begin with it.
	dir, base := ".", ""
	if i := strings.LastIndexByte(o.Prefix, '/'); i >= 0 {
		dir, base = o.Prefix[:i], o.Prefix[:i+1]
	}
	if err := b.straight(dir); errors.Is(err, errLink) {
		return &w.page, nil
	} else if err != nil {
		return nil, err
	}
	if info, err := b.root.Lstat(dir); err != nil && b.ErrorCode(err) != notFound {
		return nil, err
	} else if err != nil || !info.IsDir() {
		return &w.page, nil
	}
	if err := w.folder(dir, base); err != nil && !errors.Is(err, errFull) {
		return nil, err
	}
	return &w.page, nil
}

// walk is one page that is made.
type walk struct {
	ctx    context.Context
	bucket *bucket
	o      *driver.ListOptions
	after  string // the last key of the page before
	size   int
	page   driver.ListPage
}

// folder walks through a folder, whose keys begin with base.
func (w *walk) folder(dir, base string) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	list, err := w.bucket.readDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // removed meanwhile
	} else if err != nil {
		return err
	}
	for _, e := range list {
		if err := w.entry(e.dir, base+e.name); err != nil {
			return err
		}
	}
	return nil
}

// entry puts a file on the page, or what is in a folder, whose key ends with a slash.
func (w *walk) entry(dir bool, key string) error {
	switch {
	case key == Own+"/" || !overlap(key, w.o.Prefix):
		return nil
	case !dir && (key <= w.after || !strings.HasPrefix(key, w.o.Prefix)):
		return nil
	case !dir:
		return w.file(key)
	case key < w.after && !strings.HasPrefix(w.after, key):
		return nil // all of it was on an earlier page
	case w.o.Delimiter != "/" || len(key) <= len(w.o.Prefix):
		return w.folder(strings.TrimSuffix(key, "/"), key)
	case key == w.after:
		return nil
	}
	return w.add(&driver.ListObject{Key: key, IsDir: true})
}

// overlap tells whether one begins with the other.
func overlap(a, b string) bool { return strings.HasPrefix(a, b) || strings.HasPrefix(b, a) }

func (w *walk) file(key string) error {
	info, err := w.bucket.root.Lstat(key)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
		return nil
	} else if err != nil {
		return err
	}
	return w.add(&driver.ListObject{Key: key, ModTime: info.ModTime(), Size: info.Size()})
}

// add puts a file on the page. That there is another page is known when its first comes.
func (w *walk) add(o *driver.ListObject) error {
	if len(w.page.Objects) == w.size {
		w.page.NextPageToken = []byte(w.page.Objects[w.size-1].Key)
		return errFull
	}
	w.page.Objects = append(w.page.Objects, o)
	return nil
}

// entry is a file, or a folder, whose name then ends with a slash, as it does in keys: the
// order of keys is not that of names.
type entry struct {
	name string
	dir  bool
}

func (b *bucket) readDir(dir string) ([]entry, error) {
	f, err := b.root.OpenFile(dir, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	found, err := f.ReadDir(-1)
	if err != nil {
		return nil, err
	}
	list := make([]entry, 0, len(found))
	for _, d := range found {
		e := entry{d.Name(), d.IsDir()}
		if e.dir {
			e.name += "/"
		} else if !d.Type().IsRegular() {
			continue
		}
		list = append(list, e)
	}
	slices.SortFunc(list, func(x, y entry) int { return strings.Compare(x.name, y.name) })
	return list, nil
}
