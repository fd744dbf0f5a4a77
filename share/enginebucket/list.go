package enginebucket

import (
	"context"
	"strings"

	"gocloud.dev/blob/driver"

	"github.com/navvy-run/navvy/engine"
)

// pageSize is how many files are listed at once if nobody says how many.
const pageSize = 1000

// ListPaged lists files in the order of their names. The token of a page is the name at
// which it begins.
func (b *bucket) ListPaged(ctx context.Context, o *driver.ListOptions) (*driver.ListPage, error) {
	if o.BeforeList != nil {
		if err := o.BeforeList(b.As); err != nil {
			return nil, err
		}
	}
	l := &listing{o: o, size: o.PageSize}
	if l.size == 0 {
		l.size = pageSize
	}
	for from, again := string(o.PageToken), true; again; {
		l.behind = ""
		if err := b.files.Scan(ctx, o.Prefix, from, l.add); err != nil {
			return nil, err
		}
		from, again = l.behind, l.behind != ""
	}
	return &l.page, nil
}

// listing is one page that is made.
type listing struct {
	o    *driver.ListOptions
	size int
	page driver.ListPage
	// behind is where the scan goes on behind a folder that ends it; empty if none does.
	behind string
}

// add puts a file on the page, or the folder that it is in.
func (l *listing) add(f *engine.File) error {
	if len(l.page.Objects) == l.size {
		l.page.NextPageToken = []byte(f.Name)
		return engine.ErrStop
	}
	if d := l.o.Delimiter; d != "" {
		if i := strings.Index(f.Name[len(l.o.Prefix):], d); i >= 0 {
			folder := f.Name[:len(l.o.Prefix)+i+len(d)]
			l.page.Objects = append(l.page.Objects, &driver.ListObject{Key: folder, IsDir: true})
			// No name has the byte 0xff: it is no UTF-8.
			l.behind = folder + "\xff"
			return engine.ErrStop
		}
	}
	l.page.Objects = append(l.page.Objects, &driver.ListObject{Key: f.Name, ModTime: f.Changed, Size: f.Size})
	return nil
}
