package dirbucket

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"gocloud.dev/blob/driver"
)

// Copy gives what a file holds a second name, in the place of another file: files are never
// changed, so that both can be the same one.
func (b *bucket) Copy(ctx context.Context, to, from string, o *driver.CopyOptions) error {
	if err := b.writable(to); err != nil {
		return err
	}
	if o.BeforeCopy != nil {
		if err := o.BeforeCopy(b.As); err != nil {
			return err
		}
	}
	info, err := b.regular(from)
	if err != nil {
		return err
	}
	sum, err := b.sum(from, info)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if sum != "" {
		if err := b.writeSum(to, info, sum); err != nil {
			return err
		}
	}
	old, statErr := b.root.Lstat(to)
	if err := b.link(from, to); err != nil {
		if sum != "" && (statErr != nil || !old.ModTime().Equal(info.ModTime())) {
			_ = b.root.Remove(sumName(to, info.ModTime())) // without its file it says nothing
		}
		return b.clash(to, err)
	}
	if statErr == nil && !old.ModTime().Equal(info.ModTime()) {
		_ = b.root.Remove(sumName(to, old.ModTime())) // without its file it says nothing
	}
	return b.syncDir(filepath.Dir(to))
}

// link gives a file a second name, which somebody else may have until then.
func (b *bucket) link(from, to string) error {
	if err := b.makeDirs(tmpDir); err != nil {
		return err
	}
	for try := 0; ; try++ {
		name := tmpDir + "/link-" + strconv.FormatInt(time.Now().UnixNano(), 36) + "-" + strconv.Itoa(os.Getpid()) + "-" + strconv.Itoa(try)
		err := b.root.Link(from, name)
		if errors.Is(err, fs.ErrExist) && try < attempts {
			continue
		} else if err != nil {
			return err
		}
		if err = b.makeDirs(filepath.Dir(to)); err == nil {
			err = b.root.Rename(name, to)
		}
		// Of two names of one file rename(2) leaves both.
		if gone := b.root.Remove(name); err == nil && !errors.Is(gone, fs.ErrNotExist) {
			err = gone
		}
		if errors.Is(err, fs.ErrNotExist) && try < attempts {
			if _, missing := b.root.Lstat(from); missing == nil {
				continue // a Delete has found the folder empty
			}
		}
		return err
	}
}
